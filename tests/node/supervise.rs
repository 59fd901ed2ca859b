//! Services that are killed or hang while pods run, and an init that hangs: real ones, on a whole machine.

use std::fs;
use std::time::Duration;

use kios_init::plan::{ASK_PAUSE, SILENCE_LIMIT, WATCHDOG_RUN};

use crate::ending::read;
use crate::gate::{Scenario, scenario};
use crate::lines::{Line, of_init, parse};
use crate::vm::{LONG, Vm, boot, scratch};
use crate::watchdog;

/// How much later than planned something may be on a machine that shares its processors, in milliseconds.
const LATE: u64 = 15_000;

/// What runs in pods but the pod `shell` itself: process id, time it was started, name.
const PODS: &str = "own=$(cut -d: -f3 /proc/self/cgroup); for pid in $(find /host/sys/fs/cgroup/kubepods -name cgroup.procs | \
    xargs cat); do grep -q \"$own\" /proc/$pid/cgroup || awk '{ print $1, $22, $2 }' /proc/$pid/stat; done 2>/dev/null | \
    grep -v sleep | sort -n";

/// Waits for a line of init's at `from` or later that begins with `begin` and has `text` in it; its place and itself.
fn expect(vm: &Vm, from: usize, begin: &str, text: &str) -> (usize, Line) {
    let mut found = None;
    vm.poll(text, |vm| {
        let lines = vm.lines();
        let own = lines.iter().enumerate().skip(from).filter_map(|(at, line)| Some((at, parse(line)?)));
        found = own.into_iter().find(|(_, line)| line.text.starts_with(begin) && line.text.contains(text));
        found.is_some()
    });
    found.unwrap()
}

/// Has a script end or hang a service, and waits until that was found out, as `why` says, and the service is ready again. The
/// pods' processes stay the same, and the other service's, but for a silent kubelet: containerd may be the cause. Returns the line that says why.
fn restart(scenario: &Scenario, vm: &mut Vm, service: &str, script: &str, why: &str) -> Line {
    let other = if service == "kubelet" { "containerd" } else { "kubelet" };
    let (pods, stays) = (vm.sh(PODS), vm.sh(&format!("pidof {other}")));
    assert!(pods.lines().count() >= 4, "{pods}");
    let from = vm.here();
    let began = vm.sh(&format!("cut -d' ' -f1 /proc/uptime; {script} $(pidof {service})"));
    let began = began.replace('.', "").parse::<u64>().unwrap() * 10;
    let (_, line) = expect(vm, from, service, why);
    let (at, ended) = expect(vm, from, service, ", next try in ");
    let (_, ready) = expect(vm, at, service, " ready");
    scenario.note(&format!(
        "{script} {service}: after {} ms: {}; {}; ready {} ms later",
        line.at - began,
        line.text,
        ended.text,
        ready.at - ended.at
    ));
    if service == "kubelet" && why.contains("no sign of life") {
        expect(vm, from, other, " leaves kubelet silent, aborting it");
        expect(vm, from, other, " ready");
    } else {
        assert_eq!(vm.sh(&format!("pidof {other}")), stays, "{other} was restarted too");
    }
    assert_eq!(vm.sh(PODS), pods, "pods' processes");
    Line { at: line.at - began, text: ended.text }
}

fn check_silence(line: &Line) {
    assert!((SILENCE_LIMIT - 2 * ASK_PAUSE..SILENCE_LIMIT + LATE).contains(&line.at), "{}", line.at);
    // It is stopped: the abort does not get to it.
    assert!(line.text.contains(" killed by SIGKILL after "), "{}", line.text);
}

/// Kubelet restarts a container, so it knows the pods, and containerd does as it says.
fn check_managed(vm: &mut Vm) {
    let from = vm.here();
    vm.sh("kill -9 $(pidof hello)");
    vm.wait_after(from, "container-a: hello 1");
}

#[test]
fn services_that_end_or_hang() {
    scenario("services_that_end_or_hang", 1, |scenario| {
        let disk = scratch("supervise.ext4");
        let _ = fs::remove_file(&disk);
        let mut vm = boot(scenario).shell().option("--data", &disk).qemu(watchdog::DEVICE).start();
        vm.sh("until pidof hello; do sleep 0.2; done");
        let killed = restart(scenario, &mut vm, "containerd", "kill -9", ", next try in ");
        assert!(killed.text.contains(" killed by SIGKILL after "), "{}", killed.text);
        check_managed(&mut vm);
        restart(scenario, &mut vm, "kubelet", "kill -9", ", next try in ");
        // By which Go programs say what each goroutine does.
        restart(scenario, &mut vm, "kubelet", "kill -ABRT", " exited with 2 after ");
        vm.sh("grep -q 'SIGABRT: abort' /host/var/log/kubelet.log && grep -q '^goroutine [0-9]' /host/var/log/kubelet.log");
        check_silence(&restart(scenario, &mut vm, "containerd", "kill -STOP", " gives no sign of life, aborting it"));
        check_silence(&restart(scenario, &mut vm, "kubelet", "kill -STOP", " gives no sign of life, aborting it"));
        check_managed(&mut vm);
        let lines = of_init(&vm.lines());
        let aborted = lines.iter().filter(|line| line.text.contains("no sign of life")).count();
        assert_eq!(aborted, 2, "a service that lives was aborted");
        // Itself, a drain for each service, the logs' writer: those of the starts before have ended. One that asks comes and goes.
        vm.sh("for try in $(seq 50); do [ $(pidof init | wc -w) = 4 ] && exit; sleep 0.1; done; exit 1");
        freeze_init(scenario, &mut vm);
        drop(vm);
        // The last lines may be lost with the machine.
        let log = read(&disk, "/var/log/init.log");
        let first = log.lines().next().and_then(parse).expect("init's first line");
        assert!(first.text.starts_with("1/12 console "), "{}", first.text);
        assert!(log.contains("no sign of life"));
        fs::remove_file(disk).unwrap();
    });
}

/// A process 1 that hangs resets the machine. It takes no SIGSTOP; its cgroup can be frozen.
fn freeze_init(scenario: &Scenario, vm: &mut Vm) {
    let from = vm.here();
    vm.sh("sync; echo 1 >/host/sys/fs/cgroup/init/cgroup.freeze; grep -q 'frozen 1' /host/sys/fs/cgroup/init/cgroup.events");
    let began = std::time::Instant::now();
    let (status, _) = vm.end();
    let took = began.elapsed();
    scenario.note(&format!("process 1 frozen: the machine was reset after {took:?}"));
    assert_eq!(status, 3, "the machine resets");
    assert!(took >= Duration::from_secs(u64::from(WATCHDOG_RUN.cast_unsigned()) / 2), "something else reset it");
    assert!(
        took <= Duration::from_secs(u64::from(WATCHDOG_RUN.cast_unsigned())) + Duration::from_millis(LATE)
            && took < LONG
    );
    assert!(of_init(&vm.lines()[from..]).is_empty(), "init was not frozen");
}
