//! What init takes where there is more of something: orphans, mounts at the end, lines of logs, pods.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kios_init::plan;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chdir};

use crate::boot::{self, Node};
use crate::child::Child;
use crate::init::{last_lines, machine, running, settle};
use crate::launch::{Machine, start};
use crate::orphans::{self, Load, become_root};
use crate::peers::{PEERS, Peer};
use crate::process::{Process, wait_for};
use crate::root::Places;
use crate::table::{Spread, markdown, number};

const ORPHANS: [u32; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// So many of them end at the same time.
const CROWD: u32 = 100;
const MOUNTS: [u32; 5] = [10, 100, 500, 1_000, 2_000];
/// Bytes a second.
const RATES: [u32; 6] = [0, 1_000_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000];
const LOG_TIME: Duration = Duration::from_secs(4);
const PODS: [u32; 4] = [1, 10, 25, 50];

/// Measures all of it `rounds` times, and prints the tables.
pub fn run(places: &Places, script: &Path, rounds: u32) -> Result<()> {
    let peer = PEERS.iter().find(|peer| peer.name == "kios-init").context("kios-init")?;
    let tables = [
        table("orphans", ["ns of PID 1 per orphan", "RSS, KiB", "descriptors"], &ORPHANS, rounds, |count| {
            of_orphans(peer, places, count)
        })?,
        table(
            "mounts at the end",
            ["unmounting, ms", "µs per mount", "the whole end but sync(2), ms"],
            &MOUNTS,
            rounds,
            |count| of_mounts(peer, places, count),
        )?,
        table(
            "bytes a second to a log",
            ["lost of it, %", "CPU of PID 1, %", "CPU of its children, %"],
            &RATES,
            rounds,
            |count| of_logs(peer, places, count),
        )?,
        table("pods", ["CPU of PID 1, ms", "RSS, KiB", "in use, MB"], &PODS, rounds, |count| {
            of_pods(script, places, count)
        })?,
    ];
    println!("{}\n{}", tables.join("\n"), method(rounds)?);
    Ok(())
}

/// One table: a row for each of `counts`, a column for each of the three values that `measure` gives.
fn table(
    of: &str,
    values: [&str; 3],
    counts: &[u32],
    rounds: u32,
    measure: impl Fn(u32) -> Result<[f64; 3]>,
) -> Result<String> {
    let mut rows = Vec::new();
    for &count in counts {
        let mut samples = Vec::new();
        for round in 1..=rounds {
            let sample = measure(count).with_context(|| format!("{count} {of}"))?;
            eprintln!("bench: round {round} of {rounds}: {count} {of}: {sample:.1?} ({})", values.join(", "));
            samples.push(sample);
        }
        let cell = |at: usize| {
            let spread = Spread::of(samples.iter().map(|sample| sample[at]));
            spread.map_or(String::new(), |spread| spread.show(usize::from(spread.median < 100.0)))
        };
        rows.push(vec![number(count.into(), 0), cell(0), cell(1), cell(2)]);
    }
    Ok(markdown(&[&[of][..], &values].concat(), &rows))
}

/// A machine with both its services.
fn steady(peer: &Peer, places: &Places) -> Result<(Machine, Vec<Process>)> {
    let machine = start(peer, places)?;
    let services = settle(peer, places, &machine)?;
    Ok((machine, services))
}

fn of_orphans(peer: &Peer, places: &Places, count: u32) -> Result<[f64; 3]> {
    let (machine, services) = steady(peer, places)?;
    let init = machine.init;
    let before = init.run_time()?;
    let load = Load { at_once: CROWD, dead: false, times: count / CROWD, limit: Duration::MAX };
    let orphans = orphans::run(init, services[0], load)?;
    init.quiet(Duration::from_millis(100))?;
    let time = (init.run_time()? - before) as f64 / f64::from(orphans);
    // Those that were started anew are no steady state.
    ensure!(
        running(peer, &machine)? == Some(services),
        "its services are no longer the same; init's {}",
        last_lines(&places.log(peer))
    );
    Ok([time, init.memory()?.resident as f64, init.descriptors()? as f64])
}

/// Enters the user and mount namespaces of `service`, in a child.
fn inside(service: Process, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let enter = || {
        for (name, kind) in [("user", CloneFlags::CLONE_NEWUSER), ("mnt", CloneFlags::CLONE_NEWNS)] {
            let namespace = File::open(format!("/proc/{}/ns/{name}", service.0)).context("namespace")?;
            setns(namespace, kind).context("enter namespace")?;
        }
        become_root()?;
        act().map(|()| String::new())
    };
    Child::start(enter)?.end().map(drop)
}

fn of_mounts(peer: &Peer, places: &Places, count: u32) -> Result<[f64; 3]> {
    let (machine, services) = steady(peer, places)?;
    let service = services[0];
    inside(service, || {
        // The namespace's own root is this machine's.
        chdir(format!("/proc/{}/root/run", service.0).as_str()).context("/run")?;
        for at in 0..count {
            let place = format!("mount{at}");
            fs::create_dir(&place).context("mount point")?;
            mount(Some("pod"), place.as_str(), Some("tmpfs"), MsFlags::empty(), Some("size=4k")).context("mount")?;
        }
        Ok(())
    })?;
    kill(Pid::from_raw(machine.init.0), Signal::SIGTERM).context("ask for the end")?;
    let log = places.log(peer);
    let lines = wait_for("the end", || {
        let text = String::from_utf8_lossy(&fs::read(&log).context("log")?).into_owned();
        Ok(text.contains("] power-off").then_some(text))
    })?;
    let unmounting = took(&lines, "unmount ").context("no line says how long unmounting took")?;
    let at = |text| stamp(&lines, text).with_context(|| format!("no line {text:?}"));
    // From a namespace that writes all of this machine's files.
    let sync = took(&lines, "sync ").context("no line says how long sync took")?;
    let whole = (at("power-off")? - at("stopping for power-off")?) * 1_000.0;
    Ok([unmounting, unmounting * 1_000.0 / f64::from(count), whole - sync])
}

/// How many milliseconds a phase of the end took.
fn took(lines: &str, phase: &str) -> Option<f64> {
    let rest = lines.lines().find_map(|line| line.split_once("] ")?.1.strip_prefix(phase))?;
    rest.strip_suffix("ms")?.parse().ok()
}

/// When init said `text`, in seconds.
fn stamp(lines: &str, text: &str) -> Option<f64> {
    let is = |line: &&str| line.split_once("] ").is_some_and(|(_, said)| said == text);
    let line = lines.lines().find(is)?;
    line.split_once('[')?.1.split_once(']')?.0.parse().ok()
}

fn of_logs(peer: &Peer, places: &Places, rate: u32) -> Result<[f64; 3]> {
    const LINE: &[u8] =
        b"a line of a hundred bytes, as a service says it when all goes well: 0123456789012345678901234567890\n";
    const PAUSE: Duration = Duration::from_millis(10);
    let (machine, services) = steady(peer, places)?;
    let (init, service) = (machine.init, services[0]);
    let children = init.others("init")?;
    let time = || {
        Ok::<_, anyhow::Error>([init.run_time()?, children.iter().map(|child| child.run_time()).sum::<Result<u64>>()?])
    };
    let mut log =
        OpenOptions::new().write(true).open(format!("/proc/{}/fd/1", service.0)).context("the service's output")?;
    let (before, began) = (time()?, Instant::now());
    let mut written = 0u64;
    while began.elapsed() < LOG_TIME {
        let due = (f64::from(rate) * began.elapsed().as_secs_f64()) as u64;
        let lines = usize::try_from(due.saturating_sub(written))? / LINE.len();
        log.write_all(&LINE.repeat(lines)).context("write to the log")?;
        written += (lines * LINE.len()) as u64;
        std::thread::sleep(PAUSE);
    }
    let (after, seconds) = (time()?, began.elapsed().as_secs_f64());
    let percent = |at: usize| (after[at] - before[at]) as f64 / 1e7 / seconds;
    // What was lost since it was said last is said with the next line, once that time is over.
    std::thread::sleep(Duration::from_millis(plan::LOSS_PAUSE));
    log.write_all(LINE).context("write to the log")?;
    init.quiet(Duration::from_millis(500))?;
    let said = String::from_utf8_lossy(&fs::read(places.log(peer)).context("log")?).into_owned();
    let lost: u64 = said.lines().filter_map(lost).sum();
    Ok([lost as f64 * 100.0 / written.max(1) as f64, percent(0), percent(1)])
}

/// Bytes that a line says a log lacks.
fn lost(line: &str) -> Option<u64> {
    line.split_once(".log: ")?.1.strip_suffix(" bytes lost (degraded)")?.parse().ok()
}

fn of_pods(script: &Path, places: &Places, count: u32) -> Result<[f64; 3]> {
    let work = places.work.join("pods");
    let manifests = work.join("manifests");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&manifests).context("make directory")?;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("pods");
    let pod = |name: &str| fs::read_to_string(own.join(name)).with_context(|| name.to_owned());
    // One of them is the pod that measures.
    fs::write(manifests.join("count.yaml"), pod("count.yaml")?.replace("PODS", &count.to_string())).context("pod")?;
    for at in 1..count {
        fs::write(manifests.join(format!("{at}.yaml")), pod("idle.yaml")?.replace("NUMBER", &at.to_string()))
            .context("pod")?;
    }
    let text = boot::said(script, &work, &Node::own(), boot::Clock::Host, &["--memory", "6000"])?;
    let field = |name: &str| {
        let found =
            text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse::<f64>().ok());
        found.with_context(|| format!("{name} is missing"))
    };
    let used = field("MemTotal:")? - field("MemAvailable:")?;
    Ok([field("schedstat ")? / 1e6, field("VmRSS:")?, used * 1024.0 / 1e6])
}

/// What the reader of the tables has to know.
fn method(rounds: u32) -> Result<String> {
    Ok(format!(
        "\
{machine}. Rounds: {rounds}, each with init started anew. A cell is the median (least–most).

All but pods: init as process 1 of namespaces, with two services that give signs of life, as in `bench.sh init`. Orphans come
from outside, {CROWD} at a time. Mounts are tmpfs below /run, as pods' are, and are still there at the end. Lines of a hundred
bytes are written to containerd's output for {seconds} s; init says how many bytes are not in the log. Its children are those that drain the outputs and that write the logs.
Pods: a node in QEMU as scripts/boot.sh starts it, with 6,000 MiB; processor time (schedstat) of PID 1 since power-on, and
MemTotal - MemAvailable, once all of them run.",
        machine = machine()?,
        seconds = LOG_TIME.as_secs(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_its_lines() {
        let lines = "kios: [7.500] stopping for power-off\nkios: [7.600] unmount 38ms\nkios: [8.000] power-off\n";
        assert_eq!(took(lines, "unmount "), Some(38.0));
        assert_eq!(took(lines, "sync "), None);
        assert_eq!(lost("kios: [7.500] containerd.log: 1234 bytes lost (degraded)"), Some(1234));
        assert_eq!(lost("kios: [7.500] containerd ready"), None);
        assert_eq!(stamp(lines, "power-off").unwrap() - stamp(lines, "stopping for power-off").unwrap(), 0.5);
    }
}
