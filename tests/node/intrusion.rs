//! What the root of a privileged pod in the host's namespaces tries against process 1 and the services, and what becomes
//! of it (design.md, isolation of PID 1). Each way in is also tried where it is open, so that a failure is the node's doing.

use crate::gate::Scenario;
use crate::vm::Vm;

/// The answers of `intruder into` (tests/pods/shell/intruder.rs) for process `pid`.
pub fn ways_into(vm: &mut Vm, pid: &str) -> Vec<(String, String)> {
    let said = vm.sh(&format!("/tmp/intruder into {pid}"));
    let ways: Vec<_> = said.lines().map(|line| line.split_once(": ").expect("name: answer")).collect();
    assert_eq!(ways.len(), 30, "{said}");
    assert!(!said.contains("broken"), "{said}");
    ways.iter().map(|(name, answer)| ((*name).to_owned(), (*answer).to_owned())).collect()
}

/// Looks into process 1 and the services.
pub fn looking(scenario: &Scenario, vm: &mut Vm) {
    let (containerd, kubelet) = (vm.sh("pidof containerd"), vm.sh("pidof kubelet"));
    // The pod descends from containerd, and so shares its domain. All that is held elsewhere is open here.
    let open = ways_into(vm, &containerd);
    assert!(open.iter().all(|(_, answer)| answer == "open"), "{open:?}");
    for (name, pid) in [("process 1", "1"), ("kubelet", &kubelet)] {
        let ways = ways_into(vm, pid);
        assert!(ways.iter().all(|(_, answer)| answer.starts_with("held ")), "{name}: {ways:?}");
        scenario.note(&format!("{} of {} ways into {name} held", ways.len(), ways.len()));
        for flag in ["-m", "-p", "-n", "-u"] {
            let (status, output) = vm.attempt(&format!("nsenter -t {pid} {flag} true"));
            assert!(status != 0 && output.contains("Permission denied"), "nsenter {flag} into {name}: {output}");
        }
    }
    assert_eq!(vm.sh(&format!("nsenter -t {containerd} -m ls /etc/kios")), "containerd.toml\nkubelet.yaml");
    // From a mount namespace that may be opened, the kernel would show the way to the one before and the one after it.
    let walk = vm.sh(&format!("/tmp/intruder walk {containerd}"));
    assert!(walk.lines().count() == 4 && walk.lines().all(|line| line.ends_with(": held EPERM")), "{walk}");
    // And no module brings another way.
    assert_eq!(vm.sh("cat /proc/sys/kernel/modules_disabled"), "1");
}

/// A program for others to start in the node's place: it leaves a mark.
const HELPER: &str = "mkdir -p /host/run/intruder && cp /bin/busybox /tmp/intruder /host/run/intruder/ && \
    printf '#!/run/intruder/busybox sh\\necho $0 $* >>/run/intruder/mark\\n' >/host/run/intruder/helper && \
    chmod 755 /host/run/intruder/helper";
const MARK: &str = "cat /host/run/intruder/mark 2>/dev/null || true";

/// Has the kernel start helpers as root, outside every container.
pub fn helpers(scenario: &Scenario, vm: &mut Vm) {
    vm.sh(HELPER);
    // It does run, where the node's /run is seen; then the mark goes.
    vm.sh("chroot /host /run/intruder/helper && grep -q helper /host/run/intruder/mark && rm /host/run/intruder/mark");
    // The relative ones start from the working directory that the kernel's threads share.
    let helpers = [
        "/run/intruder/helper",
        "/run/intruder/busybox touch /run/intruder/mark",
        "/var/run/intruder/helper",
        "run/intruder/helper",
        "../run/intruder/helper",
        "../../../run/intruder/helper",
    ];
    for helper in helpers {
        vm.sh(&format!("echo '|{helper}' >/proc/sys/kernel/core_pattern"));
        let (status, _) = vm.attempt("sh -c 'kill -SEGV $$'");
        assert_eq!(status, 128 + 11);
        let said = vm.sh("dmesg | grep 'pipe failed' | tail -n 1");
        assert!(said.contains(helper.split(' ').next().unwrap()), "the kernel did not try: {said}");
        assert_eq!(vm.sh(MARK), "");
    }
    vm.sh("echo core >/proc/sys/kernel/core_pattern");
    for helper in ["/run/intruder/helper", "run/intruder/helper"] {
        vm.sh(&format!("echo {helper} >/proc/sys/kernel/modprobe"));
        assert_eq!(vm.sh("cat /proc/sys/kernel/modprobe"), helper);
        // A file system that the kernel does not know has it ask modprobe.
        let (status, _) = vm.attempt("mount -t unheard-of none /mnt");
        assert_ne!(status, 0);
        assert_eq!(vm.sh(MARK), "");
    }
    vm.sh("echo >/proc/sys/kernel/modprobe");
    scenario.note("6 core_pattern helpers and 2 modprobe helpers were not found by the kernel");
}

/// Init's file, started by whom process 1 does not listen to, and by a name that asks for nothing.
pub fn requests(vm: &mut Vm) {
    vm.sh("cd /tmp && ln poweroff reboot && ln poweroff init && echo nobody:x:65534:65534::/: >>/etc/passwd");
    for name in ["poweroff", "reboot"] {
        let said = vm.attempt(&format!("start-stop-daemon -S -c 65534:65534 -x /tmp/{name}"));
        assert_eq!(said, (1, "kios: process 1 takes no signal from you\n".into()), "{name}");
    }
    assert_eq!(vm.attempt("/tmp/init"), (1, "kios: init does nothing unless it is process 1\n".into()));
    assert!(!vm.has("stopping for"));
}

/// Process 1's mounts outside /run and /var, where mounts come and go between the services.
fn first_mounts(vm: &mut Vm) -> String {
    let mounts = vm.sh("cat /proc/1/mountinfo");
    let point = |line: &&str| line.split(' ').nth(4).unwrap().to_owned();
    let below = |point: &str| point.starts_with("/run/") || point.starts_with("/var/");
    let own: Vec<_> = mounts.lines().filter(|line| !below(&point(line))).collect();
    for line in &own {
        let shared = line.split(" - ").next().unwrap().contains(" shared:");
        assert_eq!(shared, ["/run", "/var"].contains(&&*point(line)), "propagation: {line}");
        assert!(!line.contains(" master:"), "{line}");
    }
    own.join("\n")
}

/// Covers what the next start would read or run, in containerd's mount namespace, which the pod can enter.
const COVER: &str = "mount -t tmpfs intruder /etc/kios && echo x >/etc/kios/kubelet.yaml && echo x >/etc/kios/containerd.toml && \
    for name in kubelet containerd containerd-shim-runc-v2 runc; do \
    mount --bind /run/intruder/helper /usr/bin/$name || exit 1; done && \
    mount -t tmpfs intruder /etc/kubernetes && mount -t tmpfs intruder /sys/fs/cgroup && \
    mount -t tmpfs intruder /dev && mount -t tmpfs intruder /tmp && mount -t tmpfs intruder /kios && \
    mount -t tmpfs intruder /proc";

/// Changes containerd's mount namespace, kills the services, and looks at what comes back.
pub fn mounts(scenario: &Scenario, vm: &mut Vm) {
    let before = first_mounts(vm);
    let pod = vm.sh("pidof hello");
    let containerd = vm.sh("pidof containerd");
    let enter = format!("nsenter -t {containerd} -m");

    // The flag may change. The file system has nowhere to write to.
    vm.attempt(&format!("{enter} mount -o remount,rw /"));
    let (status, output) = vm.attempt(&format!("{enter} touch /etc/kios/kubelet.yaml"));
    assert!(status != 0 && output.contains("Read-only file system"), "{output}");

    // Where the next writer of the logs opens kubelet's, process 1's memory: what there is to write finds no file.
    vm.sh(&format!("{enter} mount --bind /proc/1/mem /var/log/kubelet.log"));
    let from = vm.here();
    // The oldest of init's children.
    let writer = vm.sh("pidof init | tr ' ' '\\n' | sort -n | sed -n 2p");
    end_writer(vm, &writer);
    restart(vm, "kubelet");
    let (_, lost) = vm.wait_after(from, "] kubelet.log: ");
    scenario.note(&lost);
    assert!(lost.ends_with(" bytes lost (degraded)"));
    vm.sh(&format!("{enter} umount /var/log/kubelet.log"));
    // Nor is there any more to tell of what was lost: the writer is older than kubelet's drain, and not than containerd's.
    let writer = vm.sh("pidof init | tr ' ' '\\n' | sort -n | sed -n 3p");
    end_writer(vm, &writer);
    vm.sh(&format!("{enter} sh -c '{COVER}'"));
    restart(vm, "kubelet");
    assert_eq!(vm.sh(MARK), "");
    assert_eq!(first_mounts(vm), before, "process 1's mounts");
    let kubelet = vm.sh("pidof kubelet");
    assert_eq!(vm.sh(&format!("grep -c intruder /proc/{kubelet}/mountinfo || true")), "0");

    // Beneath the root there is what is left of the initramfs: nothing that anyone runs, reads or backs the root.
    vm.sh(&format!("/tmp/intruder bare {containerd}"));
    let floor = vm.sh(&format!("/tmp/intruder floor {containerd}"));
    scenario.note(&format!("beneath the root: {}", floor.replace('\n', ", ")));
    let mut left: Vec<_> =
        floor.lines().filter(|line| line.starts_with('/')).map(|line| line.split(' ').next().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, ["/dev", "/dev/console", "/modules", "/modules/order", "/newroot", "/proc", "/root"]);
    assert_eq!(first_mounts(vm), before, "process 1's mounts");

    restart(vm, "containerd");
    assert_eq!(vm.sh(MARK), "");
    let next = vm.sh("pidof containerd");
    assert_eq!(vm.sh(&format!("grep -c intruder /proc/{next}/mountinfo || true")), "0");
    assert_eq!(first_mounts(vm), before, "process 1's mounts");
    // A sibling of the pod's domain now: what ran before the restart cannot look into what runs after it.
    let ways = ways_into(vm, &next);
    assert!(ways.iter().all(|(_, answer)| answer.starts_with("held ")), "{ways:?}");
    restart(vm, "kubelet");
    assert_eq!(vm.sh("pidof hello"), pod, "container-a's process");
    let (from, _) = vm.wait_after(vm.here(), "container-a: hello");
    vm.wait_after(from + 1, "container-a: hello");
    scenario.note(&format!("container-a ran on as process {pod} over restarts of kubelet, containerd, kubelet"));
}

/// Kills the logs' writer, and waits until init has noticed.
fn end_writer(vm: &mut Vm, writer: &str) {
    let from = vm.here();
    vm.sh(&format!("kill -KILL {writer}"));
    vm.wait_after(from, &format!("] logs' writer (pid {writer}) ended, starting another"));
}

/// Kills a service, and waits until it is ready again.
fn restart(vm: &mut Vm, service: &str) {
    let before = vm.sh(&format!("pidof {service}"));
    let from = vm.here();
    vm.sh(&format!("kill -KILL {before}"));
    let (ended, _) = vm.wait_after(from, &format!("] {service} (pid {before}) killed by SIGKILL after "));
    let (started, line) = vm.wait_after(ended, &format!("] started {service} (pid "));
    vm.wait_after(started, &format!("] {service} ready"));
    let after = vm.sh(&format!("pidof {service}"));
    assert!(after != before && line.ends_with(&format!("(pid {after})")), "{before}, {after}: {line}");
}

/// Changes containerd's mount namespace on a machine where process 1 can be looked into, and its mounts entered.
pub fn mounts_unscoped(scenario: &Scenario, vm: &mut Vm) {
    let before = first_mounts(vm);
    vm.sh(HELPER);
    let containerd = vm.sh("pidof containerd");
    vm.sh(&format!("nsenter -t {containerd} -m sh -c '{COVER}'"));
    assert_eq!(first_mounts(vm), before, "process 1's mounts");
    let open = vm.sh("/tmp/intruder into 1");
    let held = open.lines().filter(|line| line.contains(": held ")).collect::<Vec<_>>();
    scenario.note(&format!("held even without Landlock: {held:?}"));
    for way in ["ptrace attach", "ptrace seize"] {
        assert!(open.contains(&format!("{way}: held ")), "{open}");
    }
    restart(vm, "kubelet");
    restart(vm, "containerd");
    assert_eq!(vm.sh(MARK), "");
    assert_eq!(first_mounts(vm), before, "process 1's mounts");
    // What would keep the shims of older pods, which are where it was done, from ending these.
    vm.sh("shim=$(pidof containerd-shim-runc-v2); for place in /proc /dev /sys/fs/cgroup /usr/bin/runc; do \
        nsenter -t ${shim%% *} -m /run/intruder/busybox umount $place || exit 1; done");
}
