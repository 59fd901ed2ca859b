//! The root in a partition, which is read through a mapping of the device mapper's.

use super::{Attack, Target, Verdict, looking, services};
use crate::vm::Vm;

/// How the names of all of these begin.
const NAME: &str = "disk: ";

fn attack(name: &str, verdict: Verdict) -> Attack {
    Attack::new(format!("{NAME}{name}"), verdict)
}

/// What holds by init's own doing: on the undefended machine it must not.
pub fn tables(target: &mut Target) -> Vec<Attack> {
    let said = target.sh("/tmp/intruder tables kios-root $(cat /sys/class/block/vda2/dev)");
    looking::answers(&said, |name| format!("{NAME}table of {name}"))
        .into_iter()
        .map(|attack| if attack.name.ends_with("removed") { attack.with_control("one of its own is") } else { attack })
        .collect()
}

/// The mapping, its device, and the file system in there.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    let mut attacks = tables(target);
    let control = target.sh(
        "dd if=/dev/zero of=/tmp/disk bs=64k count=1 2>/dev/null && mknod /tmp/loop6 b 7 6 && losetup /tmp/loop6 /tmp/disk && \
         /tmp/intruder write /tmp/loop6; losetup -d /tmp/loop6; rm /tmp/disk",
    );
    assert_eq!(control, "written: open\nmapped and written: open");
    let said = target.sh("/tmp/intruder write /host/dev/dm-0");
    let written = looking::answers(&said, |name| format!("{NAME}the mapping's device {name}"));
    attacks.extend(written.into_iter().map(|attack| attack.with_control("a loop device of its own is")));

    target.sh("/tmp/intruder rename kios-root other");
    let verdict = services::restart(target, "kubelet");
    target.sh("/tmp/intruder rename other kios-root");
    services::settle(target);
    attacks.push(attack("the mapping's name", verdict).with_control("it has another"));

    attacks.push(suspended(target));
    attacks.extend(marked(target));
    attacks
}

/// Nothing comes through the mapping: who starts a service waits, and process 1 does not.
fn suspended(target: &mut Target) -> Attack {
    let pid = services::pid_of(target, "kubelet");
    // One that waits for a page of its program could not be ended.
    target.sh(&format!(
        "kill -STOP {pid}; while grep -qv ') T ' /proc/{pid}/task/*/stat; do sleep 0.1; done; \
         echo 3 >/proc/sys/vm/drop_caches; /tmp/intruder suspend kios-root"
    ));
    services::writer_is_replaced(target, super::places::END_CHILDREN);
    let from = target.vm.here();
    target.sh(&format!("kill -KILL {pid}"));
    let (_, line) = target.vm.wait_after(from, "] started kubelet (pid ");
    let pid = line.split_once("(pid ").unwrap().1.trim_end_matches(')').to_owned();
    // Whoever is to become kubelet sleeps where no signal wakes it.
    target.sh(&format!(
        "for n in 1 2 3 4 5; do until grep -q '(init) D ' /proc/{pid}/stat; do sleep 0.1; done; sleep 0.2; done; \
         /tmp/intruder resume kios-root"
    ));
    services::settle(target);
    attack("the mapping suspended", Verdict::Stops("until it is resumed".into()))
        .with_control("who starts a service waits meanwhile")
}

/// The file system that the root image is a file of: a mark there is asked for each opening, and told of each use.
fn marked(target: &mut Target) -> Vec<Attack> {
    let mount = "mkdir -p /run/intruder/partition && mount -t erofs -o ro /dev/dm-0 /run/intruder/partition";
    let (status, output) = target.beside_containerd(&format!(
        "{mount} && {{ \
         /run/intruder/intruder refuse 90 /run/intruder/partition/root.erofs /run >/run/intruder/refused 2>&1 & \
         until [ -s /run/intruder/refused ]; do sleep 0.1; done; grep -q open /run/intruder/refused; }}"
    ));
    assert_eq!(status, 0, "{output}");
    let refused = services::restart(target, "kubelet");
    target.sh("kill $(pidof intruder) || true");
    services::settle(target);

    target.beside_containerd("/run/intruder/intruder hear /run/intruder/partition 120 >/run/intruder/heard 2>&1 &");
    target.sh(services::MARKED);
    let verdict = services::restart(target, "kubelet");
    services::settle(target);
    assert_eq!(verdict, Verdict::Held(services::AS_BEFORE.into()));
    let said = target.sh("cd /host/run/intruder; until grep -q . heard; do sleep 0.1; done; cat heard");
    target.beside_containerd("umount /run/intruder/partition");
    let heard = looking::answers(&said, |_| format!("{NAME}the image's file, by fanotify"));
    let control = format!(
        "/tmp/intruder hear /host/run 60 >/tmp/heard 2>&1 & {}; cat /host/run/intruder/helper >/dev/null; wait $!; cat /tmp/heard",
        services::MARKED
    );
    assert_eq!(target.sh(&control), "image: open");
    let mut attacks: Vec<_> = heard
        .into_iter()
        .map(|attack| attack.with_control("of another file it brings a descriptor to write"))
        .collect();
    attacks.push(
        attack("fanotify: opening the image's file refused", refused).with_control("others of that name are refused"),
    );
    attacks
}

/// Zeros over the whole partition: no service starts any more, and nothing else does. The last attack of all.
pub fn overwritten(target: &mut Target) -> Attack {
    let from = target.vm.here();
    // At the partition's end dd fails, and does not get to its fsync.
    target.sh("dd if=/dev/zero of=/host/dev/vda2 bs=1M 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches; \
         kill -KILL $(pidof kubelet) $(pidof containerd) || true");
    target.vm.wait_after(from, "device-mapper: verity: ");
    // A service may start by what is in memory still, and ends by what is not.
    let fails = |line: &String| {
        line.starts_with("kios: ")
            && (line.ends_with(": EIO") || line.contains("] containerd (pid ") && line.contains(" exited with "))
    };
    let ends = |vm: &Vm| vm.lines().into_iter().skip(from).filter(fails).collect::<Vec<_>>();
    target.vm.poll("services that do not start", |vm| ends(vm).len() > 2);
    let ends = ends(target.vm);
    let ready = target.vm.lines()[from..].iter().any(|line| line.ends_with("] kubelet ready"));
    let verdict = if ready {
        Verdict::Broken("kubelet is ready".into())
    } else {
        Verdict::Stops(ends[2].split_once("] ").unwrap().1.into())
    };
    attack("the partition overwritten", verdict).with_control("no service starts any more")
}
