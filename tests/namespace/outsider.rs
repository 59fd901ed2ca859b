//! Init run by hand, and by the kernel.

use std::fs;
use std::io::{ErrorKind, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, chdir, setgroups, setresgid, setresuid};

use crate::common::init;
use crate::common::setup::Setup;
use crate::stop::assert_in_order;

/// A user who may signal nobody's process 1.
const NOBODY: u32 = 65_534;

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

/// Design §6: as poweroff and reboot init asks process 1 for that, and has nothing to say.
#[test]
fn asks_for_the_end_it_is_named_after() {
    for (name, asked, end) in [("poweroff", "power-off", Signal::SIGINT), ("reboot", "reboot", Signal::SIGHUP)] {
        let path = format!("/kernel/{name}");
        // The stand-in goes on once it exited with 0.
        let script = format!("inhibit\nready\nrun {path}\ntold\nmark /run/told\nrelease");
        let mut machine = Setup::new("ready", &script).with_init_as(&path).boot().ready();
        machine.log.expect(&format!("stopping for {asked}"));
        let ended = machine.end();
        let lines = machine.log.end();
        assert_in_order(&lines, &[&format!("stopping for {asked}"), "pods ", "stopped kubelet ", "unmount ", asked]);
        assert_eq!(ended, end, "{name}");
        assert!(!lines.iter().any(|line| line.text.starts_with("kubelet (pid")), "{lines:?}");
    }
}

/// As above: who may not, is told so in one line, and by any other name it asks for nothing.
#[test]
fn asks_for_nothing_without_the_right_or_the_name() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kios-names-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (no_right, no_name) =
        ("kios: process 1 takes no signal from you\n", "kios: init does nothing unless it is process 1\n");
    let names = [
        ("poweroff", no_right),
        ("reboot", no_right),
        ("init", no_name),
        ("halt", no_name),
        ("shutdown", no_name),
        ("Poweroff", no_name),
        ("power", no_name),
        ("reboots", no_name),
        ("reboot-now", no_name),
        ("xreboot", no_name),
    ];
    for (name, wanted) in names {
        fs::copy(init(), directory.join(name)).unwrap();
        let output = apart(|| as_nobody(&directory, name)).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(
            (&output.stdout[..], String::from_utf8(output.stderr).unwrap()),
            (&b""[..], wanted.into()),
            "{name}"
        );
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// Does what starts processes in a new namespace of process ids, whose process 1 is a harmless one: the machine's own is
/// out of reach.
fn apart<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWPID).expect("a namespace of process ids");
        // Ends with its input.
        let mut first = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("process 1");
        let result = act();
        drop(first.stdin.take());
        first.wait().expect("end of process 1");
        result
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("apart"))
}

/// Runs `name` of a directory, whichever directories above it are open to nobody.
fn as_nobody(directory: &Path, name: &str) -> Result<Output> {
    let mut command = Command::new(format!("./{name}"));
    command.env_clear().stdin(Stdio::null());
    let directory = directory.to_owned();
    let become_nobody = move || {
        chdir(&directory)?;
        setgroups(&[])?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        // Not a step further with the right to signal process 1.
        match kill(Pid::from_raw(1), None) {
            Err(Errno::EPERM) => {}
            _ => return Err(ErrorKind::Other.into()),
        }
        Ok(())
    };
    // SAFETY: system calls alone between fork and exec.
    unsafe { command.pre_exec(become_nobody) };
    command.output()
}
