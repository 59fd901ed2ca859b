//! The machine's ordered end, by every way to ask for it: pods that have something to lose.

use std::fs;
use std::time::{Duration, Instant};

use kios_init::plan::{AGAIN_AFTER, TERM_LIMIT};

use crate::arch::choose;
use crate::ending::{End, PODS, asked_by_kernel, check_clean, disk, read, start};
use crate::gate::{ROOM, Scenario, scenario};
use crate::lines::{check_order, of_init};
use crate::vm::{Vm, boot};
use crate::watchdog;

#[test]
fn pods_end_in_order() {
    scenario("pods_end_in_order", ROOM, |scenario| {
        let disk = disk("ordered.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS, &[]);
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        end.check_smooth(scenario);
        // The worker brought another pod, which kubelet refused.
        assert!(!end.marks.iter().any(|(_, text)| text.starts_with("late ")), "{:?}", end.marks);
        let log = read(&disk, "/var/log/kubelet.log");
        let refused = log.lines().find(|line| line.contains("admission denied") && line.contains("default/late-"));
        assert!(refused.expect("kubelet says that it refuses a pod").contains("shutting down"));
        drop(vm);
        let requests = [(Vm::press_power as fn(&Vm), "power-off", 0), (Vm::press_ctrl_alt_del, "reboot", 3)];
        // QEMU's machine of aarch64 has no keyboard.
        for (press, request, status) in requests.into_iter().take(choose(2, 1)) {
            let mut vm = boot(scenario).option("--data", &disk).start();
            vm.wait_for("] started containerd");
            press(&vm);
            check_end_at_boot(scenario, &mut vm, request, status);
            check_clean(&disk);
        }
        fs::remove_file(disk).unwrap();
    });
}

/// Checks the end of a machine whose containerd is not ready: there are no pods to wait for.
fn check_end_at_boot(scenario: &Scenario, vm: &mut Vm, request: &str, status: i32) {
    let (ended, _) = vm.end();
    let lines = vm.lines();
    let stopping = format!("stopping for {request}");
    let phases = [
        "] pods ",
        "stopped kubelet ",
        "stopped containerd ",
        "] processes ",
        "] save ",
        "] unmount ",
        "] sync ",
        request,
    ];
    check_order(&lines, &[&["] started containerd", &stopping], &phases[..]].concat());
    let own = of_init(&lines);
    let from = own.iter().position(|line| line.text == stopping).unwrap();
    assert!(
        own[..from].iter().all(|line| line.text != "containerd ready"),
        "it came too late to be asked while it boots"
    );
    assert!(own[from..].iter().all(|line| !line.text.contains("SIGKILL") && !line.text.contains("(degraded")));
    assert_eq!(ended, status);
    scenario.note(&format!("at boot, {request} took {} ms", own.last().unwrap().at - own[from].at));
}

/// The second request, however early the presses begin that are still the first one's.
#[test]
fn power_button_twice() {
    scenario("power_button_twice", ROOM, |scenario| {
        let pods = &[PODS, &["slow"]].concat();
        let disk = disk("twice.ext4", pods);
        let mut vm = start(scenario, &disk, pods, watchdog::DEVICE);
        vm.press_power();
        vm.wait_for("stopping for power-off");
        let mut pressed = Instant::now();
        vm.poll("in a hurry", |vm| {
            // A button that is pressed again before it came up, which a board's does after 100 ms, stays down.
            if pressed.elapsed() > Duration::from_millis(300) {
                vm.press_power();
                pressed = Instant::now();
            }
            vm.has("] pods not ended")
        });
        vm.wait_for("] stopped containerd");
        watchdog::check_armed(&vm);
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        let given_up = end.after("pods not ended");
        assert!((AGAIN_AFTER..AGAIN_AFTER + 1_500).contains(&given_up), "{given_up}");
        // All the same there is SIGTERM for each, and time for what does not take longer than that of the plan.
        end.check_worker();
        end.check_marks(&["critical term", "critical end"]);
        end.check_marks(&["slow term"]);
        assert!(
            end.said("some processes did not end on SIGTERM") && !end.said("some processes did not end on SIGKILL")
        );
        assert!(!end.marks.iter().any(|(_, text)| text == "slow end"), "{:?}", end.marks);
        let rest = end.after("power-off") - given_up;
        assert!((TERM_LIMIT..TERM_LIMIT + 4_000).contains(&rest), "{rest}");
        fs::remove_file(disk).unwrap();
    });
}

/// Has the machine stop with the services as `script` leaves them: the pods end in order even so, which `pods` checks.
fn service(name: &'static str, script: &str, request: &str, pods: fn(&End), last: fn(&Vm), qemu: &[&str]) {
    scenario(name, ROOM, |scenario| {
        let disk = disk(&format!("{name}.ext4"), PODS);
        let mut vm = start(scenario, &disk, PODS, qemu);
        vm.sh(script);
        last(&vm);
        let end = End::of(scenario, &mut vm, &disk, request);
        pods(&end);
        end.check_smooth(scenario);
        fs::remove_file(disk).unwrap();
    });
}

#[test]
fn services_stopped() {
    let script = "kill -STOP $(pidof kubelet) $(pidof containerd); kill -USR1 1";
    service("services_stopped", script, "halt", End::check_pods, watchdog::check_halted, watchdog::DEVICE);
}

#[test]
fn kubelet_killed_before() {
    let script = "kill -KILL $(pidof kubelet); kill -INT 1";
    service("kubelet_killed_before", script, "reboot", End::check_pods, |_| (), &[]);
}

#[test]
fn kubelet_killed_once_told() {
    // Beside the shell, which answers, and may end before kubelet does.
    let script = "pid=$(pidof kubelet); (trap '' TERM; kill -TERM 1; until dmesg | grep -q 'stopping for'; do :; done; \
        kill -KILL $pid) >/dev/null 2>&1 &";
    service("kubelet_killed_once_told", script, "power-off", End::check_pods, |_| (), &[]);
}

#[test]
fn containerd_killed() {
    let script = format!("kill -KILL $(pidof containerd); {}", asked_by_kernel("poweroff"));
    service("containerd_killed", &script, "power-off", End::check_late_pods, |_| (), &[]);
}
