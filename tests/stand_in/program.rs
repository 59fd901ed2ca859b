//! What namespace tests run in place of containerd and kubelet, and what they are launched with.
//!
//! As a service it does what its configuration file says, one command a line, and then waits to be killed. As
//! `stand-in launch …` it makes the namespaces that a test's init is process 1 of.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../common/answer.rs"]
mod answer;
mod bus;
mod cri;
mod flood;
mod launch;

use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pause, setsid};

/// Grandchildren that one child leaves behind at a time.
const BATCH: usize = 100;

fn main() {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some("launch") {
        launch::launch(&arguments.collect::<Vec<_>>());
    }
    let script = std::fs::read_to_string("/proc/self/fd/5").expect("configuration at descriptor 5");
    let mut bus = bus::Bus::default();
    for line in script.lines() {
        let (command, value) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "ready" => notify("READY=1"),
            "ready-from-child" => in_child(|| notify("READY=1")),
            "exit" => std::process::exit(value.parse().expect("exit status")),
            "mark" => std::fs::write(value, "").expect("mark"),
            "wait" => wait_for(|| Path::new(value).exists()),
            "orphans" => orphans(value.parse().expect("number of orphans")),
            "crowd" => flood::crowd(value.parse().expect("number of children")),
            "flood-notify" => flood::notifications(value.parse().expect("number of senders")),
            "ignore-term" => ignore(Signal::SIGTERM),
            "ignore-abort" => ignore(Signal::SIGABRT),
            "alive-from-child" => leave_behind(|| notify("WATCHDOG=1")),
            "print" => println!("{value}"),
            "print-lines" => print_lines(value.parse().expect("number of lines")),
            "answer" => cri::answer(),
            "backlog" => cri::backlog(),
            "stubborn-child" => stubborn_child(),
            "memory-file" => memory_file(value.parse().expect("MiB")),
            "tmpfs" => tmpfs(value),
            "run" => assert!(Command::new(value).status().expect(value).success(), "{value}"),
            _ => assert!(bus.act(command), "unknown command {line}"),
        }
    }
    loop {
        pause();
    }
}

fn wait_for(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn notify_socket() -> UnixDatagram {
    let socket = UnixDatagram::unbound().expect("socket");
    socket.connect(std::env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET")).expect("connect to notify socket");
    socket
}

/// Sends a notification, and returns once init has read it.
fn notify(text: &str) {
    let socket = notify_socket();
    socket.send(text.as_bytes()).expect("notify");
    wait_for(|| {
        let mut unread: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one int (unix(7): bytes not yet read by the peer).
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
        Errno::result(result).expect("SIOCOUTQ");
        unread == 0
    });
}

/// A copy of this process; this program has one thread. The kernel may be out of process ids until init has reaped some.
fn fork_when_possible() -> ForkResult {
    loop {
        // SAFETY: no other thread holds a lock.
        match unsafe { fork() } {
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            result => return result.expect("fork"),
        }
    }
}

fn leave() -> ! {
    // SAFETY: ends the process without running what its parent registered.
    unsafe { libc::_exit(0) }
}

fn in_child(act: impl FnOnce()) {
    match fork_when_possible() {
        ForkResult::Child => {
            act();
            leave();
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("wait for child");
            assert_eq!(ended, WaitStatus::Exited(child, 0));
        }
    }
}

fn orphans(number: usize) {
    let mut left = number;
    while left > 0 {
        let batch = left.min(BATCH);
        left -= batch;
        in_child(|| {
            for _ in 0..batch {
                if matches!(fork_when_possible(), ForkResult::Child) {
                    leave();
                }
            }
        });
    }
}

fn ignore(number: Signal) {
    // SAFETY: installs no handler.
    unsafe { signal(number, SigHandler::SigIgn) }.expect("ignore signal");
}

/// Holds a file of that many MiB of memory, which the kernel then has to free before this process has ended.
fn memory_file(size: i64) {
    let file = memfd_create(c"held", MFdFlags::empty()).expect("memory file");
    posix_fallocate(&file, 0, size << 20).expect("memory");
    std::mem::forget(file);
}

/// Prints that many numbered lines of 64 bytes each.
fn print_lines(number: usize) {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in 1..=number {
        writeln!(output, "line {line:058}").expect("print");
    }
    output.flush().expect("print");
}

/// Mounts a file system of this namespace's own.
fn tmpfs(place: &str) {
    std::fs::create_dir_all(place).expect("make mount point");
    mount(Some("pod"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
}

/// Leaves a process behind that only SIGKILL ends.
fn stubborn_child() {
    leave_behind(|| {
        ignore(Signal::SIGTERM);
        pause();
    });
}

/// Leaves a process behind that does the same over and over.
fn leave_behind(act: impl Fn()) {
    in_child(|| {
        if matches!(fork_when_possible(), ForkResult::Child) {
            setsid().expect("setsid");
            loop {
                act();
            }
        }
    });
}

/// Says what failed and ends.
fn fail(what: &str, error: impl std::fmt::Display) -> ! {
    eprintln!("stand-in: {what}: {error}");
    std::process::exit(1)
}

/// Writes an existing file.
fn put(path: &str, text: &str) {
    match std::fs::write(path, text) {
        Err(error) if error.kind() == ErrorKind::NotFound => fail(path, "is missing"),
        Err(error) => fail(path, error),
        Ok(()) => {}
    }
}
