//! Mounts, in the mount namespace of the running containerd, which pods may enter: process 1's must not change.

use super::{Attack, Target, Verdict};

/// Process 1's mounts outside /run and /var, where mounts come and go between the services.
fn first_mounts(target: &mut Target) -> String {
    let mounts = target.sh("cat /proc/1/mountinfo");
    let point = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
    let below = |point: &str| point.starts_with("/run/") || point.starts_with("/var/");
    let own: Vec<_> = mounts.lines().filter(|line| !below(&point(line))).collect();
    for line in own.iter().filter(|_| target.defended) {
        let shared = line.split(" - ").next().unwrap().contains(" shared:");
        assert_eq!(shared, ["/run", "/var"].contains(&&*point(line)), "propagation: {line}");
        assert!(!line.contains(" master:"), "{line}");
    }
    own.join("\n")
}

/// Name, what is done, what undoes it.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("tmpfs over /etc/kios", "mount -t tmpfs intruder /etc/kios", "umount -l /etc/kios"),
    ("tmpfs over /usr/bin", "mount -t tmpfs intruder /usr/bin", "umount -l /usr/bin"),
    ("tmpfs over /proc", "mount -t tmpfs intruder /proc", "umount -l /proc"),
    ("tmpfs over /sys/fs/cgroup", "mount -t tmpfs intruder /sys/fs/cgroup", "umount -l /sys/fs/cgroup"),
    ("tmpfs over /dev", "mount -t tmpfs intruder /dev", "umount -l /dev"),
    ("tmpfs over /kios", "mount -t tmpfs intruder /kios", "umount -l /kios"),
    // Not over /etc/kubernetes: where kubelet shares the mounts, it ends the attacker for want of its manifest.
    ("tmpfs over /etc/cni", "mount -t tmpfs intruder /etc/cni", "umount -l /etc/cni"),
    ("bind over kubelet", "mount --bind /run/intruder/helper /usr/bin/kubelet", "umount -l /usr/bin/kubelet"),
    ("bind over containerd", "mount --bind /run/intruder/helper /usr/bin/containerd", "umount -l /usr/bin/containerd"),
    ("bind over runc", "mount --bind /run/intruder/helper /usr/bin/runc", "umount -l /usr/bin/runc"),
    (
        "bind over kubelet.yaml",
        "mount --bind /run/intruder/helper /etc/kios/kubelet.yaml",
        "umount -l /etc/kios/kubelet.yaml",
    ),
    (
        "overlay over /usr",
        "mkdir -p /run/intruder/o && mount -t tmpfs o /run/intruder/o && mkdir -p /run/intruder/o/u /run/intruder/o/w && \
         mount -t overlay o -o lowerdir=/usr,upperdir=/run/intruder/o/u,workdir=/run/intruder/o/w /usr",
        "umount -l /usr; umount -l /run/intruder/o",
    ),
    ("bind of / over /newroot", "mount --bind / /newroot", "umount -l /newroot"),
    ("private propagation of /", "mount --make-rprivate /", "mount --make-rshared /"),
    ("umount of /sys/kernel/tracing", "umount -l /sys/kernel/tracing", "mount -t tracefs tracefs /sys/kernel/tracing"),
    (
        "/tmp moved to /newroot",
        "mount --make-private /; mount --move /tmp /newroot",
        "mount --move /newroot /tmp; mount --make-shared /",
    ),
];

/// What a mount that was made got: process 1's were `before`.
fn judged(target: &mut Target, name: impl Into<String>, before: &str) -> Attack {
    let verdict = if first_mounts(target) == before {
        Verdict::Held("process 1 sees nothing of it".into())
    } else {
        Verdict::Broken("process 1's mounts are changed".into())
    };
    Attack::new(name, verdict)
}

/// Mounts below the pod's own volume, whose propagation takes them to containerd's mount namespace.
pub fn through_volume(target: &mut Target) -> Vec<Attack> {
    let before = first_mounts(target);
    let mut attacks = Vec::new();
    for place in ["/etc/kios", "/usr/bin", "/proc", "/sys/fs/cgroup", "/dev", "/kios"] {
        target.sh(&format!(
            "mount -t tmpfs intruder /host{place} && grep -q ' {place} .* intruder ' /proc/$(pidof containerd || echo 1)/mountinfo"
        ));
        attacks.push(judged(target, format!("through a Bidirectional volume: {place}"), &before));
        target.sh(&format!("umount /host{place}"));
    }
    attacks
}

/// Where the manifests are.
const MANIFESTS: &str = "/host/etc/kubernetes/manifests";

/// Starts a pod that has `part` of the node's file systems at the place of its name. Kubelet binds that for it, of those that
/// it sees itself. Put there whole: kubelet looks again at what it could not read after 20 s.
fn with_part(name: &str, part: &str) -> String {
    let pod = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - name: {name}
      image: localhost/container-a:1
      imagePullPolicy: Never
      command: [sh, -c, "sleep 900"]
      volumeMounts: [{{name: root, mountPath: /{name}, subPath: {part}}}]
  volumes: [{{name: root, hostPath: {{path: /}}}}]
"#
    );
    format!("cat >{MANIFESTS}.new <<'END'{pod}END\nmv {MANIFESTS}.new {MANIFESTS}/{name}.yaml")
}

/// Waits until some process sees `path`, whose root is then in $root, or until `other` succeeds.
fn until_seen(path: &str, other: &str) -> String {
    format!(
        "for n in $(seq 600); do for pid in $(ls /proc 2>/dev/null | grep '^[0-9]'); do root=/proc/$pid/root; \
         [ ! -e $root{path} ] || break 2; done; root=; {other} && break; sleep 0.1; done"
    )
}

/// What kubelet sees and does, by parts of volumes.
pub fn through_kubelet(target: &mut Target) -> Vec<Attack> {
    let said = target.sh(&format!(
        "{}\n{}; [ -z \"$root\" ] || {{ ls $root/seeing; /tmp/intruder forge $root/seeing/notify $(pidof kubelet) STATUS=; }}; \
         rm {MANIFESTS}/seeing.yaml",
        with_part("seeing", "kios"),
        until_seen("/seeing/notify", "grep -m 1 -o 'failed to prepare subPath.*' /host/var/log/kubelet.log")
    ));
    let verdict = if said.contains("forged: open") {
        Verdict::Broken(said.replace('\n', " "))
    } else {
        assert!(said.contains("failed to prepare subPath"), "{said}");
        Verdict::Held("kubelet cannot bind it".into())
    };
    let sockets = Attack::new("kubelet's sockets, as a subPath", verdict);

    target.sh(&format!("{}\n{}; [ -n \"$root\" ]", with_part("part", "usr"), until_seen("/part/bin/mount", "false")));
    let place = "/var/lib/kubelet/pods/*/volume-subpaths/root/part/0/bin/mount";
    let (status, output) = target.beside_containerd(&format!("mount --bind /run/intruder/helper {place}"));
    assert_eq!(status, 0, "{output}");
    let said = target.sh(&format!(
        "{}\n{}; [ -z \"$root\" ] || echo bound; cat /host/run/intruder/mark 2>/dev/null; rm -f /host/run/intruder/mark",
        with_part("more", "usr"),
        until_seen("/more/bin/mount", "[ -e /host/run/intruder/mark ]")
    ));
    target.beside_containerd(&format!("umount {place}"));
    target.sh(&format!("rm {MANIFESTS}/part.yaml {MANIFESTS}/more.yaml"));
    let verdict = if said.lines().last() == Some("bound") {
        Verdict::Held("it runs its own".into())
    } else {
        Verdict::Broken(format!("kubelet runs the intruder's: {}", said.replace('\n', " ")))
    };
    vec![sockets, Attack::new("kubelet's mount program covered, by a subPath of /usr", verdict)]
}

/// Makes them one after the other.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    let before = first_mounts(target);
    let mut attacks = Vec::new();
    let mut judge = |target: &mut Target, name: &str| attacks.push(judged(target, name, &before));
    for (name, act, undo) in MOUNTS {
        let (status, output) = target.beside_containerd(act);
        assert_eq!(status, 0, "{name}: {output}");
        judge(target, name);
        target.beside_containerd(undo);
    }
    // A shim may have run what was bound over runc, in the running containerd's namespace.
    target.sh("rm -f /host/run/intruder/mark");
    for (name, way) in [("open_tree and move_mount", "graft"), ("mount_setattr", "attributes")] {
        target.sh(&format!("/tmp/intruder {way} $(pidof containerd)"));
        judge(target, name);
        target.beside_containerd("umount -l /etc/kios");
    }
    let files = "usr/bin/kubelet usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/runc etc/kios/kubelet.yaml \
                 etc/kios/containerd.toml";
    for (name, places) in [
        ("services' programs and files renamed", files),
        ("directories above them renamed", "etc/kios etc usr/bin usr"),
    ] {
        // And back, where it can be.
        let (status, output) = target.beside_containerd(&format!(
            "mount -o remount,rw / 2>/dev/null; n=0; for place in {places}; do \
             mv /$place /$place.away && n=$((n + 1)) && mv /$place.away /$place; done; echo $n"
        ));
        assert_eq!(status, 0, "{output}");
        let verdict = if output.lines().last() == Some("0") {
            assert!(output.contains("Read-only file system"), "{output}");
            Verdict::Held("EROFS".into())
        } else {
            Verdict::Broken(output.replace('\n', " "))
        };
        attacks.push(Attack::new(name, verdict));
    }
    let (status, output) =
        target.beside_containerd("mount -o remount,rw / && echo \"# intruder\" >>/etc/kios/kubelet.yaml");
    let verdict = if status == 0 {
        Verdict::Broken("the root is written".into())
    } else {
        assert!(output.contains("Read-only file system"), "{output}");
        Verdict::Held("EROFS".into())
    };
    attacks.push(Attack::new("the root remounted, and written", verdict));
    // What is left of the initramfs: nothing that anyone runs, reads or backs the root.
    let beneath = target.sh("/tmp/intruder beneath $(pidof containerd) | sort");
    // systemd's stub adds what nobody reads (.extra).
    let left: Vec<_> = beneath.lines().filter(|path| !path.starts_with("/.extra")).collect();
    let verdict = if left == ["/dev", "/dev/console", "/modules", "/modules/order", "/newroot", "/proc", "/root"] {
        Verdict::Seen(format!("{} empty places", left.len()))
    } else {
        Verdict::Broken(format!("left: {}", left.join(" ")))
    };
    attacks.push(Attack::new("the initramfs beneath the root", verdict));
    attacks
}
