//! System calls and devices that change the running kernel.

use super::{Attack, Target, Verdict, looking};

/// All of `intruder kernel`.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    // Signed for this kernel, and not of the node's image.
    let said = target.sh("/tmp/intruder kernel /tmp/binfmt_misc.ko");
    let mut attacks = looking::answers(&said, str::to_owned);
    attacks.push(devices(target));
    attacks
}

/// Devices whose backing can be changed beneath a file system: a file's, by what is written to it (LOOP_CHANGE_FD,
/// DM_TABLE_LOAD, a write).
fn devices(target: &mut Target) -> Attack {
    let control = target.sh(
        "cd /host/run/intruder && dd if=/dev/zero of=disk bs=64k count=1 2>/dev/null && mknod /tmp/loop7 b 7 7 && losetup /tmp/loop7 disk && \
         echo changed | dd of=disk conv=notrunc 2>/dev/null; head -c 7 /tmp/loop7; losetup -d /tmp/loop7",
    );
    assert_eq!(control, "changed");
    // The device of each mount of process 1's that is neither the data disk's nor a pod's.
    let backed =
        target.sh("awk '$5 !~ \"^/(var|run|etc/|opt/cni/)\" && $3 !~ \"^0:\" { print $3, $5 }' /proc/1/mountinfo");
    let verdict = if backed.is_empty() { Verdict::Held("the root is on none".into()) } else { Verdict::Broken(backed) };
    Attack::new("loop and device-mapper devices", verdict)
        .with_control("a loop device of its own changes with its file")
}
