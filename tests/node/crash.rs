//! A kernel that crashes, its disks read-only: the machine starts again, and what the kernel said last is kept.

use std::fs;
use std::time::Instant;

use crate::arch::{arch, choose};
use crate::gate::{ROOM, scenario};
use crate::lines::power_off;
use crate::vm::{boot, scratch};

#[test]
fn a_crash_is_recorded() {
    scenario("a_crash_is_recorded", ROOM, |scenario| {
        let (disk, store) = (scratch("crash.ext4"), scratch("crash.erst"));
        for file in [&disk, &store] {
            let _ = fs::remove_file(file);
        }
        // Where kernels of servers keep them: ACPI's error record serialization table, or the firmware's variables.
        let object = format!("memory-backend-file,id=erst,mem-path={},size=0x20000,share=on", store.display());
        let flash = format!("if=pflash,unit=1,format=raw,file={}", store.display());
        let (table, variables) = (["-object", &object, "-device", "acpi-erst,memdev=erst"], ["-drive", &flash]);
        let qemu: &[&str] = choose(&table, &variables);
        if arch() == "aarch64" {
            fs::copy("/usr/share/AAVMF/AAVMF_VARS.fd", &store).expect("qemu-efi-aarch64");
        }
        let mut vm = boot(scenario).shell().option("--data", &disk).qemu(qemu).start();
        // Before, every disk is made read-only, on which the shell keeps its own files too.
        vm.sh("sync; pid=$(pidof containerd); (sleep 0.5; echo u >/proc/sysrq-trigger; \
            while touch /host/var/lib/writable; do :; done; \
            until dd if=/dev/zero bs=1k count=1 | tr '\\0' x >/proc/$pid/fd/2; dmesg | grep 'bytes lost'; do :; done; \
            echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &");
        scenario.note(&vm.wait_for("containerd.log: "));
        vm.wait_for("Kernel panic - not syncing");
        let began = Instant::now();
        let (status, _) = vm.end();
        scenario.note(&format!("the machine was reset {:?} after the kernel's panic", began.elapsed()));
        assert_eq!(status, 3, "the machine resets");
        drop(vm);

        let mut vm = boot(scenario).option("--data", &disk).qemu(qemu).port().start();
        scenario.note(&vm.wait_for(" crash records moved to /var/log/pstore"));
        let found =
            vm.sh("ls /host/sys/fs/pstore /host/var/log/pstore; cat /host/var/log/pstore/* | grep -a 'Kernel panic'");
        scenario.note(&found.replace('\n', ", "));
        assert!(found.contains("Kernel panic - not syncing: sysrq triggered crash"));
        assert_eq!(vm.sh("ls /host/sys/fs/pstore"), "", "the store was not emptied");
        power_off(scenario, &mut vm);
        for file in [&disk, &store] {
            fs::remove_file(file).unwrap();
        }
    });
}
