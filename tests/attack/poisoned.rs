//! A data disk that was prepared elsewhere: what init makes, opens and writes there is not what it seems.

use std::fs;

use crate::ending::{change, check_clean};
use crate::gate::{ROOM, scenario};
use crate::image::new_disk;
use crate::lines::{check_boot, check_order, power_off};
use crate::vm::{boot, scratch};

#[test]
fn poisoned_data_disk() {
    scenario("poisoned_data_disk", ROOM, |scenario| {
        let disk = new_disk("poisoned.ext4", &[]);
        // Far longer than the disk, and of nothing.
        let long = scratch("long");
        fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
        // Links to what a write would ruin, devices and pipes where files are expected, programs that would run as root.
        let poison = [
            "mkdir /var/log",
            "mkdir /var/lib/kios",
            "symlink /var/log/kubelet.log /etc/victim",
            "cd /var/log",
            "mknod containerd.log p",
            "symlink /var/log/init.log.1 /var/victim",
            "symlink /var/log/pstore /var/victims",
            "symlink /var/lib/kios/seed /var/victim",
            "symlink /var/run /etc",
            "cd /var",
            "mknod memory c 1 1",
            "write /bin/true /var/setuid",
            "sif /var/setuid mode 0104755",
            &format!("write {} /var/log/init.log", long.display()),
        ];
        change(&disk, &poison.map(String::from));
        let mut vm = boot(scenario).option("--data", &disk).start();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("late modules: ");
        vm.wait_for("kubelet.log: ");
        vm.wait_for("containerd.log: ");
        check_boot(scenario, &vm.lines(), &["kubelet.log: ", "containerd.log: ", "/var/lib/kios: ELOOP"]);
        // What is lost, and not saved, is said; the end is in order all the same.
        vm.press_power();
        assert_eq!(vm.end().0, 0);
        drop(vm);
        check_clean(&disk);
        let left = change(
            &disk,
            &["stat /var/victim", "stat /var/victims", "stat /var/lib/kios/seed", "stat /var/log/pstore"]
                .map(String::from),
        );
        // The seed is in its place now, and nothing where that led.
        scenario.note(&format!("{} link as it was", left.matches("Type: symlink").count()));
        assert_eq!((left.matches("Type: symlink").count(), left.matches("Type: regular").count()), (1, 1), "{left}");

        // A directory that leads elsewhere: nothing of such a disk is used.
        change(&disk, &["unlink /var/log", "symlink /var/log /run"].map(String::from));
        let mut vm = boot(scenario).option("--data", &disk).start();
        vm.wait_up();
        let lines = vm.lines();
        check_boot(scenario, &lines, &["9/12 data "]);
        check_order(&lines, &["running from memory", "(degraded: var/log: ELOOP)", "containerd ready"]);
        power_off(scenario, &mut vm);
        let _ = fs::remove_file(&disk);
    });
}
