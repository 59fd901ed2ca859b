//! The machine's ordered end: pods that have something to lose, and what may stand in the way. Each leaves a clean disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gate::{ROOM, Scenario, scenario};
use crate::image::run;
use crate::lines::{Line, check_order, of_init};
use crate::vm::{Vm, boot, repository, scratch};

/// Milliseconds from the end of the pods to the machine's end, where nothing stands in its way.
const REST_BUDGET: u64 = 2_000;
/// How often the worker writes some lines in its five seconds: the least on a slow machine.
const ROUNDS: usize = 5;

/// Changes a disk that no machine uses.
fn change(disk: &Path, requests: &[String]) {
    for request in requests {
        run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", request]).arg(disk));
    }
}

/// A file of a disk that no machine uses.
fn read(disk: &Path, path: &str) -> String {
    run(Command::new("/usr/sbin/debugfs").args(["-R", &format!("cat {path}")]).arg(disk))
}

/// Checks that a file system needs nothing before it is mounted again.
pub fn check_clean(disk: &Path) {
    let said = run(Command::new("/usr/sbin/dumpe2fs").arg("-h").arg(disk));
    let state = said.lines().find(|line| line.starts_with("Filesystem state:")).expect("state");
    assert!(state.ends_with(" clean"), "{state}");
    assert!(!said.contains("needs_recovery"), "the journal was not written back");
    run(Command::new("/usr/sbin/e2fsck").args(["-f", "-n"]).arg(disk));
}

/// A data disk with the pod `shell` and these of tests/pods/stop.
fn disk(name: &str, pods: &[&str]) -> PathBuf {
    let disk = scratch(name);
    let _ = fs::remove_file(&disk);
    let mut command = Command::new(repository("scripts/boot.sh"));
    command.arg("--build-only").arg("--manifests").arg(repository("tests/pods/shell")).arg("--data").arg(&disk);
    run(&mut command);
    let manifest = |pod: &str| repository(&format!("tests/pods/stop/{pod}.yaml")).display().to_string();
    let mut requests =
        vec!["mkdir /var/lib/work".into(), format!("write {} /var/lib/work/late.yaml", manifest("late"))];
    let place = |pod: &&str| format!("write {} /etc/kubernetes/manifests/{pod}.yaml", manifest(pod));
    requests.extend(pods.iter().map(place));
    change(&disk, &requests);
    disk
}

/// A node with the pod `shell` and these, all of which run.
fn start(scenario: &Scenario, disk: &Path, pods: &[&str]) -> Vm {
    let mut vm = boot(scenario).option("--data", disk).port().start();
    for pod in pods {
        vm.sh(&format!("until grep -q ' {pod} start' /host/var/lib/work/marks; do sleep 0.2; done"));
    }
    vm
}

/// How a machine ended.
struct End {
    /// Init's lines, from the one that says what was asked for.
    lines: Vec<Line>,
    /// What the pods noted: milliseconds since power-on, and what.
    marks: Vec<(u64, String)>,
    /// What the worker wrote.
    file: String,
}

impl End {
    /// Waits for a machine's end, and checks that it is one in order, and the disk clean.
    fn of(scenario: &Scenario, vm: &mut Vm, disk: &Path, request: &str) -> End {
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
        assert_eq!(status, if request == "reboot" { 3 } else { 0 });
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
    fn numbered(&self) -> usize {
        let lines: Vec<_> = self.file.lines().filter(|line| *line != "end").collect();
        for (line, number) in lines.iter().zip(1..) {
            assert_eq!(**line, format!("line {number}"), "the worker's file");
        }
        lines.len()
    }

    /// When these marks came, after each other.
    fn check_marks(&self, marks: &[&str]) {
        let mut rest = self.marks.iter();
        for mark in marks {
            assert!(rest.any(|(_, text)| text == mark), "no mark {mark:?} in its place of {:?}", self.marks);
        }
    }

    /// Checks that the worker did all it does on SIGTERM, and its file is whole.
    fn check_worker(&self) {
        self.check_marks(&["worker start", "worker term", "worker end"]);
        assert!(self.file.ends_with("\nend\n"), "the worker's file has no end");
        let (at, _) = self.marks.iter().find(|(_, text)| text == "worker term").unwrap();
        let (end, _) = self.marks.iter().find(|(_, text)| text == "worker end").unwrap();
        assert!(end - at >= 4_000 && self.numbered() >= 10 * ROUNDS, "the worker was cut short");
    }

    /// Checks that kubelet ended the pods: hooks first, and the critical one after the ordinary one.
    fn check_pods(&self) {
        self.check_worker();
        self.check_marks(&["worker hook", "worker term", "worker end", "critical term", "critical end"]);
    }

    /// Init's line of a phase.
    fn phase(&self, name: &str) -> &Line {
        self.lines.iter().find(|line| line.text.starts_with(name)).unwrap_or_else(|| panic!("no phase {name}"))
    }

    /// Checks that nothing stood in the way once the pods had ended.
    fn check_smooth(&self, scenario: &Scenario) {
        let hitches: Vec<_> = self
            .lines
            .iter()
            .filter(|line| {
                line.text.contains("did not end") || line.text.contains("SIGKILL") && line.text.starts_with("stopped")
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

const PODS: &[&str] = &["worker", "critical"];

#[test]
fn pods_end_in_order() {
    scenario("pods_end_in_order", ROOM, |scenario| {
        let disk = disk("ordered.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS);
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        end.check_smooth(scenario);
        // The worker brought another pod, which kubelet refused.
        assert!(!end.marks.iter().any(|(_, text)| text.starts_with("late ")), "{:?}", end.marks);
        let log = read(&disk, "/var/log/kubelet.log");
        let refused = log.lines().find(|line| line.contains("admission denied") && line.contains("default/late-kios"));
        assert!(refused.expect("kubelet says that it refuses a pod").contains("shutting down"));
        fs::remove_file(disk).unwrap();
    });
}

/// Has the machine stop with one of the services as `script` leaves it: the pods end in order even so.
fn service(name: &'static str, script: &str, request: &str) {
    scenario(name, ROOM, |scenario| {
        let disk = disk(&format!("{name}.ext4"), PODS);
        let mut vm = start(scenario, &disk, PODS);
        vm.sh(script);
        let end = End::of(scenario, &mut vm, &disk, request);
        end.check_pods();
        end.check_smooth(scenario);
        fs::remove_file(disk).unwrap();
    });
}

#[test]
fn kubelet_stopped() {
    service("kubelet_stopped", "kill -STOP $(pidof kubelet); kill -TERM 1", "power-off");
}

#[test]
fn kubelet_killed_before() {
    service("kubelet_killed_before", "kill -KILL $(pidof kubelet); kill -INT 1", "reboot");
}

#[test]
fn kubelet_killed_once_told() {
    let script =
        "pid=$(pidof kubelet); kill -TERM 1; until dmesg | grep -q 'stopping for'; do :; done; kill -KILL $pid";
    service("kubelet_killed_once_told", script, "power-off");
}

#[test]
fn containerd_stopped() {
    service("containerd_stopped", "kill -STOP $(pidof containerd); kill -USR2 1", "power-off");
}

#[test]
fn containerd_killed() {
    service("containerd_killed", "kill -KILL $(pidof containerd); kill -PWR 1", "power-off");
}

/// For programs in containerd's mount namespace, whose /run and /var every process of the node sees.
const TOOLS: &str = "mkdir -p /host/run/stuck/a /host/run/stuck/b /host/run/stuck/c && cp /tmp/stuck /bin/busybox /host/run/stuck/; \
    node() { nsenter -t $(pidof containerd) -m \"$@\"; }; box() { node /run/stuck/busybox \"$@\"; };";

/// File systems that do not answer: one whose server is stopped, with a process that waits for it; one whose server waits
/// for itself, and cannot be killed, with a file of the data disk open.
fn mount_what_hangs(vm: &mut Vm) {
    vm.sh(&format!(
        "{TOOLS} (node /run/stuck/stuck fuse /run/stuck/a &) >/dev/null 2>&1
        until grep -q /run/stuck/a /proc/1/mountinfo; do sleep 0.1; done; (box stat /run/stuck/a/file &) >/dev/null 2>&1
        until dmesg | grep -q 'stuck: request'; do sleep 0.1; done
        mkdir -p /host/var/lib/stuck; (node /run/stuck/stuck self /var/lib/stuck &) >>/host/var/lib/work/log 2>&1
        until [ $(dmesg | grep -c 'stuck: request') = 2 ]; do sleep 0.1; done"
    ));
}

#[test]
fn mounts_that_hang() {
    scenario("mounts_that_hang", ROOM, |scenario| {
        let disk = disk("hang.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS);
        mount_what_hangs(&mut vm);
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        assert!(end.lines.iter().any(|line| line.text == "some processes did not end on SIGKILL"));
        fs::remove_file(disk).unwrap();
    });
}

/// A file system in a file on the data disk, frozen, with a process in it that cannot be killed.
fn freeze_a_file(vm: &mut Vm) {
    vm.sh(&format!(
        "{TOOLS} cd /host/var/lib/work && fallocate -l 16M small && losetup /dev/loop0 small && mke2fs /dev/loop0 >/dev/null && \
        losetup -d /dev/loop0; box mount -t ext4 -o loop /var/lib/work/small /run/stuck/c && box fsfreeze --freeze /run/stuck/c && \
        (box dd if=/dev/zero of=/run/stuck/c/file bs=1k count=1 &) >/dev/null 2>&1
        until ps -o stat,args | grep -q '^D .*/run/stuck/c/file'; do sleep 0.1; done"
    ));
}

#[test]
fn file_system_frozen() {
    scenario("file_system_frozen", ROOM, |scenario| {
        let disk = disk("frozen.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS);
        freeze_a_file(&mut vm);
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        assert!(end.lines.iter().any(|line| line.text == "some processes did not end on SIGKILL"));
        fs::remove_file(disk).unwrap();
    });
}

/// What the kernel itself holds open on the data disk, with no process: a loop device, and swap.
#[test]
fn disk_held_by_the_kernel() {
    scenario("disk_held_by_the_kernel", ROOM, |scenario| {
        let disk = disk("held.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS);
        let held = vm.sh("cd /host/var/lib/work && fallocate -l 1M small && losetup /dev/loop0 small && losetup -a && \
            dd if=/dev/zero of=swap bs=1M count=4 2>/dev/null && mkswap swap >/dev/null && swapon swap && tail -n 1 /proc/swaps");
        scenario.note(&held.replace('\n', ", "));
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        fs::remove_file(disk).unwrap();
    });
}

/// Nothing can be written: not even by init.
#[test]
fn disk_frozen() {
    scenario("disk_frozen", ROOM, |scenario| {
        let disk = disk("frozen-data.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS);
        // The shell itself is stuck from then on: it keeps its files there.
        vm.sh("(sh -c 'until [ -e /host/run/freeze ]; do sleep 0.1; done; fsfreeze --freeze /host/var && \
            echo \"<3>probe: frozen\" >/dev/kmsg; echo x >/host/var/lib/work/stuck' &) >/dev/null 2>&1; true >/host/run/freeze");
        vm.wait_for("probe: frozen");
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        assert!(end.numbered() >= 10);
        fs::remove_file(disk).unwrap();
    });
}
