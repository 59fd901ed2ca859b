//! BPF programs, loaded by bpf(2) itself.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use nix::errno::Errno;
use nix::libc;

use crate::{errno, say};

const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_PROG_LOAD: i32 = 5;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const KPROBE: u32 = 2;
const RAW_TRACEPOINT: u32 = 17;
const TRACING: u32 = 26;
const MODIFY_RETURN: u32 = 26;
const LSM: u32 = 29;
const LSM_MAC: u32 = 27;

/// One instruction: code, registers (destination, then source in the high half), offset, value (linux/bpf.h).
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (destination as u64) << 8
        | (source as u64) << 12
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}

const CALL: u8 = 0x85;
const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

fn load(kind: u32, attach: u32, function: u32, instructions: &[u64]) -> nix::Result<OwnedFd> {
    // union bpf_attr as of linux/bpf.h: prog_type, insn_cnt, insns, license, … expected_attach_type at 68,
    // attach_btf_id at 108.
    let mut attributes = [0u8; 120];
    let mut put = |at: usize, bytes: &[u8]| attributes[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &kind.to_ne_bytes());
    put(4, &(instructions.len() as u32).to_ne_bytes());
    put(8, &(instructions.as_ptr() as u64).to_ne_bytes());
    put(16, &(c"GPL".as_ptr() as u64).to_ne_bytes());
    put(68, &attach.to_ne_bytes());
    put(108, &function.to_ne_bytes());
    call(BPF_PROG_LOAD, &attributes).map(own)
}

/// bpf(2).
fn call<T>(command: i32, attributes: &[T]) -> nix::Result<i32> {
    // SAFETY: the kernel reads as many bytes as it is told of; what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    Errno::result(result).map(|result| result as i32)
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the descriptor is a new one, of bpf(2).
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A program that may write to any process's memory (bpf_probe_write_user).
pub fn writer() -> nix::Result<()> {
    let instructions = [
        // *(u64 *)(r10 - 8) = 0; r1 = 0; r2 = r10 - 8; r3 = 8
        instruction(0x7a, 10, 0, -8, 0),
        instruction(0xb7, 1, 0, 0, 0),
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -8),
        instruction(0xb7, 3, 0, 0, 8),
        instruction(CALL, 0, 0, 0, 36),
        instruction(0xb7, 0, 0, 0, 0),
        EXIT,
    ];
    load(KPROBE, 0, 0, &instructions).map(drop)
}

/// The same, once a program at security_locked_down has it answer 1, which is no error and not 0 either.
pub fn unlocked_writer() -> nix::Result<()> {
    let instructions = [instruction(0xb7, 0, 0, 0, 1), EXIT];
    let program = load(TRACING, MODIFY_RETURN, function("security_locked_down")?, &instructions)?;
    let _link = attach(None, &program)?;
    writer()
}

/// For a time, refuses what an LSM's hook is asked to processes named `init` but process 1: its children before they are what
/// they are to be, and one of this program's.
pub fn veto(hook: &str, time: Duration) -> nix::Result<()> {
    let instructions = [
        // r0 = pid_tgid >> 32; if r0 == 1 goto out
        instruction(CALL, 0, 0, 0, 14),
        instruction(0x77, 0, 0, 0, 32),
        instruction(0x15, 0, 0, 9, 1),
        // get_current_comm(r10 - 16, 16)
        instruction(0xbf, 1, 10, 0, 0),
        instruction(0x07, 1, 0, 0, -16),
        instruction(0xb7, 2, 0, 0, 16),
        instruction(CALL, 0, 0, 0, 16),
        // if *(u64 *)(r10 - 16) != "init" goto out
        instruction(0x79, 1, 10, -16, 0),
        instruction(0xb7, 2, 0, 0, i32::from_le_bytes(*b"init")),
        instruction(0x5d, 1, 2, 2, 0),
        instruction(0xb7, 0, 0, 0, -libc::EPERM),
        EXIT,
        instruction(0xb7, 0, 0, 0, 0),
        EXIT,
    ];
    let program = load(LSM, LSM_MAC, function(&format!("bpf_lsm_{hook}"))?, &instructions)?;
    let _link = attach(None, &program)?;
    // The control: this process by that name is refused what it may do by its own.
    let act = || match hook {
        "cred_prepare" => nix::unistd::setuid(nix::unistd::getuid()).is_ok(),
        _ => Command::new("/bin/busybox").arg("true").status().is_ok(),
    };
    let name = |name| fs::write("/proc/self/comm", name).map_err(|error| errno(&error));
    let free = act();
    name("init")?;
    let refused = !act();
    name("intruder")?;
    say("veto", if free && refused { Ok(()) } else { Err(Errno::ENOTSUP) });
    thread::sleep(time);
    Ok(())
}

/// Attaches a program: to the raw tracepoint of a name, or where it says itself.
fn attach(tracepoint: Option<&CStr>, program: &OwnedFd) -> nix::Result<OwnedFd> {
    let name = tracepoint.map_or(0, |name| name.as_ptr() as u64);
    call(BPF_RAW_TRACEPOINT_OPEN, &[name, program.as_raw_fd() as u64]).map(own)
}

/// What tools for eBPF do: a program at each system call notes whose it is, by kernel process id.
pub fn observe() -> nix::Result<()> {
    // An array of one number of 8 bytes.
    let map = call(BPF_MAP_CREATE, &[4u64 << 32 | 2, 1 << 32 | 8]).map(own)?;
    let instructions = [
        // *(u64 *)(r10 - 8) = pid_tgid; *(u32 *)(r10 - 12) = 0
        instruction(CALL, 0, 0, 0, 14),
        instruction(0x7b, 10, 0, -8, 0),
        instruction(0x62, 10, 0, -12, 0),
        // map_update_elem(map, r10 - 12, r10 - 8, 0)
        instruction(0x18, 1, 1, 0, map.as_raw_fd()),
        0,
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -12),
        instruction(0xbf, 3, 10, 0, 0),
        instruction(0x07, 3, 0, 0, -8),
        instruction(0xb7, 4, 0, 0, 0),
        instruction(CALL, 0, 0, 0, 2),
        instruction(0xb7, 0, 0, 0, 0),
        EXIT,
    ];
    let program = load(RAW_TRACEPOINT, 0, 0, &instructions)?;
    let _link = attach(Some(c"sys_enter"), &program)?;
    let (key, mut seen) = (0u32, 0u64);
    let attributes = [map.as_raw_fd() as u64, &raw const key as u64, &raw mut seen as u64];
    call(BPF_MAP_LOOKUP_ELEM, &attributes)?;
    // The lookup itself was the last call on this processor at least.
    say("observe", if seen >> 32 != 0 { Ok(()) } else { Err(Errno::ENODATA) });
    Ok(())
}

/// The number of a kernel function in its types (Documentation/bpf/btf.rst).
fn function(name: &str) -> nix::Result<u32> {
    let bytes = fs::read("/sys/kernel/btf/vmlinux").map_err(|error| errno(&error))?;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let header = word(4) as usize;
    let (mut at, strings) = (header + word(8) as usize, header + word(16) as usize);
    let end = at + word(12) as usize;
    let mut number = 1;
    while at < end {
        let (name_at, info) = (strings + word(at) as usize, word(at + 4));
        let (kind, length) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == 12 && bytes[name_at..].starts_with(name.as_bytes()) && bytes[name_at + name.len()] == 0 {
            return Ok(number);
        }
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * length,
                6 | 13 => 8 * length,
                _ => 0,
            };
        number += 1;
    }
    Err(Errno::ENOENT)
}
