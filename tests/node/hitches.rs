//! What may stand in the way of the machine's end. Whatever it is, the disk is clean then.

use std::fs;

use kios_init::plan::PODS_LIMIT;

use crate::ending::{End, PODS, asked_by_kernel, disk, start};
use crate::gate::{ROOM, scenario};
use crate::vm::Vm;

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

/// A file system in a file on the data disk, frozen, with a process in it that cannot be killed.
fn freeze_a_file(vm: &mut Vm) {
    vm.sh(&format!(
        "{TOOLS} cd /host/var/lib/work && fallocate -l 16M small && losetup /dev/loop0 small && mke2fs /dev/loop0 >/dev/null && \
        losetup -d /dev/loop0; box mount -t ext4 -o loop /var/lib/work/small /run/stuck/c && box fsfreeze --freeze /run/stuck/c && \
        (box dd if=/dev/zero of=/run/stuck/c/file bs=1k count=1 &) >/dev/null 2>&1
        until ps -o stat,args | grep -q '^D .*/run/stuck/c/file'; do sleep 0.1; done"
    ));
}

/// What hangs when it is asked, and processes that cannot be killed: kubelet does not get its pod `shell` ended either.
#[test]
fn what_hangs() {
    scenario("what_hangs", 1, |scenario| {
        let disk = disk("hangs.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS, &[]);
        mount_what_hangs(&mut vm);
        freeze_a_file(&mut vm);
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        assert!(end.said("some processes did not end on SIGKILL"));
        fs::remove_file(disk).unwrap();
    });
}

/// Processes that nobody gets hold of one by one, in no pod's cgroup, and a pod that does not end on SIGTERM.
#[test]
fn what_ignores_sigterm() {
    scenario("what_ignores_sigterm", ROOM, |scenario| {
        let pods = &[PODS, &["stubborn"]].concat();
        let disk = disk("stubborn.ext4", pods);
        let mut vm = start(scenario, &disk, pods, &[]);
        // With the share of the processors that a pod has which asks for none.
        vm.sh("cd /host/sys/fs/cgroup && mkdir bomb && echo 1 >bomb/cpu.weight && echo $$ >bomb/cgroup.procs && \
            (/tmp/stuck bomb 50 &) >/dev/null 2>&1");
        vm.wait_for("stuck: 50 processes");
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_pods();
        // The ordinary pods' time, and the critical one's after it.
        let pods = end.after("pods ");
        assert!((20_000..PODS_LIMIT).contains(&pods) && !end.said_part("not ended"), "{pods}");
        let critical = end.marks.iter().find(|(_, text)| text == "critical term").unwrap().0;
        assert!(critical - end.lines[0].at >= 20_000, "the critical pod ended before the stubborn one");
        assert!(
            end.said("some processes did not end on SIGTERM") && !end.said("some processes did not end on SIGKILL")
        );
        fs::remove_file(disk).unwrap();
    });
}

/// Nothing fits on the disk any more. Kubelet may evict ordinary pods for it.
#[test]
fn disk_full() {
    scenario("disk_full", 1, |scenario| {
        let pods = &["critical"];
        let disk = disk("full.ext4", pods);
        let mut vm = start(scenario, &disk, pods, &[]);
        // The shell itself keeps its output there.
        vm.attempt(
            "cd /host/var/lib/work && free() { df -k . | awk 'END { print $4 }'; } && \
            fallocate -l $(($(free) - 64))k fill; cat /dev/zero >rest; sync; echo \"<3>probe: $(free) kB free\" >/dev/kmsg",
        );
        vm.wait_for("probe: 0 kB free");
        for _ in 0..20 {
            // More than the rest of the log's last block, by the pipe that containerd prints to; what kubelet removed for want
            // of room is filled up first.
            vm.attempt(
                "cat /dev/zero >>/host/var/lib/work/rest; \
                dd if=/dev/zero bs=1k count=100 2>/dev/null | tr '\\0' x >/proc/$(pidof containerd)/fd/2; sleep 0.5",
            );
            if vm.has("containerd.log: ") {
                break;
            }
        }
        scenario.note(&vm.wait_for("containerd.log: "));
        assert!(vm.has(" bytes lost (degraded)"));
        vm.press_power();
        let end = End::of(scenario, &mut vm, &disk, "power-off");
        end.check_marks(&["critical term", "critical end"]);
        end.check_smooth(scenario);
        fs::remove_file(disk).unwrap();
    });
}

/// What the kernel itself holds open on the data disk, with no process: a loop device. Swap is refused.
#[test]
fn disk_held_by_the_kernel() {
    scenario("disk_held_by_the_kernel", 1, |scenario| {
        let disk = disk("held.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS, &[]);
        let held = vm.sh("cd /host/var/lib/work && fallocate -l 1M small && losetup /dev/loop0 small && losetup -a && \
            dd if=/dev/zero of=swap bs=1M count=4 2>/dev/null && mkswap swap >/dev/null && { swapon swap && exit 1; grep -c / /proc/swaps || true; }");
        scenario.note(&held.replace('\n', ", "));
        vm.sh(&asked_by_kernel("reboot"));
        let end = End::of(scenario, &mut vm, &disk, "reboot");
        end.check_pods();
        end.check_smooth(scenario);
        fs::remove_file(disk).unwrap();
    });
}

/// Nothing can be written: not even by init.
#[test]
fn disk_frozen() {
    scenario("disk_frozen", 1, |scenario| {
        let disk = disk("frozen-data.ext4", PODS);
        let mut vm = start(scenario, &disk, PODS, &[]);
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
