//! The same on the other kind of processor, emulated: from power-on to the pods, and off by the power button. As a machine of a
//! cloud's, with UEFI and ACPI, and as a board, with a device tree and an SD card.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use crate::arch::{static_flags, target_of};
use crate::disk::{check_first_boot, check_table, enlarge, image};
use crate::ending::check_clean;
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{cargo, manifests, new_disk, run};
use crate::lines::{check_boot, power_off};
use crate::processes;
use crate::vm::{Vm, boot, repository, scratch};

const ARCH: &str = "aarch64";

/// The unit tests as one program that needs no C library, in a tar archive.
fn unit_tests() -> PathBuf {
    let (directory, archive) = (scratch("unit-tests"), scratch("unit-tests.tar"));
    let mut command = cargo();
    command.current_dir(repository("")).args([
        "test",
        "--quiet",
        "--locked",
        "--lib",
        "--no-run",
        "--target",
        &target_of(ARCH),
    ]);
    command.arg("--message-format=json").env("CARGO_TARGET_DIR", &directory);
    command.env("CARGO_ENCODED_RUSTFLAGS", static_flags(ARCH).join("\x1f"));
    let said = run(&mut command);
    let messages = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let program = messages
        .filter(|message| message["target"]["name"] == "kios_init")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("a program");
    fs::copy(program, directory.join("unit")).unwrap();
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&directory).arg("unit"));
    archive
}

/// Waits for what a node has to say until its pods run.
fn up(scenario: &Scenario, vm: &Vm) {
    vm.wait_up();
    vm.wait_for("container-a: hello 1");
    vm.wait_for("dhcpcd: bound eth0 10.0.2.15/24");
    check_boot(scenario, &vm.lines(), &[]);
}

#[test]
fn aarch64_board() {
    scenario("aarch64_board", 1, |scenario| {
        let card = new_disk("board.disk", &["--arch", ARCH, "--kernel", "full"]);
        let blank = scratch("board-blank.disk");
        fs::write(&blank, vec![0; 1 << 20]).unwrap();
        let drive = format!("if=none,id=card,format=raw,file={}", card.display());
        let machine = boot(scenario).option("--arch", ARCH).option("--kernel", "full").option("--data", &blank);
        // Most have no clock either.
        let machine = machine.option("--append", "initcall_blacklist=pl031_driver_init");
        let mut vm = machine.qemu(&["-drive", &drive, "-device", "sdhci-pci", "-device", "sd-card,drive=card"]).start();
        up(scenario, &vm);
        assert!(vm.has("data disk /dev/mmcblk0") && vm.has(" cannot be right, set to "));
        power_off(scenario, &mut vm);
        check_clean(&card);
        fs::remove_file(&card).unwrap();
    });
}

#[test]
fn aarch64_image() {
    scenario("aarch64_image", ROOM, |scenario| {
        let disk = image("aarch64.disk", &["--arch", ARCH]);
        enlarge(&disk);
        let mut vm = boot(scenario).option("--arch", ARCH).option("--image", &disk).start();
        check_first_boot(scenario, &mut vm, &disk, 2);
        power_off(scenario, &mut vm);
        // As where power failed while the first copy of the partition table was written.
        OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(&[0; 512], 512).unwrap();
        let mut vm = boot(scenario).option("--arch", ARCH).option("--image", &disk).start();
        up(scenario, &vm);
        assert!(vm.has("data disk /dev/vda2") && !vm.has("data disk grown"));
        power_off(scenario, &mut vm);
        check_table(&disk, 2);
        fs::remove_file(&disk).unwrap();
    });
}

#[test]
fn aarch64_from_power_on_to_pods_to_off() {
    scenario("aarch64_from_power_on_to_pods_to_off", 1, |scenario| {
        let boot = boot(scenario).option("--arch", ARCH).option("--manifests", manifests());
        let mut vm = boot.port_with(&unit_tests()).start();
        up(scenario, &vm);
        assert_eq!(vm.sh("uname -m"), ARCH);
        processes::check(scenario, &mut vm);
        let used = vm.used();
        scenario.note(&format!("MemTotal - MemAvailable with both pods and a third, every 5 s, bytes: {used:?}"));
        let said = vm.sh("/tmp/unit --test-threads=1 2>&1 | tail -n 30");
        scenario.note(said.lines().last().unwrap_or_default());
        assert!(said.contains("test result: ok."), "{said}");
        assert!(!vm.lines().iter().any(|line| line.contains("exited with")));
        power_off(scenario, &mut vm);
    });
}
