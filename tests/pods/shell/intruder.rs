//! What the pod `shell` uses against the node where a shell does not do: each way into another process, one line each.
//!
//!     intruder into PID       tries each way into process PID
//!     intruder walk PID       asks the kernel for the mount namespaces after and before that of process PID
//!     intruder bare PID       enters its mount namespace, and detaches the root there with all that is mounted on it
//!     intruder floor PID      enters its mount namespace, and shows what its root is
//!
//! A line is `NAME: held ERRNO`, or `NAME: open`, or `NAME: broken …` where the way could not be tried.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::io::{Error, Read};
use std::os::fd::AsRawFd;
use std::{env, fs, io, process};

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const CLONE_NEWNS: c_int = 0x2_0000;
const CLONE_FS: c_int = 0x200;
const MNT_DETACH: c_int = 2;
const SYS_IOCTL: c_long = 16;
const SYS_PIDFD_OPEN: c_long = 434;
const SYS_PIDFD_GETFD: c_long = 438;
const SYS_PROCESS_VM_READV: c_long = 310;
const SYS_PROCESS_MADVISE: c_long = 440;
const SYS_KCMP: c_long = 312;
const PTRACE_ATTACH: c_long = 16;
const PTRACE_SEIZE: c_long = 0x4206;
const PTRACE_DETACH: c_long = 17;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn ptrace(request: c_long, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
    fn setns(descriptor: c_int, kind: c_int) -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, what, pid] = &arguments[..] else { process::exit(2) };
    let pid: i32 = pid.parse().expect("a process");
    match what.as_str() {
        "into" => into(pid),
        "walk" => walk(pid).expect("opening the namespace"),
        "bare" => bare(pid).expect("detaching the root"),
        "floor" => floor(pid).expect("listing the root"),
        _ => process::exit(2),
    }
}

fn say(name: &str, result: io::Result<()>) {
    match result.map_err(|error| (error.raw_os_error(), error)) {
        Ok(()) => println!("{name}: open"),
        Err((Some(EPERM), _)) => println!("{name}: held EPERM"),
        Err((Some(EACCES), _)) => println!("{name}: held EACCES"),
        Err((_, error)) => println!("{name}: broken {error}"),
    }
}

fn answer(value: c_long) -> io::Result<c_long> {
    if value < 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

/// Reads the first entry of a directory: opening one may be free.
fn first(directory: &str) -> io::Result<()> {
    fs::read_dir(directory)?.next().ok_or(io::ErrorKind::NotFound)?.map(drop)
}

fn into(pid: i32) {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    for name in ["environ", "maps", "auxv", "stack", "syscall", "io", "smaps", "pagemap", "personality"] {
        say(name, fs::File::open(path(name)).and_then(|mut file| file.read(&mut [0; 8]).map(drop)));
    }
    for name in ["root", "cwd", "exe", "fd/0", "ns/mnt", "ns/pid"] {
        say(name, fs::read_link(path(name)).map(drop));
    }
    // Root may list the numbers of descriptors; what they lead to is another matter.
    say("fd/0 bytes", fs::File::open(path("fd/0")).map(drop));
    say("fdinfo", first(&path("fdinfo")));
    say("map_files", first(&path("map_files")));
    say("root/", first(&path("root/")));
    say("exe bytes", fs::File::open(path("exe")).map(drop));
    say("mem for reading", fs::File::open(path("mem")).map(drop));
    say("mem for writing", fs::OpenOptions::new().write(true).open(path("mem")).map(drop));
    say("ns/mnt for setns", fs::File::open(path("ns/mnt")).map(drop));
    let mut byte = [0u8; 8];
    let own = [byte.as_mut_ptr() as usize, 1];
    // An address of the process does not matter: access is checked before it is looked at.
    let other = [0x40_0000usize, 1];
    // SAFETY: each call is given live memory of ours, or an address that is only the other process's.
    unsafe {
        let read = syscall(SYS_PROCESS_VM_READV, pid, own.as_ptr(), 1usize, other.as_ptr(), 1usize, 0usize);
        let read = answer(read).map(drop);
        say(
            "process_vm_readv",
            read.or_else(|error| if error.raw_os_error() == Some(14) { Ok(()) } else { Err(error) }),
        );
        let pidfd = answer(syscall(SYS_PIDFD_OPEN, pid, 0)).expect("pidfd_open");
        say("pidfd_getfd", answer(syscall(SYS_PIDFD_GETFD, pidfd, 0, 0)).map(drop));
        let range = [0x40_0000usize, 0x1000];
        say("process_madvise", answer(syscall(SYS_PROCESS_MADVISE, pidfd, range.as_ptr(), 1usize, 20, 0)).map(drop));
        say("kcmp", answer(syscall(SYS_KCMP, process::id(), pid, 0, 0, 0)).map(drop));
        for (name, request) in [("ptrace attach", PTRACE_ATTACH), ("ptrace seize", PTRACE_SEIZE)] {
            let attached = answer(ptrace(request, pid, std::ptr::null_mut(), std::ptr::null_mut()));
            if attached.is_ok() && request == PTRACE_ATTACH {
                waitpid(pid, std::ptr::null_mut(), 0x4000_0000);
                ptrace(PTRACE_DETACH, pid, std::ptr::null_mut(), std::ptr::null_mut());
            }
            say(name, attached.map(drop));
        }
        // Last: it changes this process.
        unshare(CLONE_FS);
        say("pidfd setns", answer(setns(pidfd as c_int, CLONE_NEWNS).into()).map(drop));
    }
}

/// Enters the mount namespace of process `pid`.
fn enter(pid: i32) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    // SAFETY: no memory is passed.
    unsafe {
        answer(unshare(CLONE_FS).into())?;
        answer(setns(namespace.as_raw_fd(), CLONE_NEWNS).into()).map(drop)
    }
}

fn walk(pid: i32) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    // NS_MNT_GET_NEXT and NS_MNT_GET_PREV, with the 16 bytes of struct mnt_ns_info (linux/nsfs.h).
    // Linux 6.12 takes them of any type, and longer ones.
    let requests = [
        ("next", 0x8010_b70bu64),
        ("previous", 0x8010_b70c),
        ("next by number", 0x8010_000b),
        ("previous by number", 0x8020_640c),
    ];
    for (name, request) in requests {
        let mut info = [0u64; 4];
        // SAFETY: the kernel writes as many bytes as the request says at most, which `info` has.
        let result = unsafe { answer(syscall(SYS_IOCTL, namespace.as_raw_fd(), request, info.as_mut_ptr())) };
        say(name, result.map(drop));
    }
    Ok(())
}

fn bare(pid: i32) -> io::Result<()> {
    enter(pid)?;
    // SAFETY: the path is a C string.
    unsafe { answer(umount2(c"/".as_ptr(), MNT_DETACH).into()).map(drop) }
}

/// Prints what is in the root, and whether that can be written.
fn floor(pid: i32) -> io::Result<()> {
    enter(pid)?;
    list("/", 0)?;
    say("write", fs::write("/planted", "x"));
    Ok(())
}

fn list(directory: &str, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{}/{}", directory.trim_end_matches('/'), entry.file_name().to_string_lossy());
        println!("{path} {}", entry.metadata()?.len());
        if entry.file_type()?.is_dir() && depth < 3 {
            list(&path, depth + 1)?;
        }
    }
    Ok(())
}
