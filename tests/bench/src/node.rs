//! Nodes from the kernel's hand-over to their first pod.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::boot::{Clock, EVENTS, Node, Report, boot};
use crate::init::machine;
use crate::plot::{Bar, draw};
use crate::table::{Spread, markdown, number};

/// What a bar of the plot has for each of [`EVENTS`].
const STRETCHES: [&str; EVENTS.len()] =
    ["to containerd's exec", "to containerd's readiness", "to kubelet's readiness", "to the first pod"];

/// Boots all of them `rounds` times, each once in a round, and prints the table; draws the file `plot` where it has a name.
pub fn run(script: &Path, work: &Path, rounds: u32, clock: Clock, plot: &str) -> Result<()> {
    let list = fs::read_to_string(work.join("nodes")).context("list of nodes")?;
    let nodes = list.lines().map(Node::parse).collect::<Result<Vec<_>>>()?;
    let mut results: Vec<Vec<Report>> = nodes.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (node, reports) in nodes.iter().zip(&mut results) {
            let report = match boot(script, work, node, clock) {
                Ok(report) => report,
                Err(error) => {
                    eprintln!("bench: round {round} of {rounds}: {}: {error:#}", node.name);
                    continue;
                }
            };
            let times: Vec<_> = EVENTS
                .iter()
                .zip(report.times)
                .map(|(event, at)| format!("{event} {at:.2} {}", clock.unit()))
                .collect();
            let names: Vec<_> = report.processes.iter().map(|(name, _)| name.as_str()).collect();
            eprintln!(
                "bench: round {round} of {rounds}: {}: {}, {} KiB in use, {names:?}",
                node.name,
                times.join(", "),
                report.memory
            );
            reports.push(report);
        }
    }
    let failed: Vec<_> = nodes.iter().zip(&results).filter(|(_, reports)| reports.len() < rounds as usize).collect();
    let rows = nodes.iter().zip(&results).map(|(node, reports)| row(node, reports)).collect::<Result<Vec<_>>>()?;
    let [exec, containerd, kubelet, pod] = EVENTS.map(|event| format!("{event}, {}", clock.unit()));
    let head = ["node", "image, MB", &exec, &containerd, &kubelet, &pod, "in use, MB", "processes", "their Pss, MB"];
    print!("{}", markdown(&head, &rows));
    println!("\n{}", method(rounds, clock)?);
    if !plot.is_empty() {
        let bars: Vec<_> = nodes.iter().zip(&results).map(|(node, reports)| bar(node, reports)).collect();
        fs::write(plot, draw(&STRETCHES, &bars)?).with_context(|| plot.to_owned())?;
    }
    for (node, reports) in &failed {
        eprintln!("bench: {}: {} of {rounds} boots failed", node.name, rounds as usize - reports.len());
    }
    ensure!(failed.is_empty(), "not all could be measured");
    Ok(())
}

/// Medians, in the order in which a node starts things. Where the pod runs before kubelet says that it is ready, what comes
/// last ends the bar.
fn bar(node: &Node, reports: &[Report]) -> Bar {
    let median =
        |event| Spread::of(reports.iter().map(|report| report.times[event])).map_or(0.0, |spread| spread.median);
    let mut ends: Vec<_> = (0..EVENTS.len()).map(median).collect();
    ends.sort_by(f64::total_cmp);
    (node.name.clone(), ends)
}

fn row(node: &Node, reports: &[Report]) -> Result<Vec<String>> {
    let mut row = vec![node.name.clone(), number(node.bytes()? as f64 / 1e6, 1)];
    let mut cell = |decimals, value: &dyn Fn(&Report) -> f64| {
        row.push(Spread::of(reports.iter().map(value)).map_or(String::new(), |spread| spread.show(decimals)));
    };
    (0..EVENTS.len()).for_each(|event| cell(2, &|report| report.times[event]));
    cell(0, &|report| report.memory as f64 * 1024.0 / 1e6);
    cell(0, &|report| report.processes.len() as f64);
    cell(1, &|report| report.processes.iter().map(|(_, pss)| *pss as f64 * 1024.0 / 1e6).sum());
    Ok(row)
}

/// What the reader of the table has to know.
fn method(rounds: u32, clock: Clock) -> Result<String> {
    let (processors, times) = match clock {
        Clock::Host => ("2 processors", "seconds"),
        Clock::Instructions => (
            "1 processor, -icount shift=0,sleep=off",
            "virtual seconds (10⁹ instructions; where nothing can run, the time to the next timer)\n ",
        ),
    };
    Ok(format!(
        "\
{machine}. Rounds: {rounds}; in each one every node was booted once, one after another. A cell is the median (least–most).

All ran in QEMU as scripts/boot.sh starts it ({processors}, 1,500 MiB), with the same kernel, the same programs of
containerd, kubelet and runc, the same configurations, images and pods (DHCP, and one that measures), the same data disk as
it is at a first boot, and, but for two of them, with their root on a second disk: an EROFS, compressed alike, which kios-init
reads by dm-verity and finds by its partition's name, and which the others mount from a small program in the initramfs. The floor
(tests/bench/programs/node.rs) mounts, loads modules and starts both services at once, kubelet again where it was first, and
does nothing more. busybox init has a shell script and respawns both, kubelet once there is containerd's socket; systemd, of
Debian's packages, has two units, kubelet's after containerd's, udev, journald, logind, and D-Bus. They load what they need at
boot, and the rest on demand; kios-init loads all that pods may need. Their files are in tests/bench/nodes.

- Times: {times} from the kernel's \"Run /init\", on the clock of its log; by then the kernel has unpacked the initramfs, and
  with it a root in RAM (the floor's is its files as they are, not compressed). To the execve(2) of containerd (a tracepoint, the
  same for all), to READY=1 of containerd and kubelet, and to the first line of the measuring pod's container.
- In use: MemTotal - MemAvailable at that line. Image: initramfs and root.
- Processes that are neither services nor shims nor of a pod; their Pss, or where it cannot be read (kios-init) RSS.",
        machine = machine()?,
    ))
}
