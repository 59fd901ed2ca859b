//! Nodes that start otherwise, or with something missing: each says so in one line, and goes on.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::ending::change;
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{initramfs, run};
use crate::lines::{check_boot, check_order, check_stop, of_init, power_off};
use crate::vm::{Vm, boot, repository, scratch};
use crate::{arch, attack};

#[test]
fn node_boots_from_tmpfs_and_ignores_the_command_line() {
    scenario("node_boots_from_tmpfs_and_ignores_the_command_line", ROOM, |scenario| {
        let arguments = "rootfstype=tmpfs init=/bin/sh kios.anything=1 -- --help";
        let mut vm = boot(scenario).option("--append", arguments).start();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        check_boot(scenario, &vm.lines(), &[]);
        let from = vm.here();
        // QEMU's machine of aarch64 has no keyboard.
        let (press, request, expected) =
            arch::choose((Vm::press_ctrl_alt_del as fn(&Vm), "reboot", 3), (Vm::press_power, "power-off", 0));
        press(&vm);
        let (status, _) = vm.end();
        check_stop(scenario, &vm.lines()[from..], request);
        assert_eq!(status, expected);
    });
}

/// The image's kubelet.yaml with a server on, for the node alone and for a client that knows no TLS 1.3.
fn kubelet_with_server() -> String {
    let part = |name| fs::read_to_string(repository(&format!("scripts/image/kubelet/{name}.yaml"))).unwrap();
    let mut text = part("both") + &part("alone");
    for (from, to) in [
        ("enableServer: false\n", "enableServer: true\naddress: 127.0.0.1\n"),
        ("enableDebuggingHandlers: false", "enableDebuggingHandlers: true"),
        ("VersionTLS13", "VersionTLS12"),
        ("serverTLSBootstrap: true", "serverTLSBootstrap: false"),
    ] {
        assert!(text.contains(from));
        text = text.replace(from, to);
    }
    let file = scratch("kubelet.yaml");
    fs::write(&file, text).unwrap();
    format!("etc/kios/kubelet.yaml={}", file.display())
}

/// Kubelet's node log query (NodeLogQuery, as `kubectl get --raw /api/v1/nodes/N/proxy/logs/?query=…`) finds the logs.
fn query_logs(scenario: &Scenario, vm: &mut Vm) {
    for (service, line) in
        [("kubelet", "Started kubelet"), ("containerd", "containerd successfully booted"), ("init", "kubelet ready")]
    {
        let url = format!("https://127.0.0.1:10250/logs/?query={service}");
        let said = vm.sh(&format!("wget -q -O - --no-check-certificate '{url}' | grep -m 1 '{line}'"));
        scenario.note(&format!("/logs/?query={service}: {said}"));
    }
}

#[test]
fn files_in_the_initramfs_as_root() {
    scenario("files_in_the_initramfs_as_root", ROOM, |scenario| {
        let without = ["--plain", "--without", "usr/lib/kios/modules/virtio-rng.ko", "--with", &kubelet_with_server()];
        let initrd = initramfs("plain.initramfs", &without);
        let mut vm = boot(scenario).shell().initramfs(&initrd).start();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        let lines = vm.lines();
        check_boot(scenario, &lines, &["virtio-rng.ko: ENOENT (degraded)", "7/12 modules "]);
        check_order(&lines, &["root in the initramfs' own files, which pods can write", "2/12 root "]);
        vm.sh("echo x >/host/etc/written && rm /host/etc/written");
        query_logs(scenario, &mut vm);
        power_off(scenario, &mut vm);
        fs::remove_file(initrd).unwrap();
    });
}

#[test]
fn no_data_disk() {
    scenario("no_data_disk", ROOM, |scenario| {
        let disk = scratch("blank.disk");
        fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let mut vm = boot(scenario).option("--data", &disk).start();
        vm.wait_up();
        let lines = vm.lines();
        check_boot(scenario, &lines, &["9/12 data "]);
        check_order(&lines, &["running from memory", "(degraded: no data disk: ENODEV)", "containerd ready"]);
        // The pods that come with the image.
        vm.wait_for("container-a: hello 1");
        power_off(scenario, &mut vm);
        assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0), "the blank disk was written");
    });
}

/// One whose superblock has a wrong checksum, and one for which the kernel would wait for a day and a half (multiple mount
/// protection, fs/ext4/mmp.c).
#[test]
fn damaged_data_disk() {
    scenario("damaged_data_disk", ROOM, |scenario| {
        let (damaged, waiting) = (scratch("damaged.ext4"), scratch("waiting.ext4"));
        for (disk, feature) in [(&damaged, "^mmp"), (&waiting, "mmp")] {
            let _ = fs::remove_file(disk);
            fs::File::create(disk).unwrap().set_len(32 << 20).unwrap();
            let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
            run(mkfs.args(["-q", "-F", "-L", "kios-data", "-O", feature]).arg(disk));
        }
        // The last word of the superblock is its checksum (ext4: Documentation/filesystems/ext4/super.rst).
        fs::OpenOptions::new().write(true).open(&damaged).unwrap().write_all_at(&[0xAA; 4], 1024 + 0x3FC).unwrap();
        let in_use = ["set_mmp_value seq 5", "set_mmp_value check_interval 65535"].map(str::to_owned);
        change(&waiting, &in_use);
        for (disk, why) in [(&damaged, "mount data disk: E"), (&waiting, "multiple mount protection: EOPNOTSUPP")] {
            let before = fs::read(disk).unwrap();
            let mut vm = boot(scenario).option("--data", disk).start();
            vm.wait_up();
            let lines = vm.lines();
            check_boot(scenario, &lines, &["9/12 data "]);
            check_order(&lines, &["running from memory", "9/12 data ", "containerd ready"]);
            let said: Vec<_> = of_init(&lines).into_iter().filter(|line| line.text.contains(why)).collect();
            assert_eq!(said.len(), 1, "one line about the disk");
            scenario.note(&said[0].text);
            power_off(scenario, &mut vm);
            assert!(fs::read(disk).unwrap() == before, "the disk was written");
        }
    });
}

#[test]
fn landlock_missing() {
    scenario("landlock_missing", ROOM, |scenario| {
        let mut vm = boot(scenario).shell().option("--append", "lsm=lockdown,yama").start();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("late modules: ");
        let lines = vm.lines();
        check_boot(scenario, &lines, &["landlock scope, process 1 is less isolated: E"]);
        let said = of_init(&lines).into_iter().find(|line| line.text.starts_with("12/12 isolation ")).unwrap();
        scenario.note(&said.text);
        assert_eq!(vm.sh("cat /proc/sys/kernel/yama/ptrace_scope"), "3");
        let output = vm.attempt("echo 0 >/proc/sys/kernel/yama/ptrace_scope").1;
        assert!(output.contains("Invalid argument"), "ptrace_scope can be lowered: {output}");
        attack::without_landlock(scenario, &mut vm);
        // The other way to ask for a reboot that a pod has.
        let from = vm.here();
        vm.sh("kill -INT 1");
        let (status, _) = vm.end();
        check_stop(scenario, &vm.lines()[from..], "reboot");
        assert_eq!(status, 3, "the machine resets");
    });
}

#[test]
fn no_console() {
    scenario("no_console", ROOM, |scenario| {
        // The last -append counts; there is no such port.
        let line = "console=ttyS5 rootfstype=ramfs quiet panic=10";
        // ACPI of aarch64 names the console whatever the command line says; a device tree does not.
        let boot = boot(scenario).shell().option("--kernel", arch::choose("cloud", "full"));
        let mut vm = boot.qemu(&["-append", line]).start();
        vm.wait_for("starting QEMU");
        let own = vm.sh("until dmesg | grep -q 'late modules: '; do sleep 1; done; dmesg | grep -o 'kios: .*'");
        let own: Vec<_> = own.lines().map(str::to_owned).collect();
        check_boot(scenario, &own, &["1/12 console "]);
        scenario.note(&own[0]);
        assert!(own[0].contains("(degraded: /dev/console: E"), "{}", own[0]);
        check_order(&own, &["started containerd", "started kubelet", "containerd ready", "kubelet ready"]);
        // A pod may have the port for itself.
        vm.sh(&format!("echo probe: written to the port >/host/dev/{}", arch::console()));
        vm.wait_for("probe: written to the port");
        vm.sh("until grep -q 'container-a: hello' /host/var/log/pods/default_container-a*/container-a/*.log; do sleep 1; done");
        vm.press_power();
        let (status, _) = vm.end();
        assert_eq!(status, 1, "boot.sh cannot see that the end was in order");
        assert!(
            vm.lines().iter().any(|line| line.contains("ended without saying that it powers off (guest-shutdown)"))
        );
        assert!(!vm.lines().iter().any(|line| line.starts_with("kios: ")));
    });
}
