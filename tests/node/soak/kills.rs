//! containerd and kubelet are killed, again and again, and their pods know nothing of it.

use std::time::{Duration, Instant};

use super::pods::{check_pods, check_reaped, pods};
use super::{Random, asked};
use crate::gate::{ROOM, Scenario, scenario};
use crate::lines::{check_boot, power_off};
use crate::vm::{LONG, Vm, boot};

/// In a run of the tests that asks for no number.
const KILLS: usize = 6;
/// Before a kill, by turns at random: most starts are over after the longer one.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];
/// The services.
const NAMES: [&str; 2] = ["containerd", "kubelet"];

#[test]
fn services_killed() {
    let kills = asked("KIOS_SOAK_KILLS", KILLS);
    scenario("services_killed", ROOM, |scenario| {
        let mut random = Random::new(scenario);
        // A start and the longest back-off, and plenty.
        let limit = LONG + Duration::from_secs(120) * kills as u32;
        let mut vm = boot(scenario).shell().limit(limit).start();
        for line in ["container-a: hello 1", "dhcpcd: bound eth0 10.0.2.", "late modules: ", "kubelet ready"] {
            vm.wait_for(line);
        }
        check_boot(scenario, &vm.lines(), &[]);
        let before = pods(&mut vm);
        // A shim, a sandbox and a container of each pod.
        assert_eq!(before.len(), 9, "{before:?}");
        let init = Init::of(&mut vm);
        scenario.note(&format!("before: {init:?}"));

        let began = Instant::now();
        let (mut done, mut starting) = ([0; 2], 0);
        while done[0] + done[1] < kills {
            let victim = random.below(2) as usize;
            let pause = random.below(2) as usize;
            let was_ready = kill(&mut vm, NAMES[victim], random.within(PAUSES[pause]));
            done[victim] += 1;
            starting += usize::from(!was_ready);
            if (done[0] + done[1]) % 50 == 0 {
                scenario.note(&format!("{done:?} kills in {:.0?}: {:?}", began.elapsed(), Init::of(&mut vm)));
            }
        }
        let took = began.elapsed();
        let said = vm.lines().iter().filter(|line| line.contains(" killed by SIGKILL after ")).count();
        scenario.note(&format!(
            "{} kills of {kills} in {took:.0?}, {:.1} a minute: {done:?} of {NAMES:?}, {starting} of them not yet ready",
            done[0] + done[1],
            kills as f64 * 60.0 / took.as_secs_f64()
        ));
        assert_eq!((done[0] + done[1], said), (kills, kills));

        settle(&vm);
        check_pods(&mut vm, &before);
        check_managed(scenario, &mut vm);
        check_reaped(&mut vm);
        let after = Init::of(&mut vm);
        scenario.note(&format!("after: {after:?}"));
        assert_eq!(init, after);
        power_off(scenario, &mut vm);
    });
}

/// What init holds, as a pod may see it.
#[derive(Debug, PartialEq, Eq)]
struct Init {
    /// KiB.
    resident: u64,
    /// The size of a directory that nobody may read (linux/fs/proc/fd.c, proc_fd_getattr).
    descriptors: u64,
}

impl Init {
    fn of(vm: &mut Vm) -> Init {
        let said = vm.sh("awk '/VmRSS/ { print $2 }' /proc/1/status; stat -c %s /proc/1/fd");
        let numbers: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
        Init { resident: numbers[0], descriptors: numbers[1] }
    }
}

/// Kills a service once it has run for this time, and waits for init to say so. Whether it was ready.
fn kill(vm: &mut Vm, name: &str, pause: Duration) -> bool {
    let from = vm.here();
    // Its own process is the one that init started, in a session of its own; it has children of the same name for a moment.
    let pid = vm.sh(&format!(
        "running() {{ for pid in $(pidof {name}); do \
            set -- $(sed 's/.*) //' /proc/$pid/stat 2>/dev/null); [ \"$2 $4\" != \"1 $pid\" ] || echo $pid; done; }}
        until pid=$(running) && [ -n \"$pid\" ] && sleep {} && kill -KILL $pid 2>/dev/null; do sleep 0.1; done; echo $pid",
        pause.as_secs_f32()
    ));
    let (at, _) = vm.wait_after(from, &format!("{name} (pid {pid}) killed by SIGKILL after "));
    is_ready(&vm.lines()[..at], name)
}

/// Whether init's last word about a service is that it is ready.
fn is_ready(lines: &[String], name: &str) -> bool {
    let ready = format!("{name} ready");
    let said = lines.iter().rev().filter_map(|line| line.strip_prefix("kios: [")?.split_once("] "));
    let last =
        said.map(|(_, said)| said).find(|said| said.starts_with(name) || said.starts_with(&format!("started {name} ")));
    last == Some(ready.as_str())
}

/// Waits until both services are ready.
fn settle(vm: &Vm) {
    vm.poll("ready", |vm| {
        let lines = vm.lines();
        NAMES.iter().all(|name| is_ready(&lines, name))
    });
}

/// Checks that kubelet and containerd go on with the pods they were killed over: what a pod says comes to its log, and a
/// container that ends starts again, alone.
fn check_managed(scenario: &Scenario, vm: &mut Vm) {
    vm.sh("until wget -q -O - http://127.0.0.1:10248/healthz | grep -q ok; do sleep 0.5; done");
    let here = vm.here();
    let (_, hello) = vm.wait_after(here, "container-a: hello ");
    vm.sh(&format!(
        "log=$(ls /host/var/log/pods/default_container-a*/container-a/*.log)
        for n in $(seq 300); do ! grep -q '{hello}$' $log || exit 0; sleep 0.2; done
        tail -n 3 $log; grep -E 'level=(error|warning)' /host/var/log/containerd.log; exit 1"
    ));
    let mut left = pods(vm);
    let first = left.iter().find(|process| process.name == "hello").expect("container-a").clone();
    let here = vm.here();
    vm.sh(&format!("kill -KILL {}", first.pid));
    vm.wait_after(here, "container-a: hello 1");
    let now = pods(vm);
    let again = now.iter().find(|process| process.name == "hello").expect("container-a").clone();
    assert_ne!(first, again);
    scenario.note(&format!("{first:?} was killed, {again:?} is there"));
    left.remove(&first);
    left.insert(again);
    check_pods(vm, &left);
}
