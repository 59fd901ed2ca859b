//! The end of the machine.

use std::time::{Duration, Instant};

use kios_init::plan;
use nix::sys::signal::Signal;

use crate::common::log::Line;
use crate::common::machine::{Machine, now};
use crate::common::setup::Setup;

/// Powers the machine off, as [`stop`].
pub fn end(machine: &mut Machine) -> (Vec<Line>, Signal) {
    stop(machine, Signal::SIGTERM as i32)
}

/// Sends `signal` and waits for the end: init's lines from "stopping" on, and what the kernel ended init with.
fn stop(machine: &mut Machine, signal: i32) -> (Vec<Line>, Signal) {
    let place = machine.log.lines().len();
    machine.signal(signal);
    machine.log.expect_within(Duration::from_secs(60), place, "sync");
    let ended = machine.end();
    let lines = machine.log.end();
    let from = lines.iter().position(|line| line.text.starts_with("stopping for ")).expect("stopping");
    (lines[from..].to_vec(), ended)
}

/// The place of the one line that begins with `text`.
pub fn place(lines: &[Line], text: &str) -> usize {
    let places: Vec<_> = (0..lines.len()).filter(|at| lines[*at].text.starts_with(text)).collect();
    assert_eq!(places.len(), 1, "{text:?} in {lines:?}");
    places[0]
}

pub fn assert_in_order(lines: &[Line], wanted: &[&str]) {
    let places: Vec<_> = wanted.iter().map(|text| place(lines, text)).collect();
    assert!(places.is_sorted(), "{wanted:?} at {places:?}");
}

/// The lines but those of the child that loads modules beside all else, and may be late.
pub fn without_late_modules(lines: &[Line]) -> impl Iterator<Item = &Line> {
    let late = ["late modules: ", "kernel/modules_disabled: ", "net/bridge/"];
    lines.iter().filter(move |line| !late.iter().any(|start| line.text.starts_with(start)))
}

/// What a phase says that a limit ended.
pub const NOT_ENDED: &str = " not ended, going on without (degraded) ";

/// Checks that every phase ended by itself.
pub fn assert_all_ended(lines: &[Line]) {
    assert!(!lines.iter().any(|line| line.text.contains(NOT_ENDED)), "{lines:?}");
}

/// Design §6: each signal asks for its end; kubelet stops before containerd; the last line names the end; and it is what
/// reboot(2) was called with, which in a pid namespace ends process 1 by SIGINT (power off, halt) or SIGHUP (restart).
#[test]
fn each_signal_asks_for_its_end() {
    let rtmin = 34;
    let requests = [
        (Signal::SIGTERM as i32, "power-off", Signal::SIGINT),
        (rtmin + 4, "power-off", Signal::SIGINT),
        (Signal::SIGPWR as i32, "power-off", Signal::SIGINT),
        (Signal::SIGINT as i32, "reboot", Signal::SIGHUP),
        (rtmin + 5, "reboot", Signal::SIGHUP),
        (Signal::SIGUSR1 as i32, "halt", Signal::SIGINT),
        (rtmin + 3, "halt", Signal::SIGINT),
    ];
    for (signal, name, end) in requests {
        let began = Instant::now();
        let (lines, ended) = stop(&mut Setup::new("ready", "ready").boot().ready(), signal);
        assert_eq!(ended, end, "signal {signal}");
        let stopping = format!("stopping for {name}");
        let phases = ["pods ", "stopped kubelet ", "stopped containerd ", "processes ", "save ", "unmount ", "sync "];
        assert_in_order(&lines, &[&[&stopping[..]], &phases[..], &[name]].concat());
        assert_eq!(lines.last().unwrap().text, name);
        let mut own = without_late_modules(&lines);
        assert!(!own.any(|line| line.text.contains("degraded") || line.text.contains("SIGKILL")), "{lines:?}");
        assert!(!lines.iter().any(|line| line.text.contains("next try")), "a restart while stopping: {lines:?}");
        println!("signal {signal}: booted and {name} in {:?}", began.elapsed());
    }
}

/// Design §6: all other signals mean nothing to init.
#[test]
fn other_signals_do_nothing() {
    let mut machine = Setup::new("ready", "ready").boot().ready();
    let place = machine.log.lines().len();
    // SIGKILL and SIGSTOP come from outside the namespace here; inside, the kernel keeps them from process 1.
    let ends = [2, 10, 12, 15, 30, 37, 38, 39];
    for number in (1..=64).filter(|number| ![9, 19].contains(number) && !ends.contains(number)) {
        machine.signal(number);
    }
    // Read after all those before it, whose numbers are lower or which were sent earlier.
    machine.signal(39);
    machine.log.expect_after(place, "stopping for reboot");
    assert_eq!(machine.end(), Signal::SIGHUP);
    let lines = machine.log.end();
    let own: Vec<_> = without_late_modules(&lines[place..]).collect();
    assert_eq!(own[0].text, "stopping for reboot", "{own:?}");
    assert!(!machine.log.begins("containerd (pid") && !machine.log.begins("kubelet (pid"));
}

/// Design §2: what the machine cannot go on without is said with its step, and it restarts after the plan's pause, no
/// sooner, whatever signals come.
#[test]
fn a_fatal_step_restarts_after_a_pause() {
    let setup = Setup::new("ready", "ready");
    std::fs::remove_dir(setup.path("proc")).unwrap();
    assert_restarts(setup, "5/12 mounts: /proc: ENOENT (fatal)");
}

/// As above, for a root that is neither an image nor a node's files.
#[test]
fn a_missing_root_restarts_after_a_pause() {
    let setup = Setup::new("ready", "ready");
    std::fs::rename(setup.path("etc/kios"), setup.path("etc/other")).unwrap();
    assert_restarts(setup, "2/12 root: open root image: ENOENT (fatal)");
}

fn assert_restarts(setup: Setup, why: &str) {
    let mut machine = setup.boot();
    let (_, said) = machine.log.expect_after(0, "(fatal)");
    assert_eq!(said.text, why);
    machine.log.expect("restarting in 10s");
    machine.log.expect("sync ");
    machine.signal(Signal::SIGHUP as i32);
    machine.signal(Signal::SIGCHLD as i32);
    assert_eq!(machine.end(), Signal::SIGHUP);
    let took = now() - said.at;
    println!("restarted {took} ms after: {why}");
    assert!((plan::FATAL_PAUSE - 20..plan::FATAL_PAUSE + 5_000).contains(&took), "{took} ms");
    assert!(!machine.log.has("started"));
}

/// Design §2, every wait has a limit: a service and an orphan that ignore SIGTERM are killed, each after its limit.
#[test]
fn what_ignores_sigterm_is_killed() {
    let (lines, ended) = end(&mut Setup::new("stubborn-child\nready", "ignore-term\nready").boot().ready());
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(
        &lines,
        &[
            "stopping for power-off",
            "pods ",
            "stopped kubelet by SIGKILL ",
            "stopped containerd ",
            "some processes did not end on SIGTERM",
            "processes ",
            "save ",
            "unmount ",
            "sync ",
            "power-off",
        ],
    );
    let took = |from: &str, to: &str| lines[place(&lines, to)].at - lines[place(&lines, from)].at;
    let kubelet = took("stopping for", "stopped kubelet");
    let rest = took("stopped containerd", "some processes did not end");
    let end = took("some processes did not end", "power-off");
    println!("kubelet killed after {kubelet} ms, the orphan after {rest} ms, power-off {end} ms later");
    let slack = 2_000;
    assert!((plan::STOP_LIMIT..).contains(&(kubelet + 20)) && kubelet < 10_000 + slack);
    assert!((plan::TERM_LIMIT..).contains(&(rest + 20)) && rest < plan::TERM_LIMIT + slack);
    assert!(end < slack, "the orphan outlived SIGKILL");
}

/// Design §6: the end can be asked for at any time; before containerd is ready kubelet has no pods to end.
#[test]
fn a_start_can_be_stopped() {
    let mut machine = Setup::new("mark /run/up", "ready").boot();
    machine.marked("/run/up");
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(
        &lines,
        &["stopping for power-off", "pods ", "stopped kubelet ", "stopped containerd ", "unmount ", "power-off"],
    );
}
