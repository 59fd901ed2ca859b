//! The power is cut, again and again, of a node with one data disk: while it boots, writes or stops. What was flushed is
//! there at the next boot, and what was not does no harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kios_init::plan;
use nix::sys::signal::{Signal, kill};

use super::disk::{Disk, Loss};
use super::{Random, asked};
use crate::ending::check_fsck;
use crate::gate::{Scenario, scenario};
use crate::image::{new_disk, run, with_pods_of};
use crate::lines::check_boot;
use crate::vm::{Vm, boot, scratch};

/// In a run of the tests that asks for no number.
const CUTS: usize = 3;
/// One in so many boots comes as far as its pods; and the first and the last.
const EVERY: usize = 4;
/// For the pod to write before its power is cut.
const WRITES: Duration = Duration::from_secs(4);
/// From the end of all processes to a cut: the seed is saved then, and the disk unmounted.
const STOPS: Duration = Duration::from_millis(200);
/// What a node has said, and what it does then; the last thing first.
const PHASES: &[(&str, &str)] = &[
    ("] unmount ", "unmounted"),
    ("] processes ", "saving and unmounting"),
    ("stopping for ", "ending pods"),
    ("writer: starts", "writing"),
    ("kubelet ready", "starting pods"),
    ("containerd ready", "starting kubelet"),
    ("started containerd", "starting containerd"),
    ("kios: [", "boot steps"),
    ("", "before init"),
];

#[test]
fn power_cut() {
    let cuts = asked("KIOS_SOAK_CUTS", CUTS);
    scenario("power_cut", 1, |scenario| {
        let mut random = Random::new(scenario);
        let mut node = Node::new(scenario);
        let (mut done, mut to_pods, mut in_order) = (0, 0, 0);
        while done < cuts {
            let moment = match done {
                _ if done % EVERY != 0 && done + 1 != cuts => Moment::Boot(random.within(node.boots.mul_f64(1.3))),
                _ if to_pods % 2 == 0 => Moment::Writing(random.within(WRITES)),
                _ => Moment::Stopping(random.within(STOPS)),
            };
            let cut = node.boot(&moment, &mut random);
            done += usize::from(cut);
            in_order += usize::from(!cut);
            to_pods += usize::from(cut && !matches!(moment, Moment::Boot(_)));
        }
        scenario.note(&format!(
            "{done} cuts of {cuts}, of which {to_pods} came to their pods; {in_order} ended before their cut; {:?}; of the \
             writes not flushed: {:?}; the pod's last number: {}; a seed: {}",
            node.phases, node.loss, node.number, node.seed
        ));
        assert_eq!(done, cuts);
        fs::remove_file(node.disk).unwrap();
    });
}

/// When the power is cut.
enum Moment {
    /// So long after power-on, whatever the node does then.
    Boot(Duration),
    /// So long after its pods run.
    Writing(Duration),
    /// So long after all processes have ended.
    Stopping(Duration),
}

/// A node, by its disk, and what must be on it.
struct Node<'a> {
    scenario: &'a Scenario,
    disk: PathBuf,
    /// From power-on to the pods.
    boots: Duration,
    /// The pod said that it is there.
    number: u64,
    /// Whether a stop has saved one.
    seed: bool,
    /// What was cut, and how often.
    phases: BTreeMap<&'static str, usize>,
    loss: Loss,
}

impl Node<'_> {
    fn new(scenario: &Scenario) -> Node<'_> {
        let pods = with_pods_of("tests/pods/soak", "cut-manifests");
        let disk = new_disk("cut.ext4", &["--manifests", pods.to_str().unwrap()]);
        let (boots, phases, loss) = (Duration::ZERO, BTreeMap::new(), Loss::default());
        Node { scenario, disk, boots, number: 0, seed: false, phases, loss }
    }

    /// Boots, cuts the power and looks at the disk; false where the machine powered off before the cut.
    fn boot(&mut self, moment: &Moment, random: &mut Random) -> bool {
        let served = Disk::open(&self.disk).serve();
        let file = format!("drive.data.file={}", served.url());
        let mut vm = boot(self.scenario).option("--data", &self.disk).qemu(&["-set", &file]).start();
        let qemu = vm.qemu();
        let began = Instant::now();
        let rest = match *moment {
            Moment::Boot(rest) => rest,
            Moment::Writing(rest) => {
                self.pods_run(&vm, began);
                rest
            }
            Moment::Stopping(rest) => {
                self.pods_run(&vm, began);
                vm.press_power();
                vm.wait_for("] processes ");
                rest
            }
        };
        let in_order = vm.ends_within(rest);
        if !in_order {
            served.power_off();
            kill(qemu, Signal::SIGKILL).unwrap();
        }
        let at = began.elapsed();
        let (status, _) = vm.end();
        let loss = served.end(random);
        let lines = vm.lines();
        let numbers = lines.iter().filter_map(|line| line.strip_prefix("writer: ")?.parse().ok());
        self.number = self.number.max(numbers.max().unwrap_or(0));
        self.seed |= vm.has("] unmount ");
        let bad = lines.iter().find(|line| line.contains("(degraded") || line.contains("EXT4-fs error"));
        assert!(bad.is_none(), "{}", bad.unwrap());
        let phase = PHASES.iter().find(|(said, _)| vm.has(said)).unwrap().1;
        let said = format!("{} after {at:.1?}, {phase}; writes {loss:?}", if in_order { "ended" } else { "cut" });
        if in_order {
            assert_eq!((status, loss), (0, Loss::default()), "{said}");
        } else {
            assert!(vm.has("QEMU failed with status 137"), "{said}");
            *self.phases.entry(phase).or_default() += 1;
        }
        self.loss.kept += loss.kept;
        self.loss.torn += loss.torn;
        self.loss.lost += loss.lost;
        let there = self.check();
        self.scenario.note(&format!("{said}; of {} numbers {there} are there", self.number));
        !in_order
    }

    /// Waits until all of the pods do their work.
    fn pods_run(&mut self, vm: &Vm, began: Instant) {
        let starts = vm.wait_for("writer: starts at ");
        self.boots = began.elapsed();
        // It may have flushed one more than it came to say.
        let number = starts.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        assert!(number >= self.number, "{starts}");
        vm.wait_for(&format!("writer: {}", number + 1));
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        vm.wait_for("late modules: ");
        check_boot(self.scenario, &vm.lines(), &[]);
    }

    /// Checks what a boot would find, on a copy; the pod's number there.
    fn check(&self) -> u64 {
        let disk = scratch("cut-copy.ext4");
        run(Command::new("cp").arg("--sparse=always").arg(&self.disk).arg(&disk));
        // What the kernel does at the mount: the journal, and files that were open though removed. It says "clean" where
        // it looked no further.
        let output = Command::new("/usr/sbin/e2fsck").arg("-p").arg(&disk).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(matches!(output.status.code(), Some(0 | 1)) && said.contains(": clean,"), "{said}");
        check_fsck(&disk);

        let there = file(&disk, "/var/lib/work/number").map_or(0, |text| text.trim_end().parse().expect("a number"));
        assert!(there >= self.number, "{there} is on the disk, the pod knew {} to be", self.number);
        let lines = file(&disk, "/var/lib/work/lines").unwrap_or_default();
        let whole = lines.split_inclusive('\n').zip(1..=there).take_while(|(line, n)| *line == format!("line {n}\n"));
        assert_eq!(whole.count() as u64, there, "the pod's lines");
        match (file(&disk, plan::SEED.to_str().unwrap()), self.seed) {
            (Some(_), _) => assert_eq!(size(&disk, plan::SEED.to_str().unwrap()), plan::SEED_BYTES),
            (None, saved) => assert!(!saved, "the seed is gone"),
        }
        let logs = debugfs(&disk, "ls -p /var/log").expect("/var/log");
        for log in logs.lines().filter_map(|line| line.split('/').nth(5)).filter(|name| name.ends_with(".log")) {
            // What was not flushed may be zeros: ext4 may keep a file's new size before the rest of its last block.
            file(&disk, &format!("/var/log/{log}")).expect("a log");
        }
        fs::remove_file(disk).unwrap();
        there
    }
}

/// What debugfs answers; none where there is no such file.
fn debugfs(disk: &Path, request: &str) -> Option<String> {
    let output = Command::new("/usr/sbin/debugfs").args(["-R", request]).arg(disk).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // The first line is its version.
    let mut errors = errors.lines().skip(1);
    match errors.next() {
        Some(error) if error.contains("File not found by ext2_lookup") => None,
        Some(error) => panic!("{request}: {error}"),
        None => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

fn file(disk: &Path, path: &str) -> Option<String> {
    debugfs(disk, &format!("cat {path}"))
}

fn size(disk: &Path, path: &str) -> usize {
    let said = debugfs(disk, &format!("stat {path}")).expect("a file");
    let size = said.split_once("Size: ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    size.unwrap_or_else(|| panic!("no size: {said}"))
}
