//! More of everything than init ever has to do: it keeps its loop, and does what it is there for in time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kios_init::plan::{CONTAINERD, KUBELET};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::machine::{Machine, now};
use crate::common::process::Process;
use crate::common::setup::Setup;
use crate::common::wait_for;
use crate::stop::{assert_all_ended, assert_in_order, end};

/// Ended children that init gets at one moment.
const CROWD: usize = 100_000;
/// What the kernel keeps of an ended process, in bytes, and then some.
const ENDED_BYTES: usize = 32 << 10;
/// Processes of others on the test machine.
const OTHERS: usize = 2_000;
/// A limit of the kernel's on all process ids, and what a node has it at.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
const PID_MAX_OF_NODE: usize = 4_194_304;
/// Signals a second.
const RATE: f64 = 10_000.0;
/// How long they come before anything else happens.
const FLOOD: Duration = Duration::from_secs(3);
/// Milliseconds in which init must have noticed something, whatever else it has to do.
const NOTICED: u64 = 2_000;

/// One of these tests at a time: each takes all the processors there are.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's limit on process ids, raised for as long as this lives.
struct PidMax(String);

impl PidMax {
    fn raise() -> PidMax {
        let before = fs::read_to_string(PID_MAX).unwrap();
        if before.trim().parse::<usize>().unwrap() < PID_MAX_OF_NODE {
            let raised = fs::write(PID_MAX, PID_MAX_OF_NODE.to_string());
            println!("{PID_MAX} {} raised: {raised:?}", before.trim());
        }
        PidMax(before)
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        let _ = fs::write(PID_MAX, &self.0);
    }
}

/// How many ended processes there can be beside those of others: [`CROWD`] where the test machine has room.
fn crowd() -> usize {
    let number = |path: &str| fs::read_to_string(path).unwrap().trim().parse::<usize>().unwrap();
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let rooms = [number(PID_MAX), number("/proc/sys/kernel/threads-max")].map(|limit| limit.saturating_sub(OTHERS));
    let memory = available.unwrap().parse::<usize>().unwrap() * 1024 / ENDED_BYTES;
    println!("room for {rooms:?} processes by the kernel's limits, for {memory} by memory");
    rooms.into_iter().chain([memory, CROWD]).min().unwrap()
}

/// Processes on this machine.
fn processes() -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).count()
}

/// Kills a service: init notices in time, and starts it again. Says how long that took.
fn assert_comes_back(machine: &Machine, service: Process) {
    let (place, killed) = (machine.log.lines().len(), now());
    let name = service.strings("cmdline").remove(0);
    kill(Pid::from_raw(service.0), Signal::SIGKILL).unwrap();
    let (ended, line) = machine.log.expect_after(place, &format!("{name} (pid "));
    let noticed = line.at.saturating_sub(killed);
    let (_, ready) = machine.log.expect_after(ended, &format!("{name} ready"));
    println!("{name}: noticed after {noticed} ms, ready again after {} ms", ready.at - killed);
    assert!(line.text.contains(" killed by SIGKILL "), "{line:?}");
    assert!(noticed < NOTICED, "{line:?}");
}

/// Every orphan that there is room for comes at one moment, and a service ends right after: all of it is noticed, and
/// nothing stays.
#[test]
fn a_hundred_thousand_orphans_at_once() {
    let _alone = alone();
    let _raised = PidMax::raise();
    let number = crowd();
    let script = format!("ready\nmark /run/up\nwait /run/begin\ncrowd {number}\nmark /run/handed-over");
    let machine = Setup::new("ready", &script).boot().ready();
    machine.marked("/run/up");
    // The child that loads modules ends by itself.
    machine.log.expect("late modules");
    wait_for("no child has ended", || {
        machine.init.children().iter().all(|child| child.stat(3).as_deref() != Some("Z")).then_some(())
    });
    let state = || (machine.init.children().len(), machine.init.resident(), machine.init.descriptors().len());
    let (before, began, others) = (state(), Instant::now(), processes());
    machine.go("/run/begin");
    let there = machine.init.sees("/run/crowd");
    // Each step has its limit; as many steps as it takes.
    let mut seen = 0;
    while !there.exists() {
        wait_for("more ended children", || {
            let now = processes();
            (there.exists() || now > seen).then(|| seen = now)
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    let held = processes().saturating_sub(others);
    println!("{held} more processes after {:?}", began.elapsed());
    assert!(held >= number - OTHERS);
    // To look for it among so many takes longer than it takes init to reap them.
    let containerd = machine.service(CONTAINERD).unwrap();
    machine.go("/run/go");
    machine.marked("/run/handed-over");
    let handed_over = now();
    assert_comes_back(&machine, containerd);
    wait_for("all orphans reaped", || (processes() < others + OTHERS).then_some(()));
    println!("{number} orphans reaped within {} ms, init at {} ticks", now() - handed_over, machine.init.cpu_ticks());
    wait_for("no more children than before", || (machine.init.children().len() == before.0).then_some(()));
    println!("(children, RSS KiB, descriptors) before and after: {before:?}, {:?}", state());
    assert_eq!(state(), before);
    assert!(!machine.log.begins("kubelet (pid"));
}

/// Signals that ask for nothing: SIGHUP, SIGCHLD without a child that ended, SIGWINCH, and real-time ones around those
/// that do.
const MEANINGLESS: [i32; 8] = [libc::SIGHUP, libc::SIGCHLD, libc::SIGWINCH, 34, 35, 36, 40, 64];

/// Sets a flag when it goes, whatever for.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while signals come to `init` as fast as one thread sends them, until it ends; how many a second.
fn under_signals(init: Process, act: impl FnOnce()) -> f64 {
    // By a descriptor: its number may be another's once init has ended.
    // SAFETY: touches no memory.
    let descriptor = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, init.0, 0) }).expect("pidfd");
    let end = AtomicBool::new(false);
    let send = || {
        let (mut sent, began) = (0u32, Instant::now());
        while !end.load(Ordering::Relaxed) {
            let number = MEANINGLESS[sent as usize % MEANINGLESS.len()];
            // SAFETY: no siginfo is passed.
            let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, 0, 0) };
            match Errno::result(answer) {
                Ok(_) => sent += 1,
                Err(Errno::ESRCH) => break,
                Err(error) => panic!("signal {number}: {error}"),
            }
        }
        let rate = f64::from(sent) / began.elapsed().as_secs_f64();
        println!("{sent} signals, {rate:.0} a second");
        rate
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(send);
        let at_end = AtEnd(&end);
        act();
        drop(at_end);
        sender.join().expect("sender")
    })
}

/// Signals that mean nothing come faster than they can be read: services are kept alive, and each request is obeyed, also
/// one whose signal has a higher number than the others, which the kernel gives out first.
#[test]
fn ten_thousand_signals_a_second() {
    let _alone = alone();
    for request in [libc::SIGTERM, libc::SIGPWR, 38] {
        let mut machine = Setup::new("ready", "ready").boot().ready();
        let rate = under_signals(machine.init, || {
            let began = Instant::now();
            while began.elapsed() < FLOOD {
                assert_comes_back(&machine, machine.service(KUBELET).unwrap());
            }
            let (place, asked) = (machine.log.lines().len(), now());
            machine.signal(request);
            let (_, line) = machine.log.expect_after(place, "stopping for power-off");
            let heard = line.at.saturating_sub(asked);
            println!("signal {request} heard after {heard} ms, init at {} ticks", machine.init.cpu_ticks());
            assert!(heard < NOTICED);
            machine.log.expect("power-off");
        });
        assert_eq!(machine.end(), Signal::SIGINT);
        assert!(rate >= RATE, "{rate}");
    }
}

/// Others keep the queue full that a service says by that it is ready: it is heard all the same, each time it starts, and
/// what goes on after that costs the other one nothing.
#[test]
fn a_flood_of_notifications() {
    let _alone = alone();
    let script = "flood-notify 8\nready";
    let mut machine = Setup::new(script, script).boot().ready();
    for index in [KUBELET, CONTAINERD, KUBELET] {
        assert_comes_back(&machine, machine.service(index).unwrap());
    }
    println!("init at {} ticks", machine.init.cpu_ticks());
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(&lines, &["stopping for power-off", "pods ", "stopped kubelet ", "unmount ", "power-off"]);
    assert_all_ended(&lines);
}
