//! Kubelet ends the pods before the machine ends (design §6, contract.md §2).

use std::fs;
use std::time::{Duration, SystemTime};

use kios_init::plan::{self, CONTAINERD, KUBELET, Millis};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bus::restart;
use crate::common::log::Line;
use crate::common::machine::{Machine, now};
use crate::common::setup::Setup;
use crate::stop::{NOT_ENDED, assert_in_order, end, place, without_late_modules};

/// How much earlier than planned something may seem: lines are stamped when they are written.
const EARLY: u64 = 20;
/// How much later, on a loaded test machine.
const LATE: u64 = 2_000;

/// What comes once the pods have ended or were given up, whatever happened before.
const REST: [&str; 7] =
    ["stopped kubelet ", "stopped containerd ", "processes ", "save ", "unmount ", "sync ", "power-off"];

/// What is said once kubelet ended.
const KUBELET_ENDED: &str = "kubelet (pid ";

/// Kubelet's part, once it is ready: it is told, holds the lock until it is let go on, and releases it.
const TOLD: &str = "told\nmark /run/told\nwait /run/go\nuntold\nrelease\n";

/// Asks for power-off; the place of the line that says so.
fn ask(machine: &Machine) -> usize {
    let place = machine.log.lines().len();
    machine.signal(Signal::SIGTERM as i32);
    machine.log.expect_after(place, "stopping for power-off").0
}

/// Checks that the pods' phase comes between `before` and the rest, that it ended as it should, and that kubelet missed
/// nothing it waited for, which ends it; the phase's milliseconds.
fn assert_pods(lines: &[Line], before: &[&str], pods: &str) -> u64 {
    assert_in_order(lines, &[before, &[pods], &REST].concat());
    let deaths = lines.iter().filter(|line| line.text.starts_with(KUBELET_ENDED)).count();
    assert_eq!(deaths, before.iter().filter(|line| **line == KUBELET_ENDED).count(), "{lines:?}");
    let at = place(lines, pods);
    let degraded: Vec<_> =
        without_late_modules(&lines[at + 1..]).filter(|line| line.text.contains("degraded")).collect();
    assert!(degraded.is_empty(), "{degraded:?}");
    let line = &lines[at];
    let took = line.number(pods, "ms");
    assert!(took.abs_diff(line.at - lines[0].at) <= EARLY, "{line:?} after {:?}", lines[0]);
    println!("pods: {took} ms, and {} ms from there to the end", lines.last().unwrap().at - line.at);
    took
}

/// A machine whose kubelet took the lock, and does its part.
fn with_pods() -> Machine {
    Setup::new("ready", &format!("inhibit\nready\n{TOLD}")).boot().ready()
}

/// A machine that is ready, and whose next containerd is so only once /run/start is there.
fn with_slow_containerd(kubelet: &str) -> Machine {
    let machine = Setup::new("mark /run/up\nwait /run/start\nready", kubelet).boot();
    machine.marked("/run/up");
    machine.go("/run/start");
    machine.log.expect("kubelet ready");
    fs::remove_file(machine.init.sees("/run/start")).unwrap();
    machine
}

/// Lets kubelet go on once it was told, and checks the end from the line at `from` on, with `before` before the pods'.
fn assert_told(machine: &mut Machine, from: usize, before: &[&str]) {
    machine.marked("/run/told");
    machine.go("/run/go");
    assert_eq!(machine.end(), Signal::SIGINT);
    assert_pods(&machine.log.end()[from..], before, "pods ");
}

fn kill_service(machine: &Machine, index: usize) {
    kill(Pid::from_raw(machine.service(index).unwrap().0), Signal::SIGKILL).unwrap();
}

/// When a stand-in marked a file.
fn marked_at(machine: &Machine, path: &str) -> SystemTime {
    machine.marked(path);
    fs::metadata(machine.init.sees(path)).unwrap().modified().unwrap()
}

/// Checks how long kubelet waited until it was told, from what has it wait for that many milliseconds.
fn assert_waited(waited: Duration, wanted: Millis) {
    println!("told after {waited:?}");
    let (wanted, slack) = (Duration::from_millis(wanted), Duration::from_millis(EARLY));
    assert!((wanted - slack..wanted + Duration::from_millis(LATE)).contains(&waited), "{waited:?}");
}

/// Kubelet is told, once, before anything is stopped, and waited for as long as it holds the lock; until then services
/// live on.
#[test]
fn kubelet_is_told_and_waited_for() {
    let mut machine = with_pods();
    let from = ask(&machine);
    machine.marked("/run/told");
    kill_service(&machine, CONTAINERD);
    machine.log.expect_after(from, "containerd ready");
    assert!(!machine.log.begins("pods ") && !machine.log.begins("stopped "));
    let before = now();
    machine.go("/run/go");
    assert_eq!(machine.end(), Signal::SIGINT);
    let lines = &machine.log.end()[from..];
    let took = assert_pods(lines, &["stopping for power-off", "started containerd ", "containerd ready"], "pods ");
    let released = before - lines[0].at;
    assert!((released..released + LATE).contains(&(took + EARLY)), "{took} ms, released after {released} ms");
    assert!(took < plan::PODS_LIMIT);
}

/// Until kubelet takes the lock there are no pods; a connection alone is not waited for.
#[test]
fn without_a_lock_nothing_is_waited_for() {
    for script in ["ready", "hello\nlisten\nready", "hello\nlisten\nhang-up\nready", "mute\nready", "half\nready"] {
        let (lines, ended) = end(&mut Setup::new("ready", script).boot().ready());
        assert_eq!(ended, Signal::SIGINT);
        assert!(assert_pods(&lines, &["stopping for power-off"], "pods ") <= EARLY, "{script:?}");
    }
}

/// A second request gives the pods up, and nothing else: the first one's end comes, in order.
#[test]
fn a_second_request_gives_the_pods_up() {
    let mut machine = with_pods();
    let from = ask(&machine);
    machine.marked("/run/told");
    let before = now();
    machine.signal(Signal::SIGINT as i32);
    assert_eq!(machine.end(), Signal::SIGINT, "power-off, not reboot");
    let lines = &machine.log.end()[from..];
    let given_up = format!("pods{NOT_ENDED}");
    let took = assert_pods(lines, &["stopping for power-off"], &given_up);
    let asked = before - lines[0].at;
    assert!((asked..asked + LATE).contains(&(took + EARLY)), "{took} ms, asked again after {asked} ms");
}

/// What comes at once with the first request is part of it: a button may be two devices.
#[test]
fn requests_at_once_are_one() {
    let mut machine = with_pods();
    let from = ask(&machine);
    machine.signal(Signal::SIGPWR as i32);
    let asked = now() - machine.log.lines()[from].at;
    assert!(asked < plan::AGAIN_AFTER, "too late to say: {asked} ms");
    assert_told(&mut machine, from, &["stopping for power-off"]);
}

/// So does the plan's limit.
#[test]
fn a_lock_that_is_held_for_ever_is_given_up() {
    let mut machine = with_pods();
    let from = ask(&machine);
    machine.log.expect_within(Duration::from_millis(plan::PODS_LIMIT + 20_000), from, "sync ");
    assert_eq!(machine.end(), Signal::SIGINT);
    let given_up = format!("pods{NOT_ENDED}");
    let took = assert_pods(&machine.log.end()[from..], &["stopping for power-off"], &given_up);
    assert!((plan::PODS_LIMIT - EARLY..plan::PODS_LIMIT + LATE).contains(&took), "{took} ms");
}

/// A kubelet that ends while it holds the lock has not ended the pods: it starts again, and is told again. The kernel gives
/// its lock back first, then closes what it had opened before, and says only then that it has ended.
#[test]
fn kubelet_that_dies_while_it_ends_the_pods_is_told_again() {
    for begin in ["inhibit", "hello\nmemory-file 512\ntake\nlisten"] {
        let script = format!("{begin}\nready\n{TOLD}");
        let mut machine = Setup::new("ready", &script).boot().ready();
        let from = ask(&machine);
        machine.marked("/run/told");
        fs::remove_file(machine.init.sees("/run/told")).unwrap();
        kill_service(&machine, KUBELET);
        machine.log.expect_after(from, "started kubelet");
        assert_told(
            &mut machine,
            from,
            &["stopping for power-off", KUBELET_ENDED, "started kubelet ", "kubelet ready"],
        );
    }
}

/// A kubelet that is down when the end is asked for starts first, since its pods run; and it is told once it can hear: it
/// looks for signals only some time after it asked for them.
#[test]
fn kubelet_that_is_down_starts_and_is_told() {
    let mut machine = with_slow_containerd(&format!("inhibit\nmark /run/asked\nready\n{TOLD}"));
    let place = machine.log.lines().len();
    fs::remove_file(machine.init.sees("/run/asked")).unwrap();
    // Kubelet does not start before containerd is ready, which waits.
    [KUBELET, CONTAINERD].iter().for_each(|index| kill_service(&machine, *index));
    machine.log.expect_after(place, "started containerd");
    let from = ask(&machine);
    assert_eq!(machine.service(KUBELET), None);
    machine.go("/run/start");
    let waited = marked_at(&machine, "/run/told").duration_since(marked_at(&machine, "/run/asked")).unwrap();
    machine.go("/run/go");
    assert_eq!(machine.end(), Signal::SIGINT);
    let order = ["stopping for power-off", "containerd ready", "started kubelet ", "kubelet ready"];
    assert_pods(&machine.log.end()[from..], &order, "pods ");
    assert_waited(waited, plan::TELL_AFTER);
}

/// Nor does one that failed often wait its time out by then: little would be left of what its pods were promised.
#[test]
fn kubelet_in_its_back_off_starts_at_once() {
    let mut machine = with_pods();
    let mut place = 0;
    for _ in 0..6 {
        kill_service(&machine, KUBELET);
        (place, _) = machine.log.expect_after(place, ") killed by SIGKILL after ");
        let wait = machine.log.lines()[place].number("next try in ", "ms");
        place += 1;
        if wait >= 4 * LATE {
            break;
        }
        (place, _) = machine.log.expect_after(place, "kubelet ready");
    }
    let from = ask(&machine);
    let (_, started) = machine.log.expect_after(from, "started kubelet");
    machine.marked("/run/told");
    machine.go("/run/go");
    assert_eq!(machine.end(), Signal::SIGINT);
    let lines = machine.log.end();
    let (asked, down) = (&lines[from], &lines[place - 1]);
    println!("{down:?} {asked:?} {started:?}");
    assert!(down.number("next try in ", "ms") >= 4 * LATE && started.at < asked.at + LATE);
    assert_pods(&lines[from..], &["stopping for power-off", "started kubelet ", "kubelet ready"], "pods ");
}

/// A kubelet that runs is told once it has found containerd again: before, it cannot end its pods.
#[test]
fn kubelet_is_told_once_it_reaches_containerd() {
    let mut machine = with_slow_containerd(&format!("inhibit\nready\n{TOLD}"));
    let place = machine.log.lines().len();
    kill_service(&machine, CONTAINERD);
    machine.log.expect_after(place, "started containerd");
    let from = ask(&machine);
    let end = std::time::Instant::now() + Duration::from_millis(plan::TELL_AFTER + LATE);
    while std::time::Instant::now() < end {
        assert!(!machine.init.sees("/run/told").exists(), "told too early");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ready = std::time::SystemTime::now();
    machine.go("/run/start");
    let waited = marked_at(&machine, "/run/told").duration_since(ready).unwrap();
    machine.go("/run/go");
    assert_eq!(machine.end(), Signal::SIGINT);
    assert_pods(&machine.log.end()[from..], &["stopping for power-off", "containerd ready"], "pods ");
    assert_waited(waited, plan::RECONNECT_AFTER);
}

/// What kubelet does between taking the lock and hearing of the end may take until after the request: it asks to hear, or
/// comes back after it lost the connection, and is told then.
#[test]
fn kubelet_that_cannot_hear_yet_is_told_later() {
    let late = "mark /run/up\nwait /run/more\n";
    for script in [
        format!("hello\ntake\nready\n{late}listen\n{TOLD}"),
        format!("inhibit\nhang-up\nready\n{late}inhibit\n{TOLD}"),
        // A connection in place of one that was never closed.
        format!("inhibit\nready\n{late}inhibit\n{TOLD}"),
    ] {
        let mut machine = Setup::new("ready", &script).boot().ready();
        machine.marked("/run/up");
        let from = ask(&machine);
        machine.go("/run/more");
        machine.marked("/run/told");
        assert!(!machine.log.begins("pods "));
        machine.go("/run/go");
        assert_eq!(machine.end(), Signal::SIGINT);
        assert_pods(&machine.log.end()[from..], &["stopping for power-off"], "pods ");
    }
}

/// A kubelet that has not got the lock is not told: it would have nothing to show by when it is done.
#[test]
fn kubelet_without_the_lock_is_not_told() {
    assert_told_no_sooner(&format!("inhibit\nrelease\nready\nwait /run/more\nuntold\ntake\n{TOLD}"));
}

/// Nor is one that does not listen, though it did before it came back by another connection.
#[test]
fn kubelet_that_does_not_listen_is_not_told() {
    for again in ["hello", "hang-up\nhello"] {
        assert_told_no_sooner(&format!("inhibit\n{again}\nready\nwait /run/more\nuntold\nlisten\n{TOLD}"));
    }
}

/// Lets the time pass in which kubelet would be told, were it to be; then lets it go on.
fn assert_told_no_sooner(script: &str) {
    let mut machine = Setup::new("ready", script).boot().ready();
    let from = ask(&machine);
    let told = now() + plan::TELL_AFTER;
    while now() < told {
        restart(&machine, CONTAINERD);
    }
    assert!(!machine.log.begins("pods "));
    machine.go("/run/more");
    assert_told(&mut machine, from, &["stopping for power-off"]);
}

/// A kubelet that somebody stopped (SIGSTOP) runs on to end the pods.
#[test]
fn a_stopped_kubelet_is_woken() {
    let mut machine = with_pods();
    let kubelet = machine.service(KUBELET).unwrap();
    kill(Pid::from_raw(kubelet.0), Signal::SIGSTOP).unwrap();
    let from = ask(&machine);
    assert_told(&mut machine, from, &["stopping for power-off"]);
}
