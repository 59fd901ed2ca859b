//! How a machine ended: what init said, what its pods noted, and the disk it left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gate::Scenario;
use crate::image::{new_disk, run};
use crate::lines::{Line, check_order, of_init};
use crate::vm::{Vm, boot, repository};

/// Milliseconds from the end of the pods to the machine's end, where nothing stands in its way.
const REST_BUDGET: u64 = 2_000;
/// How often the worker writes some lines in its five seconds: the least on a slow machine.
const ROUNDS: usize = 5;

/// Milliseconds that kubelet gives the ordinary pods: shutdownGracePeriod without shutdownGracePeriodCriticalPods (kubelet.yaml).
const ORDINARY_TIME: u64 = 20_000;

/// A pod that has something to lose, and a critical one.
pub const PODS: &[&str] = &["worker", "critical"];

/// Changes a disk that no machine uses, by requests of debugfs(8); what it says.
pub fn change(disk: &Path, requests: &[String]) -> String {
    let script = disk.with_extension("requests");
    fs::write(&script, requests.join("\n") + "\n").unwrap();
    run(Command::new("/usr/sbin/debugfs").args(["-w", "-f"]).arg(&script).arg(disk))
}

/// A file of a disk that no machine uses.
pub fn read(disk: &Path, path: &str) -> String {
    run(Command::new("/usr/sbin/debugfs").args(["-R", &format!("cat {path}")]).arg(disk))
}

/// Checks that a file system needs nothing before it is mounted again.
pub fn check_clean(disk: &Path) {
    let said = run(Command::new("/usr/sbin/dumpe2fs").arg("-h").arg(disk));
    let state = said.lines().find(|line| line.starts_with("Filesystem state:")).expect("state");
    assert!(state.ends_with(" clean"), "{state}");
    assert!(!said.contains("needs_recovery"), "the journal was not written back");
    check_fsck(disk);
}

/// Checks that e2fsck finds nothing in a file system, its journal apart.
pub fn check_fsck(disk: &Path) {
    run(Command::new("/usr/sbin/e2fsck").args(["-f", "-n"]).arg(disk));
}

/// A data disk with the pod `shell` and these of tests/pods/stop.
pub fn disk(name: &str, pods: &[&str]) -> PathBuf {
    let disk = new_disk(name, &["--manifests", repository("tests/pods/shell").to_str().unwrap()]);
    let manifest = |pod: &str| repository(&format!("tests/pods/stop/{pod}.yaml")).display().to_string();
    let mut requests =
        vec!["mkdir /var/lib/work".into(), format!("write {} /var/lib/work/late.yaml", manifest("late"))];
    let place = |pod: &&str| format!("write {} /etc/kubernetes/manifests/{pod}.yaml", manifest(pod));
    requests.extend(pods.iter().map(place));
    change(&disk, &requests);
    disk
}

/// A node with the pod `shell` and these, all of which run, and these arguments for QEMU.
pub fn start(scenario: &Scenario, disk: &Path, pods: &[&str], qemu: &[&str]) -> Vm {
    let mut vm = boot(scenario).option("--data", disk).qemu(qemu).port().start();
    for pod in pods {
        vm.sh(&format!("until grep -q ' {pod} start' /host/var/lib/work/marks; do sleep 0.2; done"));
    }
    vm
}

/// A script for the pod `shell` that has the kernel itself run `/sbin/poweroff` or `/sbin/reboot`, which are init.
pub fn asked_by_kernel(name: &str) -> String {
    format!("echo '|/sbin/{name}' >/proc/sys/kernel/core_pattern; sh -c 'kill -SEGV $$'; [ $? = 139 ]")
}

/// How a machine ended.
pub struct End {
    /// Init's lines, from the one that says what was asked for.
    pub lines: Vec<Line>,
    /// What the pods noted: milliseconds since power-on, and what.
    pub marks: Vec<(u64, String)>,
    /// What the worker wrote.
    pub file: String,
}

impl End {
    /// Waits for a machine's end, and checks that it is one in order, and the disk clean.
    pub fn of(scenario: &Scenario, vm: &mut Vm, disk: &Path, request: &str) -> End {
        let (status, _) = vm.end();
        let lines = vm.lines();
        let stopping = format!("stopping for {request}");
        let from = lines.iter().position(|line| line.contains(&stopping)).expect("stopping");
        let own = of_init(&lines[from..]);
        let began = own[0].at;
        let since = |(at, text): (u64, &str)| format!("{} {text}", at.saturating_sub(began));
        let said: Vec<_> = own.iter().map(|line| since((line.at, &line.text))).collect();
        scenario.note(&format!("ms: {}", said.join(", ")));
        check_order(
            &lines[from..],
            &[&stopping, "] pods ", "] processes ", "] save ", "] unmount ", "] sync ", request],
        );
        assert_eq!(own.last().unwrap().text, request);
        assert!(own.last().unwrap().at - began <= kios_init::plan::STOP_SUM + 1_000, "it took too long");
        // That a halted machine's end was in order boot.sh cannot see.
        assert_eq!(status, if request == "reboot" { 3 } else { i32::from(request == "halt") });
        let (marks, file) = (read(disk, "/var/lib/work/marks"), read(disk, "/var/lib/work/file"));
        let marks: Vec<_> = marks.lines().map(mark).collect();
        let after = marks.iter().filter(|(at, _)| *at >= began);
        let noted: Vec<_> = after.map(|(at, text)| since((*at, text))).collect();
        scenario.note(&format!("pods: {}", noted.join(", ")));
        let end = End { lines: own, marks, file };
        scenario.note(&format!("file: {} lines", end.numbered()));
        check_clean(disk);
        end
    }

    /// How many of the worker's lines there are, which must be whole and in sequence.
    pub fn numbered(&self) -> usize {
        let lines: Vec<_> = self.file.lines().filter(|line| *line != "end").collect();
        for (line, number) in lines.iter().zip(1..) {
            assert_eq!(**line, format!("line {number}"), "the worker's file");
        }
        lines.len()
    }

    /// When these marks came, after each other.
    pub fn check_marks(&self, marks: &[&str]) {
        let mut rest = self.marks.iter();
        for mark in marks {
            assert!(rest.any(|(_, text)| text == mark), "no mark {mark:?} in its place of {:?}", self.marks);
        }
    }

    /// Checks that the worker did all it does on SIGTERM, and its file is whole.
    pub fn check_worker(&self) {
        self.check_marks(&["worker start", "worker term", "worker end"]);
        assert!(self.file.ends_with("\nend\n"), "the worker's file has no end");
        let (at, _) = self.marks.iter().find(|(_, text)| text == "worker term").unwrap();
        let (end, _) = self.marks.iter().find(|(_, text)| text == "worker end").unwrap();
        assert!(end - at >= 4_000 && self.numbered() >= 10 * ROUNDS, "the worker was cut short");
    }

    /// Checks that kubelet ended the pods: hooks first, and the critical one after the ordinary one.
    pub fn check_pods(&self) {
        self.check_worker();
        self.check_marks(&["worker hook", "worker term", "worker end", "critical term", "critical end"]);
    }

    /// The same where containerd is not there when kubelet begins: that tries again after 10 to 15 s only (pod_workers.go:1061,
    /// kubelet.go:223), and the worker takes another 5. Once the ordinary pods' time is over the critical one's has come.
    pub fn check_late_pods(&self) {
        let over = self.lines[0].at + ORDINARY_TIME;
        let at = |mark: &str| self.marks.iter().find(|(_, text)| text == mark).map_or(0, |(at, _)| *at);
        if at("worker end") < over {
            return self.check_pods();
        }
        self.check_worker();
        self.check_marks(&["worker hook", "worker term", "worker end"]);
        self.check_marks(&["critical term", "critical end"]);
        assert!(at("critical term") >= over, "{over}: {:?}", self.marks);
    }

    /// Init's line of a phase.
    pub fn phase(&self, name: &str) -> &Line {
        self.lines.iter().find(|line| line.text.starts_with(name)).unwrap_or_else(|| panic!("no phase {name}"))
    }

    /// Milliseconds from the request to init's line of a phase.
    pub fn after(&self, name: &str) -> u64 {
        self.phase(name).at - self.lines[0].at
    }

    /// Whether init said this line.
    pub fn said(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.text == text)
    }

    /// Whether one of init's lines has `text` in it.
    pub fn said_part(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.text.contains(text))
    }

    /// Checks that nothing stood in the way once the pods had ended.
    pub fn check_smooth(&self, scenario: &Scenario) {
        let hitches: Vec<_> = self
            .lines
            .iter()
            .filter(|line| {
                line.text.contains("did not end")
                    || line.text.contains("not ended")
                    || line.text.contains("SIGKILL") && line.text.starts_with("stopped")
            })
            .collect();
        assert!(hitches.is_empty(), "{}", hitches[0].text);
        let rest = self.lines.last().unwrap().at - self.phase("pods ").at;
        scenario.note(&format!("from the pods' end to the machine's: {rest} ms"));
        assert!(rest <= REST_BUDGET);
    }
}

/// A line of the pods': seconds since power-on, who, what.
fn mark(line: &str) -> (u64, String) {
    let (at, what) = line.split_once(' ').expect("a mark");
    let (seconds, hundredths) = at.split_once('.').expect("a time");
    (seconds.parse::<u64>().unwrap() * 1_000 + hundredths.parse::<u64>().unwrap() * 10, what.to_owned())
}
