//! Services that end, and services that cannot start.

use kios_init::plan::{self, BACK_OFF_FIRST, CONTAINERD, KUBELET};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::log::Line;
use crate::common::machine::{Machine, now};
use crate::common::setup::{Setup, text};

/// How much earlier or later than planned a start may seem on a loaded test machine, in milliseconds: lines are stamped
/// when they are written.
pub const EARLY: u64 = 20;
pub const LATE: u64 = 1_500;

/// Waits for `tries` failed starts of a service, each with a line that has `failure` and the next wait in it, and checks
/// that the waits double and that the next start comes after them, not before.
fn assert_backs_off(machine: &Machine, failure: &str, next: &str, tries: u32) -> Vec<Line> {
    let mut place = 0;
    let mut failures = Vec::new();
    for nth in 0..tries {
        let (at, failed) = machine.log.expect_after(place, failure);
        let wait = failed.number("next try in ", "ms");
        assert_eq!(wait, BACK_OFF_FIRST << nth, "{failed:?}");
        let (_, again) = machine.log.expect_after(at + 1, next);
        let waited = again.at - failed.at;
        println!("{}: waited {waited} ms", failed.text);
        assert!((wait - EARLY..wait + LATE).contains(&waited), "{failed:?} {again:?}");
        failures.push(failed);
        place = at + 1;
    }
    let ticks = machine.init.cpu_ticks();
    println!("init's own time so far: {ticks} ticks");
    assert!(ticks < 20, "init spins while it waits: {ticks} ticks");
    failures
}

/// Design §4: exponential back-off; the line names status, uptime and next try; only the service that ended restarts.
#[test]
fn a_service_that_exits_is_restarted_with_back_off() {
    let machine = Setup::new("ready", "exit 3").boot();
    let containerd = machine.log.expect("started containerd").number("(pid ", ")");
    let failures = assert_backs_off(&machine, ") exited with 3 after ", "started kubelet", 4);
    for failed in failures {
        assert!(failed.text.starts_with("kubelet (pid "), "{failed:?}");
        assert!(failed.number("after ", "ms") < LATE, "{failed:?}");
    }
    let starts: Vec<_> =
        machine.log.lines().into_iter().filter(|line| line.text.contains("started containerd")).collect();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].number("(pid ", ")"), containerd);
    // No start leaves a descriptor behind.
    println!("init's descriptors: {:?}", machine.init.descriptors());
}

/// Design §4: what killed a service is named, and the other one is left alone, whichever of the two it was.
#[test]
fn the_other_service_goes_on() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let number = machine.init.descriptors().len();
    for (index, other, signal) in [(KUBELET, CONTAINERD, Signal::SIGQUIT), (CONTAINERD, KUBELET, Signal::SIGABRT)] {
        let name = text(plan::SERVICES[index].name);
        let (first, untouched) = (machine.service(index).unwrap(), machine.service(other).unwrap());
        let (place, began) = machine.log.expect_after(0, &format!("started {name}"));
        kill(Pid::from_raw(first.0), signal).unwrap();
        let (at, ended) = machine.log.expect_after(place, &format!(") killed by {signal} after "));
        assert!(ended.text.starts_with(&format!("{name} (pid {}) ", began.number("(pid ", ")"))), "{ended:?}");
        assert!(ended.number("after ", "ms").abs_diff(ended.at - began.at) <= EARLY, "{began:?} {ended:?}");
        assert_eq!(ended.number("next try in ", "ms"), BACK_OFF_FIRST);
        machine.log.expect_after(at, &format!("{name} ready"));
        assert_ne!(machine.service(index), Some(first));
        assert_eq!(machine.service(other), Some(untouched));
    }
    assert_eq!(machine.init.descriptors().len(), number, "{:?}", machine.init.descriptors());
}

/// Design §3.12 holds for restarts too: kubelet is not started while containerd is not ready.
#[test]
fn a_restarted_kubelet_waits_for_containerd() {
    let machine = Setup::new("mark /run/waiting\nwait /run/go\nready", "ready").boot();
    machine.marked("/run/waiting");
    machine.go("/run/go");
    let machine = machine.ready();
    std::fs::remove_file(machine.init.sees("/run/go")).unwrap();
    let place = machine.log.lines().len();
    // Kubelet first, and the other before kubelet could be back.
    for process in [KUBELET, CONTAINERD].map(|index| machine.service(index).unwrap()) {
        kill(Pid::from_raw(process.0), Signal::SIGKILL).unwrap();
    }
    // Kubelet is due by then, and containerd is up again; only its READY=1 is missing.
    let started = machine.log.expect_after(place, "started containerd").1;
    let before = now();
    machine.go("/run/go");
    let ready = machine.log.expect_after(place, "containerd ready").1;
    let again = machine.log.expect_after(place, "started kubelet").1;
    assert!(before <= ready.at && ready.at <= again.at, "{started:?} {before} {ready:?} {again:?}");
}

/// Issue 3, bad input: kubelet's program or configuration missing: one line, containerd goes on, tried again and again.
#[test]
fn a_missing_file_of_kubelet_is_said_and_tried_again() {
    let kubelet = &plan::SERVICES[KUBELET];
    for path in [text(kubelet.program), text(kubelet.configs[0])] {
        let machine = Setup::new("ready", "ready").without(path).boot();
        assert!(machine.log.expect("6/12").text.ends_with(&format!(" (degraded: {path}: ENOENT)")));
        machine.log.expect(&format!("start kubelet: {path}: ENOENT"));
        assert_backs_off(&machine, ") exited with 1 after ", "started kubelet", 3);
        assert!(machine.service(CONTAINERD).is_some());
        assert!(!machine.log.begins("containerd (pid"));
    }
}

/// As above: a configuration that its pipe cannot hold is one for a start that need not wait.
#[test]
fn a_configuration_as_large_as_a_pipe_is_given_later() {
    for (bytes, fits) in [(plan::CONFIG_MAX - 1, true), (plan::CONFIG_MAX, false)] {
        let script = format!("{:<bytes$}", "ready\nprint end");
        let machine = Setup::new("ready", &script).boot().ready();
        assert_eq!(machine.log.has("start kubelet: configuration: E2BIG"), !fits);
        assert_eq!(machine.log.has("exited with 1 after "), !fits);
    }
}

/// As above, for a program that may not be executed.
#[test]
fn a_program_that_cannot_run_is_said_and_tried_again() {
    let path = text(plan::SERVICES[KUBELET].program);
    let machine = Setup::new("ready", "ready").mode(path, 0o644).boot();
    machine.log.expect(&format!("start kubelet: {path}: EACCES"));
    assert_backs_off(&machine, ") exited with 1 after ", "started kubelet", 3);
    assert!(machine.service(CONTAINERD).is_some());
    assert!(!machine.log.begins("containerd (pid"));
}

/// As above for containerd: kubelet, which needs it, is started once and never works.
#[test]
fn without_containerd_kubelet_waits() {
    let path = text(plan::SERVICES[CONTAINERD].program);
    let machine = Setup::new("ready", "mark /run/works\nready").without(path).boot();
    machine.log.expect(&format!("start containerd: {path}: ENOENT"));
    assert_backs_off(&machine, ") exited with 1 after ", "started containerd", 3);
    machine.reads_its_configuration();
    assert_eq!(machine.log.lines().iter().filter(|line| line.text.contains("started kubelet")).count(), 1);
    assert!(!machine.init.sees("/run/works").exists() && !machine.log.begins("kubelet (pid"));
}

/// Issue 5: a kubelet that ends while containerd is not ready ends for want of it: that does not count.
#[test]
fn kubelet_is_not_blamed_for_containerd() {
    let machine = Setup::new("mark /run/waiting\nwait /run/go\nready", "ready").boot();
    machine.marked("/run/waiting");
    machine.go("/run/go");
    let machine = machine.ready();
    std::fs::remove_file(machine.init.sees("/run/go")).unwrap();
    let end = |index: usize| kill(Pid::from_raw(machine.service(index).unwrap().0), Signal::SIGKILL).unwrap();
    let mut place = machine.log.lines().len();
    let mut after = |text: &str| {
        let (at, line) = machine.log.expect_after(place, text);
        place = at + 1;
        line
    };
    end(CONTAINERD);
    after("started containerd");
    end(KUBELET);
    assert!(after("kubelet (pid ").text.ends_with("ms, next try once containerd is ready"));
    machine.go("/run/go");
    let ready = after("containerd ready");
    assert!(after("started kubelet").at - ready.at <= LATE);
    after("kubelet ready");
    end(KUBELET);
    assert_eq!(after("kubelet (pid ").number("next try in ", "ms"), BACK_OFF_FIRST);
}
