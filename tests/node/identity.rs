//! Who the machine is, and what kubelet takes from the data disk, over several boots of one disk; and that disk itself:
//! one that comes late, and one that grew.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arch::choose;
use crate::ending::{change, check_clean, disk, read};
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::run;
use crate::lines::{check_boot, check_order, of_init, power_off};
use crate::shell::encode;
use crate::vm::{Vm, boot, scratch};

/// Boots the disk with the clock that the machine's battery kept.
fn booted(scenario: &Scenario, disk: &Path, clock: &str) -> Vm {
    // The kernel notes whenever it is given a seed, from its own start on.
    let trace = "ftrace=function ftrace_filter=random_ioctl";
    let boot = boot(scenario).option("--data", disk).option("--append", trace).port();
    let vm = boot.qemu(&["-rtc", &format!("base={clock}")]).start();
    vm.wait_up();
    vm
}

/// A request of debugfs(8) that puts a file where kubelet takes it from.
fn put(name: &str, file: &Path) -> String {
    format!("write {} /etc/kubernetes/{name}", file.display())
}

/// The arguments of the kubelet that runs, behind the fixed ones.
fn arguments(vm: &mut Vm) -> Vec<String> {
    let all = vm.sh("tr '\\0' '\\n' </proc/$(pidof kubelet)/cmdline");
    let fixed = kios_init::plan::SERVICES[kios_init::plan::KUBELET].arguments;
    let mut lines = all.lines();
    for argument in fixed {
        assert_eq!(lines.next(), Some(argument.to_str().unwrap()));
    }
    lines.map(str::to_owned).collect()
}

/// How often the kernel was given a seed.
fn credited(vm: &mut Vm) -> String {
    vm.sh("grep -c ' random_ioctl' /host/sys/kernel/tracing/trace || true")
}

/// The seconds that init's line about the clock has it set to; none where it says nothing.
fn clock_set(vm: &Vm) -> Option<u64> {
    let lines = of_init(&vm.lines());
    let line = lines.iter().find(|line| line.text.starts_with("clock "))?;
    Some(line.text.rsplit(' ').next().unwrap().parse().unwrap())
}

/// What of a node must be there after a restart: the machine's id, and what a pod wrote. (An emptyDir is not: kubelet ends its
/// pod with the machine.)
const KEPT: &str = "cat /host/var/lib/kios/machine-id && grep -m 1 'worker start' /host/var/lib/work/marks";

/// The pods' image as it is unpacked, a line for each time, by a file's inode. Two pods that start at once may both unpack it;
/// then one of the two goes.
fn unpacked(vm: &mut Vm) -> Vec<String> {
    let files = "/host/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/bin/busybox";
    vm.sh(&format!("ls -i {files}")).lines().map(str::to_owned).collect()
}

#[test]
fn identity_and_inputs() {
    scenario("identity_and_inputs", ROOM, |scenario| {
        let disk = disk("identity.ext4", &["worker"]);
        let vm = &mut booted(scenario, &disk, "2099-01-01");
        check_boot(scenario, &vm.lines(), &[]);
        let first = clock_set(vm).expect("a clock in 2099 is not believed");
        assert_eq!(first, kios_init::plan::CLOCK_FIRST);
        let id = vm.sh("cat /host/var/lib/kios/machine-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let name = name_of(&id);
        assert_eq!(vm.sh("hostname"), name);
        assert_eq!(arguments(vm), [format!("--hostname-override={name}")]);
        assert_eq!(vm.sh("stat -c '%a %u %s' /host/var/lib/kios/*"), "600 0 33\n600 0 32");
        assert_eq!(credited(vm), "0", "there was no seed");
        vm.sh("until grep -q 'worker start' /host/var/lib/work/marks; do sleep 0.2; done");
        let (kept, layers) = (vm.sh(KEPT), unpacked(vm));
        scenario.note(&format!("kept: {kept:?} {layers:?}"));
        let seed = vm.sh("base64 /host/var/lib/kios/seed");
        let later = vm.sh("sleep 3; date +%s").parse::<u64>().unwrap();
        power_off(scenario, vm);
        check_clean(&disk);

        let (host, address, labels, config) =
            (scratch("host"), scratch("address"), scratch("labels"), scratch("config"));
        fs::write(&config, kubeconfig()).unwrap();
        fs::write(&host, "edge-7.example\n").unwrap();
        fs::write(&address, "10.0.2.15,fd00::15").unwrap();
        fs::write(&labels, "example.com/rack=r-7\nnode.kubernetes.io/instance-type=\n").unwrap();
        let put_all = [put("node-ip", &address), put("node-labels", &labels), put("bootstrap-kubelet.conf", &config)];
        change(&disk, &put_all);
        let vm = &mut booted(scenario, &disk, "1970-01-01");
        check_boot(scenario, &vm.lines(), &[]);
        let second = clock_set(vm).expect("a clock in 1970 is not believed");
        scenario.note(&format!(
            "clock set to {first}, then to {second}, {} s later; it was {later} before",
            second - first
        ));
        assert!((later..later + 120).contains(&second), "{second}");
        let taken = [
            &format!("--hostname-override={name}"),
            "--node-ip=10.0.2.15,fd00::15",
            "--node-labels=example.com/rack=r-7,node.kubernetes.io/instance-type=",
            "--bootstrap-kubeconfig=/proc/self/fd/9",
            "--kubeconfig=/kios/kubelet.conf",
        ];
        // With no API server there: pods run all the same.
        assert_eq!(arguments(vm), taken);
        assert_eq!(credited(vm), "1", "the seed of the boot before, once");
        assert_eq!(vm.sh(KEPT), kept);
        assert!(unpacked(vm).iter().all(|layer| layers.contains(layer)), "unpacked again: not of {layers:?}");
        assert_ne!(vm.sh("base64 /host/var/lib/kios/seed"), seed);
        // What pods make of it changes nothing until the machine starts again.
        let from = vm.here();
        let files = "/host/etc/kubernetes/node-labels /host/etc/kubernetes/bootstrap-kubelet.conf";
        vm.sh(&format!("hostname intruder && rm {files} && kill -KILL $(pidof kubelet)"));
        vm.wait_after(from, "kubelet ready");
        assert_eq!(arguments(vm), taken);
        power_off(scenario, vm);

        fs::write(&host, "edge-7\r\n").unwrap();
        fs::write(&labels, "example.com/rack=r-7\nnode-role.kubernetes.io/control-plane=\n").unwrap();
        fs::write(&config, kubeconfig() + &"# \n".repeat(30_000)).unwrap();
        let change_all = [
            put("hostname", &host),
            "rm /etc/kubernetes/node-ip".into(),
            put("node-labels", &labels),
            "symlink /etc/kubernetes/kubelet.conf /etc/hosts".into(),
            put("bootstrap-kubelet.conf", &config),
            "rm /var/lib/kios/machine-id".into(),
            format!("write {} /var/lib/kios/machine-id", host.display()),
            "cd /etc/kubernetes".into(),
            "mknod node-ip p".into(),
        ];
        change(&disk, &change_all);
        let vm = &mut booted(scenario, &disk, "2030-01-01");
        check_boot(
            scenario,
            &vm.lines(),
            &[
                "(degraded: machine-id: EINVAL)",
                "hostname: EINVAL",
                "node-ip: EINVAL",
                "node-labels: EINVAL",
                "bootstrap-kubelet.conf: E2BIG",
                "kubelet.conf: ELOOP",
            ],
        );
        assert_eq!(clock_set(vm), None);
        // The machine's id was none: it has another one, and by it another name.
        let other = vm.sh("cat /host/var/lib/kios/machine-id");
        assert!(other.len() == 32 && other != id, "{other}");
        assert_eq!(arguments(vm), [format!("--hostname-override={}", name_of(&other))]);
        assert_eq!(vm.sh(KEPT), kept.replace(&id, &other));
        // Last, since nothing is written from then on.
        vm.attempt("echo 1 >/host/sys/fs/ext4/vda/trigger_fs_error");
        vm.wait_for("data disk has an error, and is written no more (degraded)");
        vm.press_power();
        assert_eq!(vm.end().0, 0);
        check_order(&vm.lines(), &["is written no more", "stopping for power-off", "power-off"]);
        // It says that it mended something: the flag.
        let fsck = Command::new("/usr/sbin/e2fsck").args(["-f", "-p"]).arg(&disk).status().unwrap();
        assert_eq!(fsck.code(), Some(1));
        assert_eq!(read(&disk, "/var/lib/kios/machine-id").trim(), other);
        fs::remove_file(disk).unwrap();
    });
}

/// The host name by a machine's id.
fn name_of(id: &str) -> String {
    let words =
        id.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).unwrap(), 16).unwrap());
    format!("kios-{:08x}", words.fold(0, |all, word| all ^ word))
}

/// Bytes of the device that the disk below is on.
const DEVICE: u64 = 1 << 30;

/// A disk with a new file system that comes while it is waited for, and is smaller than its device. On a machine that has no
/// clock of its own.
#[test]
fn late_and_small_data_disk() {
    scenario("late_and_small_data_disk", ROOM, |scenario| {
        let (blank, late) = (scratch("late-blank.disk"), scratch("late.ext4"));
        fs::write(&blank, vec![0; 1 << 20]).unwrap();
        let _ = fs::remove_file(&late);
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-L", "kios-data"]).arg(&late).arg("64M"));
        fs::OpenOptions::new().write(true).open(&late).unwrap().set_len(DEVICE).unwrap();
        let drive = format!("if=none,id=late,format=raw,file={}", late.display());
        let (without_clock, kernel): (&[&str], _) = choose(
            // Else the kernel measures its clock by a timer that this machine has, without an end at times.
            (&["-machine", "microvm,rtc=off,pcie=on,acpi=on"], "tsc_early_khz=2000000 no_timer_check"),
            // The firmware's.
            (&[], "efi=noruntime"),
        );
        let mut vm = boot(scenario)
            .option("--data", &blank)
            .qemu(&["-device", "virtio-scsi-pci,id=scsi", "-drive", &drive])
            .qemu(without_clock)
            .option("--append", kernel)
            .start();
        vm.wait_for("waiting for the data disk");
        vm.ask(r#"{"execute":"device_add","arguments":{"driver":"scsi-hd","bus":"scsi.0","drive":"late"}}"#);
        vm.wait_up();
        check_boot(scenario, &vm.lines(), &[]);
        assert_eq!(clock_set(&vm), Some(kios_init::plan::CLOCK_FIRST));
        check_order(
            &vm.lines(),
            &["waiting for the data disk", "data disk /dev/sda", "data disk grown to 1024 MiB", "9/12 data "],
        );
        // The pods that come with the image, and their images.
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        power_off(scenario, &mut vm);
        check_clean(&late);
        assert_eq!(bytes(&late.display().to_string()), DEVICE);
        let manifests = (kios_init::plan::MANIFESTS.to_str().unwrap(), 0o700);
        let made = kios_init::plan::DATA_DIRECTORIES.iter().map(|(path, mode)| (path.get().to_str().unwrap(), *mode));
        for (path, mode) in made.chain([manifests]) {
            let path = format!("/{path}");
            let said = run(Command::new("/usr/sbin/debugfs").args(["-R", &format!("stat {path}")]).arg(&late));
            assert!(
                said.contains("Type: directory") && said.contains(&format!("Mode:  {mode:04o} ")),
                "{path}: {said}"
            );
            assert!(said.lines().any(|line| line.starts_with("User:     0   Group:     0 ")), "{path}: {said}");
        }
        fs::remove_file(late).unwrap();
    });
}

/// Bytes of a file system, by its superblock; `disk` may say where in the file it begins.
fn bytes(disk: &str) -> u64 {
    let said = run(Command::new("/usr/sbin/debugfs").args(["-R", "stats -h", disk]));
    let number = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    number("Block count:").unwrap() * number("Block size:").unwrap()
}

/// A partition of an NVMe disk, whose file system says that it has errors; with it a kubeconfig, and the machine's name. Then
/// it is a SATA disk, and another data disk is beside it.
#[test]
fn partition_with_errors_and_another_disk() {
    scenario("partition_with_errors_and_another_disk", ROOM, |scenario| {
        let (blank, disk, files) = (scratch("nvme-blank.disk"), scratch("nvme.disk"), scratch("nvme-files"));
        fs::write(&blank, vec![0; 1 << 20]).unwrap();
        let _ = (fs::remove_file(&disk), fs::remove_dir_all(&files));
        fs::create_dir_all(files.join("etc/kubernetes")).unwrap();
        fs::write(files.join("etc/kubernetes/hostname"), "edge-7.example\n").unwrap();
        fs::write(files.join("etc/kubernetes/kubelet.conf"), kubeconfig()).unwrap();
        fs::File::create(&disk).unwrap().set_len(DEVICE).unwrap();
        let partitions = "printf 'label: gpt\\nstart=2048, name=kios-data\\n' | /usr/sbin/sfdisk -q \"$0\"";
        run(Command::new("sh").args(["-c", partitions]).arg(&disk));
        let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
        run(mkfs.args(["-q", "-E", "offset=1048576,root_owner=0:0", "-d"]).arg(&files).arg(&disk).arg("64M"));
        let within = format!("{}?offset=1048576", disk.display());
        run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", "set_super_value state 2", &within]));
        let drive = format!("if=none,id=nvme,format=raw,file={}", disk.display());
        let nvme = ["-drive", &drive, "-device", "nvme,serial=data,drive=nvme"];

        let mut vm = boot(scenario).option("--data", &blank).qemu(&nvme).start();
        vm.wait_up();
        check_boot(scenario, &vm.lines(), &["data disk has errors: check it with e2fsck"]);
        check_order(&vm.lines(), &["data disk /dev/nvme0n1p1", "data disk has errors", "host name edge-7.example"]);
        power_off(scenario, &mut vm);
        assert_eq!(bytes(&within), 64 << 20, "the kernel grows none that has errors");
        let log = run(Command::new("/usr/sbin/debugfs").args(["-R", "cat /var/log/kubelet.log", &within]));
        assert!(log.contains("127.0.0.1:1"), "no kubeconfig");

        // A second one: which it is nobody can say, and both are as they were.
        let before = fs::read(&disk).unwrap();
        let sata = ["-drive", &drive, "-device", "ahci,id=sata", "-device", "ide-hd,drive=nvme,bus=sata.0"];
        let mut vm = boot(scenario).qemu(&sata).start();
        vm.wait_up();
        check_boot(scenario, &vm.lines(), &["(degraded: two data disks: ENOTUNIQ)"]);
        assert!(vm.has("running from memory"));
        power_off(scenario, &mut vm);
        assert!(fs::read(&disk).unwrap() == before, "the disk was written");
        fs::remove_file(disk).unwrap();
    });
}

/// Of an API server that nobody is; but the authority's certificate is one.
fn kubeconfig() -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ed25519", "-noenc", "-keyout", "/dev/null", "-subj", "/CN=nobody"]);
    let authority = encode(run(&mut openssl).as_bytes());
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    \
         server: https://127.0.0.1:1\n  name: c\ncontexts:\n- context:\n    cluster: c\n    user: u\n  name: c\n\
         current-context: c\nkind: Config\nusers:\n- name: u\n  user:\n    token: 07401b.f395accd246ae52d\n"
    )
}
