//! Init alone, as process 1 of namespaces: memory, descriptors, and what an orphan costs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::calls::Calls;
use crate::elf;
use crate::launch::{Machine, start};
use crate::orphans::{self, Load};
use crate::peers::{PEERS, Peer};
use crate::process::{Memory, Process, wait_for};
use crate::root::Places;
use crate::table::{Spread, markdown, number};

/// The loads: one orphan at a time, some at once, a crowd, and a crowd whose parent has reaped none of it.
const LOADS: [Load; 4] = [load(1, 256), load(64, 8), load(512, 2), Load { dead: true, ..load(512, 2) }];
/// Before a load is measured, so that what an init does the first time only is over.
const WARM_UP: Load = load(16, 1);
/// How long a load goes on at most.
const LIMIT: Duration = Duration::from_secs(5);
/// An init that has had no processor time for so long has settled after its start.
const SETTLED: Duration = Duration::from_millis(500);
/// An init that has had no processor time for so long has done all that an orphan's end brings with it.
const DONE: Duration = Duration::from_millis(100);

const fn load(at_once: u32, times: u32) -> Load {
    Load { at_once, dead: false, times, limit: LIMIT }
}

const HEAD: [&str; 15] = [
    "init",
    "version",
    "file, bytes",
    "with libraries, bytes",
    "RSS, KiB",
    "anonymous, KiB",
    "descriptors",
    "calls per orphan, 1 at a time",
    "64 at once",
    "512 at once",
    "512 dead",
    "ns per orphan, 1 at a time",
    "64 at once",
    "512 at once",
    "512 dead",
];

/// What a run of one init has shown.
struct Sample {
    memory: Memory,
    descriptors: u64,
    /// Processor time per orphan in nanoseconds, by load.
    time: [f64; LOADS.len()],
    /// System calls per orphan, by load.
    calls: [f64; LOADS.len()],
}

/// Measures all of them `rounds` times, each once in a round, and prints the table.
pub fn run(places: &Places, rounds: u32) -> Result<()> {
    let versions = fs::read_to_string(places.debian.join("versions")).context("versions")?;
    let facts = PEERS.iter().map(|peer| facts(places, peer, &versions)).collect::<Result<Vec<_>>>()?;
    let calls = Calls::new(&places.work)?;
    let mut results: Vec<Result<Vec<Sample>>> = PEERS.iter().map(|_| Ok(Vec::new())).collect();
    for round in 1..=rounds {
        for (peer, result) in PEERS.iter().zip(&mut results) {
            // One that failed has its line already.
            let Ok(samples) = result else { continue };
            eprintln!("bench: round {round} of {rounds}: {}", peer.name);
            match measure(peer, places, &calls) {
                Ok(sample) => samples.push(sample),
                Err(error) => {
                    eprintln!("bench: {}: {error:#}", peer.name);
                    *result = Err(error);
                }
            }
        }
    }
    let rows: Vec<_> = facts.into_iter().zip(&results).map(|(facts, result)| row(facts, result)).collect();
    print!("{}", markdown(&HEAD, &rows));
    println!("\n{}", method(rounds)?);
    ensure!(results.iter().all(Result::is_ok), "not all could be measured");
    Ok(())
}

/// One start of `peer`, with all that is measured of it.
fn measure(peer: &Peer, places: &Places, calls: &Calls) -> Result<Sample> {
    let machine = start(peer, places).context("start")?;
    let result = settle(peer, places, &machine).and_then(|services| {
        let sample = sample(calls, &machine, services[0])?;
        // A service that was started anew is no steady state.
        ensure!(running(peer, &machine)? == Some(services), "its services are no longer the same");
        Ok(sample)
    });
    // What it printed tells more than what was waited for in vain.
    result.with_context(|| last_lines(&places.log(peer)))
}

/// What a log ends with.
pub fn last_lines(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let last: Vec<_> = log.lines().rev().take(5).collect();
    format!("last lines, newest first: {last:?}")
}

/// The services of `peer`, where all of them run.
pub fn running(peer: &Peer, machine: &Machine) -> Result<Option<Vec<Process>>> {
    let mut all = Vec::new();
    for name in peer.services {
        let found = machine.init.others(name)?;
        // While one is being started there may be two.
        let [one] = found[..] else { return Ok(None) };
        all.push(one);
    }
    Ok(Some(all))
}

/// Waits until `peer` has started, and does nothing more; then its services.
pub fn settle(peer: &Peer, places: &Places, machine: &Machine) -> Result<Vec<Process>> {
    if let Some(text) = peer.says {
        let log = places.log(peer);
        let said = || fs::read(&log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text));
        wait_for(&format!("line {text:?}"), || Ok(said().then_some(())))?;
    }
    wait_for("its services", || running(peer, machine))?;
    machine.init.quiet(SETTLED)?;
    running(peer, machine)?.context("its services did not stay")
}

fn sample(counter: &Calls, machine: &Machine, service: Process) -> Result<Sample> {
    let init = machine.init;
    let (memory, descriptors) = (init.memory()?, init.descriptors()?);
    let load = |load| {
        let orphans = orphans::run(init, service, load)?;
        init.quiet(DONE)?;
        Ok(f64::from(orphans))
    };
    load(WARM_UP)?;
    let (mut time, mut calls) = ([0.0; LOADS.len()], [0.0; LOADS.len()]);
    for (per_orphan, wanted) in time.iter_mut().zip(LOADS) {
        let before = init.run_time()?;
        let orphans = load(wanted)?;
        *per_orphan = (init.run_time()? - before) as f64 / orphans;
    }
    for (per_orphan, wanted) in calls.iter_mut().zip(LOADS) {
        let (made, orphans) = counter.count(init, || load(wanted))?;
        *per_orphan = made as f64 / orphans;
    }
    Ok(Sample { memory, descriptors, time, calls })
}

/// The version of `peer`: of its package, by the name of the package's file, or of the project.
fn version(peer: &Peer, versions: &str) -> Option<String> {
    let Some(package) = peer.package else {
        let manifest = include_str!("../../../Cargo.toml");
        let own = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
        return if peer.name == "kios-init" { own.map(str::to_owned) } else { Some("–".into()) };
    };
    let mut files = versions.lines();
    let file = files.find_map(|line| line.strip_prefix(package)?.strip_prefix('_'))?;
    // A colon is %3a there.
    Some(file.split('_').next()?.replace("%3a", ":"))
}

/// What is known of `peer` before it runs: its name, version, and bytes alone and with libraries.
fn facts(places: &Places, peer: &Peer, versions: &str) -> Result<Vec<String>> {
    let version = version(peer, versions).with_context(|| format!("version of {}", peer.name))?;
    let (own, all) = elf::bytes(&places.origin(peer), peer.program).context(peer.name)?;
    Ok(vec![peer.name.into(), version, number(own as f64, 0), number(all as f64, 0)])
}

/// The row that begins with these facts.
fn row(mut row: Vec<String>, result: &Result<Vec<Sample>>) -> Vec<String> {
    let samples = match result {
        Ok(samples) => samples,
        Err(error) => {
            row.push(format!("not measured: {}", format!("{error:#}").replace('|', "\\|")));
            return row;
        }
    };
    let mut cell = |decimals, value: &dyn Fn(&Sample) -> f64| {
        row.push(Spread::of(samples.iter().map(value)).map_or(String::new(), |spread| spread.show(decimals)));
    };
    cell(0, &|sample| sample.memory.resident as f64);
    cell(0, &|sample| sample.memory.anonymous as f64);
    cell(0, &|sample| sample.descriptors as f64);
    (0..LOADS.len()).for_each(|load| cell(2, &|sample| sample.calls[load]));
    (0..LOADS.len()).for_each(|load| cell(0, &|sample| sample.time[load]));
    row
}

/// What all this was measured on.
pub fn machine() -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel's release")?;
    let processors = fs::read_to_string("/proc/cpuinfo").context("cpuinfo")?;
    let models: Vec<_> = processors.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model);
    Ok(format!("Linux {}, {} processors ({model})", kernel.trim(), models.len()))
}

/// What the reader of the table has to know.
fn method(rounds: u32) -> Result<String> {
    let loads = LOADS.map(|load| format!("{} × {}", load.times, load.at_once)).join(", ");
    Ok(format!(
        "\
{machine}. Rounds: {rounds}; in each one every init was started anew, one after
another. A cell is the median (least–most).

Each was process 1 of user, pid, mount, network, UTS, IPC and cgroup namespaces of its own, in a root directory of its
own: an overlay over Debian's packages, with Debian's libc. kios-init found what a node's kernel gives it, nothing
mounted, and kept two services, which say READY=1 and stay. The others found /proc, /sys, /dev, /run, /tmp and a
cgroup tree mounted, as in a container, and had one child that does nothing: tini, dumb-init and catatonit as their
argument; busybox init and sysvinit by a respawn line of an inittab; runit by a stage 2 that is runsvdir, and
s6-svscan by a scan directory, each with one service; openrc-init by the default runlevel, below supervise-daemon;
finit by finit.conf; systemd by a default.target that wants one service, without journald, udevd and logind. These
files are in tests/bench/peers. The waitpid loop calls waitpid(2) and does nothing else: what reaping costs by itself.

- Bytes with libraries: the program, its loader and all libraries that these need at the start (ELF's NEEDED), each
  once; not what is opened later (dlopen).
- Memory (smaps_rollup) and descriptors: once process 1 had all its services, and no processor time for {settled} ms.
  RSS counts pages of libraries that other processes share.
- Orphans: forked from outside, in the pid namespace and the service's cgroup, by a parent that ends. They wait, end
  together, and the next ones come when the last one has left /proc: {loads}, fewer where that took more than
  {limit} seconds (busybox init looks for ended children once a second). The dead ones have ended before their parent does,
  which has reaped none, so that all come in one moment. Nanoseconds are the processor time of process 1 (schedstat); calls
  are counted in runs of their own, by the kernel's tracepoint, which does not stop the process as strace does. Both have
  in them what the init does by timers meanwhile.",
        machine = machine()?,
        settled = SETTLED.as_millis(),
        limit = LIMIT.as_secs(),
    ))
}
