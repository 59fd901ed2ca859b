//! From the first line to both services.

use kios_init::boot::step_names;
use kios_init::plan::{self, KUBELET};

use crate::common::log::Line;
use crate::common::machine::now;
use crate::common::setup::Setup;
use crate::stop::{assert_in_order, without_late_modules};

/// Takes a step's line apart: place, number of steps, name. None when it is not `n/m name <t>us[ (degraded: …)]`.
fn step(line: &Line) -> Option<(usize, usize, &str)> {
    let (place, rest) = line.text.split_once(' ')?;
    let (at, of) = place.split_once('/')?;
    let (name, rest) = rest.split_once(' ')?;
    let (time, rest) = rest.split_once("us")?;
    time.parse::<u64>().ok()?;
    let why = rest.strip_prefix(" (degraded: ").and_then(|why| why.strip_suffix(')'));
    (rest.is_empty() || why.is_some_and(|why| why.contains(": E"))).then_some(())?;
    Some((at.parse().ok()?, of.parse().ok()?, name))
}

/// Design §1 and §3: the steps are an ordered list, each prints one line, and containerd starts only after the last.
#[test]
fn every_step_prints_one_line_in_order() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let lines = machine.log.lines();
    let steps: Vec<_> = lines.iter().filter_map(step).collect();
    let names: Vec<_> = step_names().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names.len(), 12);
    let wanted: Vec<_> = (1..).zip(&names).map(|(at, name)| (at, names.len(), *name)).collect();
    assert_eq!(steps, wanted);
    let place = |text: &str| lines.iter().position(|line| line.text.starts_with(text)).expect("line");
    assert!(place("12/12") < place("started containerd"));
    assert!(without_late_modules(&lines).is_sorted_by_key(|line| line.at), "time goes backwards");
    let took = lines[place("started containerd")].at - lines[0].at;
    println!("from the first line to started containerd: {took} ms, {} lines", place("started containerd") + 1);
}

/// Design §3.12: kubelet works from containerd's READY=1 on, never before: until then its configuration has no end.
#[test]
fn kubelet_waits_for_containerd() {
    let machine = Setup::new("mark /run/up\nwait /run/go\nready", "mark /run/works\nready").boot();
    machine.marked("/run/up");
    let kubelet = machine.reads_its_configuration();
    let before = now();
    machine.go("/run/go");
    let (place, ready) = machine.log.expect_after(0, "containerd ready");
    let (_, works) = machine.log.expect_after(place, "kubelet ready");
    assert!(before <= ready.at && ready.at <= works.at, "{before} {ready:?} {works:?}");
    machine.marked("/run/works");
    assert_eq!(machine.service(KUBELET), Some(kubelet));
    assert_in_order(&machine.log.lines()[..=place], &["started containerd", "started kubelet", "containerd ready"]);
    println!("kubelet ready {} ms after containerd", works.at - ready.at);
}

/// Design, tenet 1: neither an argument nor the environment reaches init or what it starts.
#[test]
fn arguments_and_environment_have_no_effect() {
    let arguments = ["--help", "init=/bin/sh", "kios.anything=1", "single", "poweroff"];
    let environment = [("PATH", "/evil"), ("HOME", "/evil"), ("NOTIFY_SOCKET", "/x"), ("KIOS_KUBELET", "/x")];
    let machine = Setup::new("ready", "ready").called(&arguments, &environment).boot().ready();
    assert_eq!(machine.init.strings("cmdline"), arguments);
    assert_eq!(machine.init.strings("environ").len(), environment.len());
    for (index, service) in plan::SERVICES.iter().enumerate() {
        let process = machine.service(index).expect("running");
        assert_eq!(process.strings("cmdline"), machine.arguments(index));
        assert_eq!(process.strings("environ"), strings(service.environment));
    }
}

/// The plan's list as strings.
pub fn strings(list: &[&std::ffi::CStr]) -> Vec<String> {
    list.iter().map(|text| text.to_str().unwrap().to_owned()).collect()
}
