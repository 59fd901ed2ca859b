//! Init run by hand.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::init;

/// What a shell or a script might call it with.
const CALLS: &[&[&str]] = &[&[], &["--help"], &["poweroff"], &["0"], &["-f", "reboot"]];

/// Issue 3, bad input: as a normal program init says one line on its error output, and exits with 1.
#[test]
fn says_one_line_and_exits() {
    for arguments in CALLS {
        let output = Command::new(init()).args(*arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(output.stdout, b"");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("kios: ") && said.ends_with('\n') && said.lines().count() == 1, "{said:?}");
    }
}

/// As above: it touches nothing. Its system calls are these four and no other.
#[test]
#[cfg(target_arch = "x86_64")]
fn makes_four_system_calls() {
    use nix::libc::{SYS_exit_group, SYS_getpid, SYS_prctl, SYS_write};
    let mut command = Command::new(init());
    command.arg("--help").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let pid = Pid::from_raw(i32::try_from(command.spawn().unwrap().id()).unwrap());
    // Stops once after execve, then before and after each system call.
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, Signal::SIGTRAP)));
    let mut calls = Vec::new();
    let mut entering = true;
    loop {
        ptrace::syscall(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Exited(_, status) => break assert_eq!(status, 1),
            WaitStatus::Stopped(..) if entering => calls.push(ptrace::getregs(pid).unwrap().orig_rax.cast_signed()),
            WaitStatus::Stopped(..) => {}
            other => panic!("{other:?}"),
        }
        entering = !entering;
    }
    assert_eq!(calls, [SYS_getpid, SYS_prctl, SYS_write, SYS_exit_group]);
}
