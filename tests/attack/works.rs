//! What must go on working beside all that is held: tools for pods, in pods.

use super::Target;

/// On a node as it booted; the process of container-a.
pub fn before(target: &mut Target) -> String {
    // A debugger in one container, what it debugs in another.
    let said = target.sh("/tmp/intruder into $(pidof hello)");
    let held: Vec<_> = said.lines().filter(|line| !line.ends_with(": open")).collect();
    assert!(held.is_empty(), "into another pod's process: {held:?}");
    target.scenario.note(&format!("{} ways into another pod's process work", said.lines().count()));

    assert_eq!(target.sh("/tmp/intruder observe"), "observe: open", "a BPF program that tells processes by kernel ids");
    let events = "cd /host/sys/kernel/tracing && echo 1 >events/sched/sched_process_exec/enable && /bin/busybox true; \
        grep -c 'filename=/bin/busybox' trace; echo 0 >events/sched/sched_process_exec/enable; echo >trace";
    assert_ne!(target.sh(events), "0", "tracefs");

    // A volume that a driver mounts for kubelet and other pods, and takes off again.
    let place = "/var/lib/kubelet/plugins/driver/volume";
    let sees = format!(
        "for pid in 1 $(pidof containerd) $(pidof kubelet); do grep -c ' {place} ' /proc/$pid/mountinfo; done || true"
    );
    let beside = |target: &mut Target, script: String| assert_eq!(target.beside_containerd(&script).0, 0, "{script}");
    beside(target, format!("mkdir -p {place} && mount -t tmpfs volume {place}"));
    assert_eq!(target.sh(&sees), "1\n1\n1", "a mount where Bidirectional propagation brings it");
    beside(target, format!("umount {place} && rm -r /var/lib/kubelet/plugins/driver"));
    assert_eq!(target.sh(&sees), "0\n0\n0");

    // Every process with its command, process 1 and the services among them.
    let seen = target.sh(
        "for pid in $(ls /proc | grep '^[0-9]'); do [ ! -r /proc/$pid/status ] || { tr '\\0' ' ' </proc/$pid/cmdline; \
         echo; }; done",
    );
    for command in ["/init", "containerd --config", "kubelet --config", "containerd-shim-runc-v2 ", "hello"] {
        assert!(seen.lines().any(|line| line.contains(command)), "{command}: {seen}");
    }
    target.sh("pidof hello")
}

/// On a node that saves its seed every 20 s: there is another one each time.
pub fn saves(target: &mut Target) {
    target.sh(
        "cd /host/var/lib/kios && was=$(md5sum <seed) && for n in $(seq 300); do [ \"$(md5sum <seed)\" = \"$was\" ] || exit 0; \
         sleep 0.1; done; exit 1",
    );
}

/// On a node whose containerd was restarted: what runs in pods that are older.
pub fn after(target: &mut Target, pod: &str) {
    assert_eq!(target.sh("pidof hello"), pod, "container-a's process");
    let said = target.sh("/tmp/intruder into $(pidof hello)");
    assert!(said.lines().all(|line| line.ends_with(": open")), "{said}");
    // As kubelet has it done for exec, attach and debug.
    let said = target.sh("cp /tmp/ctr /host/run/intruder/ && id=$(sed 's|.*/||' /proc/$(pidof hello)/cgroup) && \
         chroot /host /run/intruder/ctr -n k8s.io tasks exec --exec-id intruder $id echo it works");
    assert_eq!(said, "it works", "exec in a container that is older than containerd");
}
