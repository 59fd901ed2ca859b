//! Files that init's children write: links, mounts and pipes put in their place.

use super::{Attack, Target, Verdict};

/// Has the writer of the logs open them again, and kubelet print.
fn reopen(target: &mut Target) {
    wait_for_writer(target);
    let from = target.vm.here();
    target.sh(&format!("{END_CHILDREN}; kill -KILL $(pidof kubelet)"));
    let (at, _) = target.vm.wait_after(from, "ended, starting another");
    target.vm.wait_after(at, "kubelet ready");
    wait_for_writer(target);
}

/// Ends init's children: the writer, and those that drain what the services print.
pub const END_CHILDREN: &str = "for pid in $(pidof init); do [ $pid = 1 ] || kill -KILL $pid; done";

/// Waits until the writer runs again, if it can: it is not started more often than once in the plan's time.
pub fn wait_for_writer(target: &mut Target) {
    let tenths = kios_init::plan::WRITER_PAUSE / 100 + 20;
    target.sh(&format!("for n in $(seq {tenths}); do [ $(pidof init | wc -w) -lt 4 ] || break; sleep 0.1; done"));
}

/// Name, what is put there, what undoes it.
const PLACES: &[(&str, &str, &str)] = &[
    (
        "/var/log led elsewhere",
        "mkdir /host/run/intruder/logs; ln -s ../victim /host/run/intruder/logs/kubelet.log; mv /host/var/log /host/var/log.kept; \
         ln -s /run/intruder/logs /host/var/log",
        "rm /host/var/log; mv /host/var/log.kept /host/var/log",
    ),
    ("a link in kubelet.log's place", "ln -s /run/intruder/victim /host/var/log/kubelet.log", ""),
    (
        "a hard link in kubelet.log's place",
        ": >/host/var/victim; ln /host/var/victim /host/var/log/kubelet.log; ln -sf ../../var/victim /host/run/intruder/victim",
        "rm -f /host/var/victim /host/run/intruder/victim",
    ),
    (
        "a mount on kubelet.log",
        ": >/host/var/log/kubelet.log; nsenter -t $(pidof containerd) -m /run/intruder/busybox mount --bind /run/intruder/victim /var/log/kubelet.log",
        "nsenter -t $(pidof containerd) -m /run/intruder/busybox umount /var/log/kubelet.log",
    ),
];

pub fn attacks(target: &mut Target) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, plant, undo) in PLACES {
        target.sh(&format!("rm -f /host/var/log/kubelet.log; : >/host/run/intruder/victim; {plant}"));
        reopen(target);
        // What kubelet says comes to the writer a moment later.
        let written = target.sh("for n in $(seq 20); do [ -s /host/run/intruder/victim ] && break; sleep 0.1; done; \
            wc -c </host/run/intruder/victim");
        target.sh(&format!("{undo}\nrm -f /host/var/log/kubelet.log"));
        let verdict = if written == "0" {
            Verdict::Held("not followed".into())
        } else if name.contains("hard link") {
            // Of a file that whoever makes the link may write.
            Verdict::Seen(format!("{written} bytes written to another file of the disk"))
        } else {
            Verdict::Broken(format!("{written} bytes written through it"))
        };
        attacks.push(Attack::new(name.to_owned(), verdict));
    }
    attacks
}
