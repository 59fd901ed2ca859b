//! Who else is on kubelet's bus, and what it may say: init goes on, and keeps nothing of it.

use std::fs;

use kios_init::plan::{CONTAINERD, KUBELET};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::machine::Machine;
use crate::common::setup::{Setup, text};
use crate::common::wait_for;
use crate::stop::{assert_all_ended, assert_in_order, end};

/// Ends a service and waits for its next start to be ready.
pub fn restart(machine: &Machine, index: usize) {
    let place = machine.log.lines().len();
    kill(Pid::from_raw(machine.service(index).unwrap().0), Signal::SIGKILL).unwrap();
    machine.log.expect_after(place, &format!("{} ready", text(kios_init::plan::SERVICES[index].name)));
}

/// Ends a machine whose kubelet then is told and releases the lock.
fn assert_ends(mut machine: Machine) {
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(&lines, &["stopping for power-off", "pods ", "stopped kubelet ", "unmount ", "power-off"]);
    assert!(!lines.iter().any(|line| line.text.starts_with("kubelet (pid")), "{lines:?}");
    assert_all_ended(&lines);
}

/// Only kubelet's own process is let in, though its children reach the socket: one that connects is turned away unheard,
/// and what kubelet has stays.
#[test]
fn a_child_of_kubelet_is_turned_away() {
    let script = "stranger\ninhibit\nstranger\nflood\nready\nstranger\nmark /run/turned-away\ntold\nrelease";
    let machine = Setup::new("ready", script).boot().ready();
    machine.marked("/run/turned-away");
    assert!(!machine.log.begins("kubelet (pid"), "it was heard");
    assert_ends(machine);
}

/// A kubelet that a pod leads to its own bus, by a link where plugins have their sockets, keeps the connection that it listens on.
#[test]
fn a_second_connection_of_kubelets_is_turned_away() {
    let script = "inhibit\nready\nstray\nstray\nmark /run/turned-away\ntold\nrelease";
    let machine = Setup::new("ready", script).boot().ready();
    machine.marked("/run/turned-away");
    assert_ends(machine);
}

/// What is no D-Bus ends the connection that it came by; what says too little is replaced by the next one. Neither costs a
/// descriptor or hinders what comes after.
#[test]
fn what_is_malformed_ends_its_own_connection() {
    let closed = ["garbage", "endless-line", "oversized", "other-order", "deaf"];
    let words = [&closed[..], &["mute", "half"]].concat();
    let step = |word: &&str| format!("{word}\nmark /run/{word}\nwait /run/after-{word}\n");
    let steps: String = words.iter().map(step).collect();
    let script = format!("ready\nmark /run/up\nwait /run/go\n{steps}inhibit\nmark /run/in\ntold\nrelease");
    let machine = Setup::new("ready", &script).boot();
    machine.marked("/run/up");
    let before = machine.init.descriptors();
    machine.go("/run/go");
    for word in words {
        machine.marked(&format!("/run/{word}"));
        // A connection that stays is accepted when init comes to it.
        let (after, kept) = (machine.init.descriptors(), usize::from(!closed.contains(&word)));
        assert!((before.len()..=before.len() + kept).contains(&after.len()), "{word}: {before:?} {after:?}");
        machine.go(&format!("/run/after-{word}"));
    }
    machine.marked("/run/in");
    let after = machine.init.descriptors();
    assert_eq!(after.len(), before.len() + 2, "a connection and a lock: {before:?} {after:?}");

    fs::remove_file(machine.init.sees("/run/in")).unwrap();
    restart(&machine, CONTAINERD);
    restart(&machine, KUBELET);
    machine.marked("/run/in");
    let after = machine.init.descriptors();
    assert_eq!(after.len(), before.len() + 2, "after kubelet's restart: {before:?} {after:?}");
    assert_eq!(machine.log.lines().iter().filter(|line| line.text.starts_with("kubelet (pid")).count(), 1);
    assert_ends(machine);
}

/// A connection that kubelet ends is forgotten; the lock is held on.
#[test]
fn a_connection_that_ends_is_forgotten() {
    let script =
        "inhibit\nready\nmark /run/up\nwait /run/go\nhang-up\nmark /run/gone\nwait /run/on\ninhibit\ntold\nrelease";
    let machine = Setup::new("ready", script).boot().ready();
    machine.marked("/run/up");
    let before = machine.init.descriptors().len();
    machine.go("/run/go");
    machine.marked("/run/gone");
    wait_for("its descriptor closed", || (machine.init.descriptors().len() == before - 1).then_some(()));
    machine.go("/run/on");
    assert_ends(machine);
}

/// What a child of kubelet's inherited goes with kubelet all the same.
#[test]
fn what_a_child_holds_is_nothing_to_init() {
    let script = "ready\nmark /run/up\nwait /run/go\ninhibit\nstubborn-child\nmark /run/in";
    let machine = Setup::new("ready", script).boot().ready();
    machine.marked("/run/up");
    let before = machine.init.descriptors().len();
    machine.go("/run/go");
    machine.marked("/run/in");
    fs::remove_file(machine.init.sees("/run/in")).unwrap();
    restart(&machine, KUBELET);
    machine.marked("/run/in");
    assert_eq!(machine.init.descriptors().len(), before + 2, "{:?}", machine.init.descriptors());
}

/// Processes that connect all the time do not keep init from anything else.
#[test]
fn a_flood_of_connections_holds_nothing_up() {
    let script = "flooder\nflooder\nflooder\nflooder\ninhibit\nready\nmark /run/up\ntold\nrelease";
    let machine = Setup::new("ready", script).boot().ready();
    machine.marked("/run/up");
    restart(&machine, CONTAINERD);
    restart(&machine, CONTAINERD);
    println!("init's own time under the flood: {} ticks", machine.init.cpu_ticks());
    assert_ends(machine);
}

/// More of them than there is room for in the queue of those that wait to be let in: kubelet, which comes and goes with
/// them there, gets in.
#[test]
fn kubelet_comes_back_to_a_flooded_bus() {
    let script = format!("{}inhibit\nready\nmark /run/up\ntold\nrelease", "flooder\n".repeat(16));
    let mut machine = Setup::new("ready", &script).boot().ready();
    machine.marked("/run/up");
    let before = machine.init.descriptors().len();
    for _ in 0..3 {
        fs::remove_file(machine.init.sees("/run/up")).unwrap();
        restart(&machine, KUBELET);
        machine.marked("/run/up");
    }
    println!("init's own time under the flood: {} ticks", machine.init.cpu_ticks());
    // One more is a stranger's, for the moment.
    wait_for("no more descriptors", || (machine.init.descriptors().len() <= before).then_some(()));
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(&lines, &["stopping for power-off", "pods ", "stopped kubelet ", "unmount ", "power-off"]);
    assert_all_ended(&lines);
}

/// A kubelet that comes and goes leaves nothing behind, nor does one that takes lock after lock.
#[test]
fn nothing_is_left_of_what_was_given() {
    let script = format!("{}mark /run/up\ntold\nrelease", "inhibit\n".repeat(50));
    let machine = Setup::new("ready", &format!("ready\nmark /run/ready\nwait /run/go\n{script}")).boot();
    machine.marked("/run/ready");
    let before = machine.init.descriptors().len();
    machine.go("/run/go");
    machine.marked("/run/up");
    assert_eq!(machine.init.descriptors().len(), before + 2, "{:?}", machine.init.descriptors());
    for _ in 0..2 {
        fs::remove_file(machine.init.sees("/run/up")).unwrap();
        restart(&machine, KUBELET);
        machine.marked("/run/up");
    }
    assert_eq!(machine.init.descriptors().len(), before + 2, "{:?}", machine.init.descriptors());
    assert_ends(machine);
}
