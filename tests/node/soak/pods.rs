//! The processes of a node, by all that /proc says of them in one look.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::vm::{LONG, Vm};

/// A process; its number alone may be another's later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    /// In clock ticks since power-on.
    start: u64,
    pub name: String,
    parent: u32,
}

/// All processes, and those of them that have ended and are not reaped.
fn all(vm: &mut Vm) -> (Vec<Process>, BTreeSet<Process>) {
    let (mut all, mut ended) = (Vec::new(), BTreeSet::new());
    for line in vm.sh("cat /proc/[0-9]*/stat 2>/dev/null || true").lines() {
        // proc_pid_stat(5): pid (name) state parent …, and the start is the 22nd.
        let (head, rest) = line.rsplit_once(") ").expect("a stat line");
        let (pid, name) = head.split_once(" (").expect("a name");
        let fields: Vec<_> = rest.split(' ').collect();
        let process = Process {
            pid: pid.parse().unwrap(),
            start: fields[19].parse().unwrap(),
            name: name.into(),
            parent: fields[1].parse().unwrap(),
        };
        if fields[0] == "Z" {
            ended.insert(process.clone());
        }
        all.push(process);
    }
    (all, ended)
}

/// The shims, and the processes they started: each container's first.
pub fn pods(vm: &mut Vm) -> BTreeSet<Process> {
    let shims = vm.sh("cat /host/sys/fs/cgroup/podruntime/shims/cgroup.procs");
    let shims: BTreeSet<u32> = shims.lines().map(|pid| pid.parse().unwrap()).collect();
    let mut processes = all(vm).0;
    processes.retain(|process| shims.contains(&process.pid) || shims.contains(&process.parent));
    processes.into_iter().collect()
}

/// Waits until the pods' processes are those, and no others.
pub fn check_pods(vm: &mut Vm, before: &BTreeSet<Process>) {
    let end = Instant::now() + LONG;
    loop {
        let now = pods(vm);
        let gone: Vec<_> = before.difference(&now).collect();
        assert!(gone.is_empty(), "gone or not the same: {gone:?}; there: {now:?}");
        // What a shim has just started, to look at a container, say.
        let more: Vec<_> = now.difference(before).collect();
        if more.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "more than before for {LONG:?}: {more:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until each process that has ended, anywhere on the node, has been reaped.
pub fn check_reaped(vm: &mut Vm) {
    let mut left = all(vm).1;
    let end = Instant::now() + LONG;
    while !left.is_empty() {
        assert!(Instant::now() < end, "not reaped for {LONG:?}: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
        let now = all(vm).1;
        left.retain(|process| now.contains(process));
    }
}
