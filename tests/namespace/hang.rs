//! Services that run and give no sign of life.

use std::time::Duration;

use kios_init::plan::{self, ABORT_LIMIT, KUBELET, Millis, SILENCE_LIMIT, START_TELL};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::log::Line;
use crate::common::machine::Machine;
use crate::common::setup::Setup;
use crate::supervision::{EARLY, LATE};

/// More than a service may be silent.
const LONG: Duration = Duration::from_millis(2 * SILENCE_LIMIT);

/// Checks that a service was aborted for its silence; the line's milliseconds since power-on.
fn assert_silent(machine: &Machine, name: &str) -> (usize, Line) {
    let ready = machine.log.expect(&format!("{name} ready")).at;
    let (place, line) = machine.log.expect_within(LONG, 0, " gives no sign of life, aborting it after ");
    assert!(line.text.starts_with(&format!("{name} (pid ")), "{line:?}");
    let silent = line.at - ready;
    println!("{name}: aborted after {silent} ms of silence");
    assert!((SILENCE_LIMIT - EARLY..SILENCE_LIMIT + LATE).contains(&silent));
    (place, line)
}

/// Issue 5: a containerd that only takes connections into its backlog, as one that is stopped, is aborted, then killed, and
/// starts again. Kubelet, which is as silent, is not blamed.
#[test]
fn a_containerd_that_does_not_answer_is_restarted() {
    let machine = Setup::new("backlog\nignore-abort\nready", "ready").boot().ready();
    let kubelet = machine.service(KUBELET);
    let (place, aborted) = assert_silent(&machine, "containerd");
    let (_, killed) = machine.log.expect_within(LONG, place, " does not end, killing it after ");
    let waited = killed.at - aborted.at;
    assert!((ABORT_LIMIT - EARLY..ABORT_LIMIT + LATE).contains(&waited), "{waited}");
    machine.log.expect_after(place, ") killed by SIGKILL after ");
    machine.log.expect_after(place, "containerd ready");
    assert_eq!(machine.service(KUBELET), kubelet);
    assert!(!machine.log.begins("kubelet (pid "));
}

/// Issue 5: a kubelet that does not say WATCHDOG=1 itself is aborted, whoever else says it, and with it the containerd that it
/// may be silent for.
#[test]
fn a_kubelet_that_is_silent_is_restarted() {
    let usec = plan::SERVICES[KUBELET].environment.iter().find_map(|variable| {
        variable.to_str().unwrap().strip_prefix("WATCHDOG_USEC=").map(|value| value.parse::<Millis>().unwrap())
    });
    assert!(usec.unwrap() / 1_000 * 2 <= SILENCE_LIMIT, "it may miss one");
    let machine = Setup::new("answer\nready", "alive-from-child\nready").boot().ready();
    let (place, _) = assert_silent(&machine, "kubelet");
    machine.log.expect_after(place, ") leaves kubelet silent, aborting it after ");
    let (place, _) = machine.log.expect_after(place, "containerd ready");
    machine.log.expect_after(place, "kubelet ready");
    for service in ["containerd", "kubelet"] {
        let is = |line: &Line| line.text.starts_with(service) && line.text.contains(") killed by SIGABRT after ");
        assert_eq!(machine.log.lines().iter().filter(|line| is(line)).count(), 1, "{service}");
    }
}

/// Issue 5: a start that takes its time is told about, and goes on.
#[test]
fn a_slow_start_is_told() {
    let machine = Setup::new("mark /run/up\nwait /run/go\nready", "ready").boot();
    machine.marked("/run/up");
    let began = machine.log.expect("started containerd");
    for nth in 1..=2 {
        let (_, line) =
            machine.log.expect_within(LONG, 0, &format!(" is not ready after {}", nth * START_TELL / 1_000));
        assert!(line.text.starts_with(&format!("containerd (pid {}) ", began.number("(pid ", ")"))), "{line:?}");
        let waited = line.number(" after ", "ms");
        assert!((nth * START_TELL..nth * START_TELL + LATE).contains(&waited), "{line:?}");
    }
    machine.go("/run/go");
    machine.log.expect("kubelet ready");
    assert!(!machine.log.has(" next try "));
}

/// An init that did not run, as on a machine that slept, blames nobody for what it could not hear.
#[test]
fn a_sleep_is_nobodys_silence() {
    let machine = Setup::new("answer\nready", "ready").boot().ready();
    let stop = |signal| kill(Pid::from_raw(machine.init.0), signal).unwrap();
    stop(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(SILENCE_LIMIT + EARLY));
    stop(Signal::SIGCONT);
    // It goes on: a service that ends is noticed.
    let place = machine.log.lines().len();
    kill(Pid::from_raw(machine.service(KUBELET).unwrap().0), Signal::SIGKILL).unwrap();
    machine.log.expect_after(place, "kubelet ready");
    assert!(!machine.log.has("no sign of life"));
}
