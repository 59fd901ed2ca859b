//! Machines without a console, with one, and with one that nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, chown};

use kios_init::plan::{CONTAINERD, KUBELET};
use nix::libc::O_NONBLOCK;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::{FlowArg, tcflow};
use nix::unistd::{mkfifo, ttyname};

use crate::common::layout::OWNER;
use crate::common::machine::Machine;
use crate::common::setup::Setup;
use crate::common::wait_for;

/// Design §2: a missing console degrades the machine, which says so where it can and goes on.
#[test]
fn goes_on_without_a_console() {
    let machine = Setup::new("ready", "ready").boot().ready();
    assert_eq!(machine.log.expect("/dev/console").text, "/dev/console: ENOENT (degraded)");
}

/// Design §1: init's lines go to the console and to the kernel's log, and to nothing it inherited; and no service gets
/// hold of either.
#[test]
fn lines_go_to_the_console_and_the_kernel_log() {
    let setup = Setup::new("ready\nmark /run/1", "ready\nmark /run/2");
    let [console, log] = ["console.txt", "kmsg.txt"].map(|name| setup.path(name));
    for file in [&console, &log] {
        fs::write(file, "").unwrap();
        chown(file, Some(OWNER), Some(OWNER)).unwrap();
    }
    let machine = setup.device(&console, "/dev/console").device(&log, "/dev/kmsg").boot();
    machine.marked("/run/1");
    machine.marked("/run/2");
    let read = |file| fs::read_to_string(file).unwrap();
    wait_for("last line", || (read(&log).contains("kubelet ready") && read(&log).contains("late mod")).then_some(()));
    assert!(read(&console).lines().all(|line| line.starts_with("kios: [")), "{}", read(&console));
    // daemon.notice, as the plan says.
    // Of two that write, each in its order, the child that loads modules may be first in one and second in the other.
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(read(&log).replace("<29>kios: [", "kios: [")), sorted(read(&console)));
    assert_eq!(read(&log).matches("<29>").count(), read(&console).lines().count());
    assert_eq!(machine.log.lines(), []);
    for index in [CONTAINERD, KUBELET] {
        let open = machine.service(index).unwrap().descriptors();
        assert!(open.keys().eq(&[0, 1, 2, 5]), "{open:?}");
    }
}

/// Both services start and the machine ends in time, whatever its console does.
fn lives_and_ends(mut machine: Machine) {
    let kubelet = wait_for("kubelet", || machine.service(KUBELET));
    wait_for("containerd", || machine.service(CONTAINERD));
    wait_for("kubelet's start", || kubelet.sees("/run/kubelet-up").exists().then_some(()));
    machine.signal(Signal::SIGTERM as i32);
    assert_eq!(machine.end(), Signal::SIGINT);
}

/// Design §2, PID 1 never blocks: a console stopped by its reader (XOFF) loses lines and holds nothing.
#[test]
fn a_stopped_terminal_does_not_hold_init() {
    let pty = openpty(None, None).unwrap();
    tcflow(&pty.slave, FlowArg::TCOOFF).unwrap();
    let slave = ttyname(&pty.slave).unwrap();
    chown(&slave, Some(OWNER), Some(OWNER)).unwrap();
    lives_and_ends(Setup::new("ready", "ready\nmark /run/kubelet-up").device(&slave, "/dev/console").boot());
}

/// As above, for a console that is full.
#[test]
fn a_full_pipe_does_not_hold_init() {
    let setup = Setup::new("ready", "ready\nmark /run/kubelet-up");
    let fifo = setup.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    chown(&fifo, Some(OWNER), Some(OWNER)).unwrap();
    let mut filler: File = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(&fifo).unwrap();
    while filler.write(&[b'x'; 4096]).is_ok() {}
    lives_and_ends(setup.device(&fifo, "/dev/console").boot());
    assert!(filler.as_raw_fd() > 2, "the reader was there all the time");
}
