//! containerd and kubelet are killed, again and again, and their pods know nothing of it.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use super::pods::{check_pods, check_reaped, pods};
use super::{Random, asked};
use crate::gate::{ROOM, Scenario, attempt, scenario};
use crate::lines::{check_boot, power_off};
use crate::vm::{LONG, Vm, boot};

/// In a run of the tests that asks for no number.
const KILLS: usize = 6;
/// Most of the time a node waits for a back-off's end, so several share a long run: so many kills are worth one more.
const KILLS_OF_NODE: usize = 50;
/// More would keep each other from starting anything.
const NODES: usize = 6;
/// Before a kill, by turns at random: most starts are over after the longer one.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];
/// The services.
const NAMES: [&str; 2] = ["containerd", "kubelet"];

#[test]
fn services_killed() {
    let kills = asked("KIOS_SOAK_KILLS", KILLS);
    scenario("services_killed", ROOM - 1, |scenario| {
        let mut random = Random::new(scenario);
        let nodes = kills.div_ceil(KILLS_OF_NODE).min(NODES);
        let shares = (0..nodes).map(|node| (kills + node) / nodes);
        let seeded: Vec<_> = shares.map(|share| (share, random.next())).collect();
        let began = Instant::now();
        let ran: Vec<Killed> = thread::scope(|scope| {
            let run = |(share, seed)| scope.spawn(move || killed(share, seed));
            let threads: Vec<_> = seeded.into_iter().map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let sum = |of: fn(&Killed) -> usize| ran.iter().map(of).sum::<usize>();
        let (done, starting) = (sum(|ran| ran.done[0] + ran.done[1]), sum(|ran| ran.starting));
        scenario.note(&format!(
            "{done} kills of {kills} on {nodes} nodes in {:.0?}, {starting} of them not yet ready: {ran:?}",
            began.elapsed()
        ));
        assert_eq!(done, kills);
    });
}

/// What one node went through.
#[derive(Clone, Copy, Debug, Default)]
struct Killed {
    /// Kills of each of [`NAMES`].
    done: [usize; 2],
    /// Those of a service that was not ready yet.
    starting: usize,
    /// How often kubelet gave up without containerd before it was killed.
    missed: usize,
}

/// Boots a node, kills its services and checks what became of it.
fn killed(kills: usize, seed: u64) -> Killed {
    attempt("services_killed", |scenario| {
        let mut random = Random(seed);
        let mut ran = Killed::default();
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
        scenario.note(&format!("{seed:016x} before: {init:?}"));

        let began = Instant::now();
        for done in 1..=kills {
            let (victim, was_ready) = loop {
                let victim = random.below(2) as usize;
                let pause = random.below(2) as usize;
                match kill(&mut vm, NAMES[victim], random.within(PAUSES[pause])) {
                    Some(was_ready) => break (victim, was_ready),
                    None => ran.missed += 1,
                }
            };
            ran.done[victim] += 1;
            ran.starting += usize::from(!was_ready);
            if done % 25 == 0 {
                scenario.note(&format!("{seed:016x} {ran:?} in {:.0?}: {:?}", began.elapsed(), Init::of(&mut vm)));
            }
        }
        let said = vm.lines().iter().filter(|line| line.contains(" killed by SIGKILL after ")).count();
        assert_eq!(said, kills);

        settle(&vm);
        check_pods(&mut vm, &before);
        check_managed(scenario, &mut vm);
        check_reaped(&mut vm);
        let after = Init::of(&mut vm);
        scenario.note(&format!("{seed:016x} after: {after:?}"));
        assert_eq!(init, after);
        power_off(scenario, &mut vm);
        ran
    })
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

/// Kills a service once it has run for this time, and waits for init to say so. Whether it was ready; `None` where it was
/// kubelet, and on its way out already since containerd was not there.
fn kill(vm: &mut Vm, name: &str, pause: Duration) -> Option<bool> {
    let from = vm.here();
    // Its own process is the one that init started, in a session of its own; it has children of the same name for a moment.
    let pid = vm.sh(&format!(
        "running() {{ for pid in $(pidof {name}); do \
            set -- $(sed 's/.*) //' /proc/$pid/stat 2>/dev/null); [ \"$2 $4\" != \"1 $pid\" ] || echo $pid; done; }}
        until pid=$(running) && [ -n \"$pid\" ] && sleep {} && kill -KILL $pid 2>/dev/null; do sleep 0.1; done; echo $pid",
        pause.as_secs_f32()
    ));
    let its = format!(" {name} (pid {pid}) ");
    let (at, line) = vm.wait_after(from, &its);
    let (_, said) = line.split_once(&its).expect("the text that was waited for");
    if said.starts_with("exited with 1 after ") && said.ends_with(", next try once containerd is ready") {
        return None;
    }
    assert!(said.starts_with("killed by SIGKILL after "), "{line}");
    Some(is_ready(&vm.lines()[..at], name))
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
