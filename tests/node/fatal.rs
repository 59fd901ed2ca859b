//! Root images that are none: one line that says so, a restart after the pause, and not before.

use std::fs;
use std::time::Duration;

use crate::gate::{ROOM, scenario};
use crate::image::{built, initramfs};
use crate::lines::of_init;
use crate::vm::{Vm, boot, scratch};

const PAUSE: Duration = Duration::from_millis(kios_init::plan::FATAL_PAUSE);

#[test]
fn root_images_that_are_none() {
    scenario("root_images_that_are_none", ROOM, |scenario| {
        let image = fs::read(built("ROOT")).unwrap();
        let changed = |name: &str, bytes: &[u8]| {
            let root = scratch(&format!("{name}.erofs"));
            fs::write(&root, bytes).unwrap();
            let initrd = initramfs(&format!("{name}.initramfs"), &["--root", root.to_str().unwrap()]);
            fs::remove_file(root).unwrap();
            initrd
        };
        // The superblock lies at 1024: its magic first; the volume name at 64, which nothing but the checksum covers.
        let with = |at: usize| {
            let mut bytes = image.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cases = [
            ("missing", initramfs("missing.initramfs", &["--without-root"]), "open root image: ENOENT"),
            ("truncated", changed("truncated", &image[..image.len() - (1 << 20)]), "root image cut short: ENODATA"),
            ("magic", changed("magic", &with(1024)), "root image not EROFS: EINVAL"),
            ("checksum", changed("checksum", &with(1024 + 64)), "mount root image: EBADMSG"),
        ];
        // Together: each does nothing for ten seconds.
        let start = |initrd| boot(scenario).option("--memory", "700").initramfs(initrd).start();
        let vms: Vec<_> = cases.iter().map(|(_, initrd, _)| start(initrd)).collect();
        for (mut vm, (name, initrd, expected)) in vms.into_iter().zip(&cases) {
            let text = check(&mut vm, expected);
            scenario.note(&format!("{name}: {text}"));
            fs::remove_file(initrd).unwrap();
        }
    });
}

/// Checks the lines and the end of a machine; the line that says why, and how long the machine waited.
fn check(vm: &mut Vm, expected: &str) -> String {
    let (status, ended) = vm.end();
    let own = of_init(&vm.lines());
    assert_eq!(status, 3, "the machine resets");
    let fatal: Vec<_> = own.iter().filter(|line| line.text.contains("(fatal)")).collect();
    assert_eq!(fatal.len(), 1, "one line says why");
    assert_eq!(fatal[0].text, format!("2/12 root: {expected} (fatal)"));
    let pause = ended - vm.when("restarting in 10s");
    assert!(pause + Duration::from_millis(500) > PAUSE, "restarted after {pause:?}");
    assert!(pause < PAUSE + Duration::from_secs(10), "restarted after {pause:?}");
    format!("{}, restart after {:.1} s", fatal[0].text, pause.as_secs_f64())
}
