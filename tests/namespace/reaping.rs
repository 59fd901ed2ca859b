//! Orphans.

use std::time::Instant;

use kios_init::plan;
use nix::unistd::Pid;

use crate::common::machine::Machine;
use crate::common::setup::Setup;
use crate::common::{SOON, wait_for};

/// Issue 3: resident memory of init, in KiB.
const RESIDENT_MAX: u64 = 128;
/// Issue 11: of that, what is no file's.
const ANONYMOUS_MAX: u64 = 40;

/// Init's children: the services, with a drain each of what they print, and the logs' writer.
const CHILDREN: usize = 2 * plan::SERVICES.len() + 1;

/// Waits until init has no other children; then its resident memory and number of descriptors.
fn settled(machine: &Machine) -> (u64, usize) {
    wait_for("all orphans reaped", || (machine.init.children().len() == CHILDREN).then_some(()));
    assert!(machine.init.children().iter().all(|child| child.stat(3).as_deref() != Some("Z")));
    (machine.init.resident(), machine.init.descriptors().len())
}

/// Design §2 and §4: every orphan is reaped, and nothing grows by it.
#[test]
fn a_hundred_thousand_orphans_leave_nothing_behind() {
    // Each thousand has its time to be made: a slow machine is no failure.
    let parts: Vec<_> = (2..=100).map(|part| format!("/run/{part}000")).collect();
    let rest: String = parts.iter().map(|part| format!("\norphans 1000\nmark {part}")).collect();
    let orphans = format!("orphans 1000\nmark /run/1000\nwait /run/go{rest}");
    let machine = Setup::new("ready", &format!("ready\n{orphans}")).boot();
    machine.marked("/run/1000");
    let first = settled(&machine);
    let began = Instant::now();
    machine.go("/run/go");
    parts.iter().for_each(|part| machine.marked(part));
    let last = settled(&machine);
    println!("99,000 orphans in {:?}, of which init ran {} ticks", began.elapsed(), machine.init.cpu_ticks());
    println!("(RSS KiB, descriptors) after 1,000: {first:?}, after 100,000: {last:?}");
    assert_eq!(first, last);
    assert!(last.0 <= RESIDENT_MAX, "{} KiB", last.0);
    let anonymous = machine.init.anonymous();
    println!("anonymous: {anonymous} KiB");
    assert!(anonymous <= ANONYMOUS_MAX, "{anonymous} KiB");
    assert!(!machine.log.begins("kubelet (pid") && !machine.log.begins("containerd (pid"));
}

/// The numbers of the system calls that process `pid` enters, from its next one on, until what is begun is over and it waits in
/// one for a while.
#[cfg(target_arch = "x86_64")]
fn calls(pid: Pid, begin: impl FnOnce(), is_over: impl Fn() -> bool) -> Vec<u32> {
    use nix::sys::ptrace;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use std::time::Duration;
    const QUIET: Duration = Duration::from_secs(1);
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let interrupt = || ptrace::interrupt(pid).and_then(|()| waitpid(pid, None)).unwrap();
    interrupt();
    ptrace::syscall(pid, None).unwrap();
    begin();
    let began = Instant::now();
    let (mut calls, mut entering, mut last) = (Vec::new(), true, Instant::now());
    while last.elapsed() < QUIET || entering || !is_over() {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {calls:?}");
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(1)),
            WaitStatus::PtraceSyscall(_) => {
                if entering {
                    calls.push(u32::try_from(ptrace::getregs(pid).unwrap().orig_rax).unwrap());
                }
                (entering, last) = (!entering, Instant::now());
                ptrace::syscall(pid, None).unwrap();
            }
            status => panic!("{status:?}"),
        }
    }
    interrupt();
    ptrace::detach(pid, None).unwrap();
    calls
}

/// What an orphan costs, with the one that the loop is interrupted in by this.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_lone_orphan_costs_four_system_calls() {
    use linux_raw_sys::general::{__NR_epoll_pwait, __NR_read, __NR_wait4};
    let machine = Setup::new("ready", "ready\nwait /run/go\norphans 1\nmark /run/1").boot();
    machine.log.expect("kubelet ready");
    settled(&machine);
    let is_over = || machine.init.sees("/run/1").exists();
    let calls = calls(Pid::from_raw(machine.init.0), || machine.go("/run/go"), is_over);
    assert_eq!(calls, [__NR_epoll_pwait, __NR_read, __NR_wait4, __NR_wait4, __NR_epoll_pwait]);
}

/// Orphans that all come at once cost hardly more than a call each: those that their parent left dead, not reaped, do.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_dead_crowd_costs_a_system_call_each() {
    const CROWD: usize = 512;
    let script = format!("ready\nwait /run/begin\ncrowd {CROWD}\nmark /run/1");
    let machine = Setup::new("ready", &script).boot();
    machine.log.expect("kubelet ready");
    settled(&machine);
    machine.go("/run/begin");
    machine.marked("/run/crowd");
    let is_over = || machine.init.sees("/run/1").exists();
    let calls = calls(Pid::from_raw(machine.init.0), || machine.go("/run/go"), is_over).len();
    settled(&machine);
    println!("{calls} system calls for {CROWD}");
    assert!((CROWD..=CROWD + CROWD / 50).contains(&calls), "{calls}");
}
