//! Orphans.

use std::time::Instant;

use kios_init::plan;

use crate::common::machine::Machine;
use crate::common::setup::Setup;
use crate::common::wait_for;

/// Issue 3: resident memory of init, in KiB.
const RESIDENT_MAX: u64 = 128;

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
    let orphans = "orphans 1000\nmark /run/1000\nwait /run/go\norphans 99000\nmark /run/100000";
    let machine = Setup::new("ready", &format!("ready\n{orphans}")).boot();
    machine.marked("/run/1000");
    let first = settled(&machine);
    let began = Instant::now();
    machine.go("/run/go");
    machine.marked("/run/100000");
    let last = settled(&machine);
    println!("99,000 orphans in {:?}, of which init ran {} ticks", began.elapsed(), machine.init.cpu_ticks());
    println!("(RSS KiB, descriptors) after 1,000: {first:?}, after 100,000: {last:?}");
    assert_eq!(first, last);
    assert!(last.0 <= RESIDENT_MAX, "{} KiB", last.0);
    assert!(!machine.log.begins("kubelet (pid") && !machine.log.begins("containerd (pid"));
}
