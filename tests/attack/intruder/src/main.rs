//! What the pod `shell` attacks the node with where a shell does not do: a line for each thing that is tried.
//!
//!     intruder into PID       each way into process PID
//!     intruder walk PID       asks the kernel for the mount namespaces after and before that of process PID
//!     intruder bare PID       enters its mount namespace, and detaches the root there with all that is mounted on it
//!     intruder beneath PID    lists what is beneath the root of its mount namespace
//!     intruder attributes PID enters its mount namespace, makes all of it shared, and changes it (mount_setattr)
//!     intruder graft PID      enters its mount namespace, and moves a copy of the tree at /run over /etc/kios
//!     intruder bequeath PID   changes what children of process PID inherit: limits, schedule, processors
//!     intruder kernel MODULE  ways to change the running kernel; MODULE is one that it would take
//!     intruder forge SOCKET PID TEXT  sends a datagram that claims to come from process PID
//!     intruder call SOCKET    says hello to a D-Bus
//!     intruder ask-key        has the kernel start /sbin/request-key
//!     intruder bridge NAME    has the kernel start /sbin/bridge-stp
//!     intruder tables NAME DEVICE  gives a mapping of the device mapper's another table, of the same device, and removes it
//!     intruder rename NAME TO gives it another name
//!     intruder suspend NAME   lets nothing through it
//!     intruder resume NAME    lets it go on
//!     intruder write DEVICE   writes its first block
//!     intruder entry FILE     the offset of a program's first instruction
//!     intruder image PID SECONDS  hears of what is used beneath the root of its mount namespace, to write it
//!     intruder hear PATH SECONDS  the same of the file system at a path
//!     intruder squat SOCKET MARK SECONDS  hears in a service's place; what it hears goes to MARK
//!     intruder refuse SECONDS PATH...  refuses to children of init what they open and execute, by fanotify
//!     intruder veto HOOK SECONDS  a BPF program at a hook of the LSM's refuses all to children of init
//!     intruder observe        a BPF program tells which processes make system calls
//!
//! By another name it leaves a mark: it was started as another program.
//!
//! A line is `NAME: held ERRNO`, or `NAME: open`, or `NAME: broken …` where it could not be tried.

mod bequeath;
mod bpf;
mod fanotify;
mod into;
mod kernel;
mod mapper;
mod namespace;
mod sockets;

use std::path::Path;
use std::time::Duration;
use std::{env, fs, process};

use nix::errno::Errno;
use nix::unistd::Pid;

fn main() {
    let mut arguments = env::args();
    let name = arguments.next().unwrap_or_default();
    if !name.ends_with("intruder") {
        mark(&name);
    }
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["into", pid] => into::all(process_of(pid)),
        ["walk", pid] => namespace::walk(process_of(pid)),
        ["bare", pid] => namespace::bare(process_of(pid)),
        ["beneath", pid] => namespace::show_beneath(process_of(pid)),
        ["attributes", pid] => namespace::attributes(process_of(pid)),
        ["graft", pid] => namespace::graft(process_of(pid)),
        ["bequeath", pid] => bequeath::all(process_of(pid)),
        ["kernel", module] => kernel::all(module),
        ["forge", socket, pid, text] => sockets::forge(socket, process_of(pid), text),
        ["call", socket] => sockets::call(socket),
        ["ask-key"] => kernel::ask_key(),
        ["bridge", name] => kernel::bridge(name),
        ["tables", name, device] => mapper::tables(name, device),
        ["rename", name, to] => mapper::rename(name, to),
        ["suspend", name] => mapper::suspend(name, true),
        ["resume", name] => mapper::suspend(name, false),
        ["write", device] => mapper::write(device),
        ["entry", file] => kernel::entry(file),
        ["image", pid, seconds] => fanotify::image(process_of(pid), duration_of(seconds)),
        ["hear", path, seconds] => fanotify::hear(Path::new(path), duration_of(seconds)),
        ["squat", socket, mark, seconds] => sockets::squat(socket, mark, duration_of(seconds)),
        ["refuse", seconds, ref paths @ ..] => fanotify::refuse(duration_of(seconds), paths),
        ["veto", hook, seconds] => bpf::veto(hook, duration_of(seconds)),
        ["observe"] => bpf::observe(),
        _ => process::exit(2),
    };
    if let Err(errno) = done {
        eprintln!("{arguments:?}: {errno}");
        process::exit(1);
    }
}

/// Run in the place of another program: leaves a mark.
fn mark(name: &str) -> ! {
    let marked = fs::write("/run/intruder/mark", format!("{name}'s place"));
    process::exit(i32::from(marked.is_err()));
}

fn process_of(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a process"))
}

fn duration_of(text: &str) -> Duration {
    Duration::from_secs(text.parse().expect("seconds"))
}

/// Says what became of a way. What the kernel refuses on purpose is held; whatever else fails is the way's own mistake.
fn say<T>(name: &str, result: nix::Result<T>) {
    say_of(name, &[Errno::EPERM, Errno::EACCES], result);
}

/// As [`say`], for a way that is refused otherwise.
fn say_of<T>(name: &str, refusals: &[Errno], result: nix::Result<T>) {
    match result {
        Ok(_) => println!("{name}: open"),
        Err(errno) if refusals.contains(&errno) => println!("{name}: held {errno:?}"),
        Err(errno) => println!("{name}: broken {errno:?}"),
    }
}

/// An error of std's as the errno in it.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
