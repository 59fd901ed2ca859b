//! What the pod `shell` uses to bring about what does not end: file systems that do not answer, processes that cannot be
//! killed.
//!
//!     stuck fuse DIR    mounts a file system on DIR; answers its first request, and stops at the next one
//!     stuck self DIR    the same, but what it does not answer is its own request: it cannot be killed
//!     stuck bomb N      N processes that ignore SIGTERM, and replace each other

use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Write};
use std::os::fd::AsRawFd;
use std::{env, io, process, thread};

const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const SIGSTOP: c_int = 19;
const SIG_IGN: *const c_void = 1 as *const c_void;
const FUSE_INIT: u32 = 26;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn signal(number: c_int, handler: *const c_void) -> *const c_void;
    fn raise(number: c_int) -> c_int;
    fn fork() -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, what, argument] = &arguments[..] else { process::exit(2) };
    match what.as_str() {
        "fuse" => serve(argument, false).expect("serving"),
        "self" => serve(argument, true).expect("serving"),
        "bomb" => bomb(argument.parse().expect("a number")),
        _ => process::exit(2),
    }
}

/// Says a line on the node's console, as an error of the kernel's.
fn say(text: &str) {
    let _ = OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut log| log.write_all(format!("<3>stuck: {text}\n").as_bytes()));
}

fn answer(value: c_int) -> io::Result<c_int> {
    if value < 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Serves a FUSE file system (linux/fuse.h) as far as it goes.
fn serve(directory: &str, own: bool) -> io::Result<()> {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let (target, options) = (CString::new(directory)?, CString::new(options)?);
    // SAFETY: all are C strings.
    answer(unsafe { mount(c"stuck".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast()) })?;
    let mut request = vec![0; 1 << 17];
    loop {
        let length = device.read(&mut request)?;
        // struct fuse_in_header: len, opcode, unique (8), nodeid (8), uid, gid, pid, …
        let (opcode, body) = (word(&request, 4), &request[40..length]);
        if opcode != FUSE_INIT {
            say(&format!("request {opcode} of process {}", word(&request, 32)));
            break;
        }
        // struct fuse_out_header: len, error, unique; struct fuse_init_out: major, minor, and 56 bytes more.
        let mut reply = vec![0; 16 + 64];
        reply[0..4].copy_from_slice(&80u32.to_le_bytes());
        reply[8..16].copy_from_slice(&request[8..16]);
        reply[16..20].copy_from_slice(&body[0..4]);
        reply[20..24].copy_from_slice(&body[4..8]);
        // max_write.
        reply[36..40].copy_from_slice(&4096u32.to_le_bytes());
        device.write_all(&reply)?;
        if own {
            let path = format!("{directory}/file");
            thread::spawn(move || File::open(path));
        }
    }
    if own {
        // Lives, and does not answer.
        loop {
            thread::park();
        }
    }
    // SAFETY: nothing is passed but a number.
    unsafe { raise(SIGSTOP) };
    Ok(())
}

/// Forks until there are `count` processes of it, each of which is replaced by another all the time.
fn bomb(count: u32) {
    // SAFETY: the dispositions are inherited; no other thread runs.
    unsafe {
        signal(SIGTERM, SIG_IGN);
        signal(SIGCHLD, SIG_IGN);
        for _ in 0..count {
            if fork() == 0 {
                // Each is its own chain.
                loop {
                    match fork() {
                        0 => continue,
                        -1 => syscall(24),
                        _ => process::exit(0),
                    };
                }
            }
        }
    }
    say(&format!("{count} processes"));
    loop {
        thread::park();
    }
}
