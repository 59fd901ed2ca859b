//! Disks as scripts/image.sh makes them, started by the machine's firmware.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::{arch, choose};
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{manifests, run};
use crate::lines::{check_boot, power_off};
use crate::vm::{Boot, Vm, boot, repository, scratch};

/// Bytes of the disk that an image is written to.
const DEVICE: u64 = 2 << 30;

/// An image.
pub fn image(name: &str, arguments: &[&str]) -> PathBuf {
    let out = scratch(name);
    let _ = fs::remove_file(&out);
    run(Command::new(repository("scripts/image.sh")).args(arguments).arg("--out").arg(&out));
    out
}

/// Makes the disk larger than the image was.
pub fn enlarge(disk: &Path) {
    OpenOptions::new().write(true).open(disk).unwrap().set_len(DEVICE).unwrap();
}

/// Waits for all that a new machine has to say, and checks what became of its disk.
pub fn check_first_boot(scenario: &Scenario, vm: &mut Vm, disk: &Path) {
    vm.wait_up();
    vm.wait_for("container-a: hello 1");
    vm.wait_for("dhcpcd: bound eth0 10.0.2.");
    check_boot(scenario, &vm.lines(), &[]);
    assert!(vm.has("data disk /dev/vda2") && vm.has("data disk grown to "));
    check_table(disk);
}

/// Checks the partition table: good, and its last partition as long as the disk lets it be.
pub fn check_table(disk: &Path) {
    let said = run(Command::new("/usr/sbin/sfdisk").arg("--verify").arg(disk));
    assert!(said.contains("No errors detected"), "{said}");
    let json = run(Command::new("/usr/sbin/sfdisk").arg("--json").arg(disk));
    let table = &serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["partitiontable"];
    let data = &table["partitions"][1];
    let [start, size] = ["start", "size"].map(|key| data[key].as_u64().unwrap());
    assert_eq!((start + size) * 512, DEVICE - (1 << 20), "{data}");
    assert_eq!(table["lastlba"].as_u64().unwrap(), DEVICE / 512 - 34);
}

/// Firmware with Secure Boot on, which trusts the key that Debian has for tests.
struct Secure {
    variables: PathBuf,
    key: PathBuf,
}

impl Secure {
    fn new() -> Secure {
        let (variables, key) = (scratch("secure.variables"), scratch("secure.key"));
        let from = choose("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd", "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd");
        fs::copy(from, &variables).expect("the firmware's package");
        let mut openssl = Command::new("openssl");
        openssl.args(["rsa", "-in", &Secure::file("key"), "-passin", "pass:snakeoil", "-out"]).arg(&key);
        run(&mut openssl);
        Secure { variables, key }
    }

    fn file(kind: &str) -> String {
        format!("{}/PkKek-1-snakeoil.{kind}", choose("/usr/share/ovmf", "/usr/share/qemu-efi-aarch64"))
    }

    fn boot<'a>(&self, scenario: &'a Scenario, disk: &Path) -> Boot<'a> {
        let variables = format!("if=pflash,unit=1,format=raw,file={}", self.variables.display());
        let code = "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
        let protected = ["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"];
        let firmware = choose(["-drive", code], ["-bios", "/usr/share/AAVMF/AAVMF_CODE.fd"]);
        let boot = boot(scenario).option("--image", disk).qemu(&firmware).qemu(&["-drive", &variables]);
        if arch() == "x86_64" { boot.qemu(&protected) } else { boot }
    }
}

/// Signed, with pods of its own, on a larger disk; then with one byte changed.
#[test]
fn signed_image() {
    scenario("signed_image", ROOM, |scenario| {
        let secure = Secure::new();
        let pods = manifests().to_str().unwrap();
        let key = secure.key.to_str().unwrap();
        let disk = image("signed.disk", &["--arch", arch(), "--manifests", pods, "--sign", key, &Secure::file("pem")]);
        let mut bytes = fs::read(&disk).unwrap();
        enlarge(&disk);
        let mut vm = secure.boot(scenario, &disk).port().start();
        check_first_boot(scenario, &mut vm, &disk);
        let said = vm.sh("cat /host/sys/kernel/security/lockdown; dmesg | grep -i 'secure boot enabled'");
        assert!(said.contains("[integrity]"), "{said}");
        scenario.note(&said.replace('\n', ", "));
        power_off(scenario, &mut vm);
        drop(vm);
        fs::remove_file(&disk).unwrap();

        let root = bytes.windows(4).position(|word| word == 0xE0F5_E1E2u32.to_le_bytes()).expect("the root image");
        bytes[root + (1 << 20)] ^= 1;
        fs::write(&disk, bytes).unwrap();
        let vm = secure.boot(scenario, &disk).start();
        scenario.note(&vm.wait_for(": Access Denied"));
        assert!(!vm.has("kios:"));
        drop(vm);
        fs::remove_file(&disk).unwrap();
    });
}

/// From copies of the sources in two places, one of which has nothing built, with one time for both.
#[test]
fn same_sources_make_the_same_disk() {
    scenario("same_sources_make_the_same_disk", ROOM, |scenario| {
        let base = scratch("same");
        let _ = fs::remove_dir_all(&base);
        let cache = run(Command::new(repository("scripts/boot.sh")).arg("--build-only"));
        let cache = cache.lines().find_map(|line| line.strip_prefix("CACHE=")).expect("the cache");
        let disks = ["with", "without"].map(|name| {
            let place = base.join(name);
            fs::create_dir_all(place.join("kios-init")).unwrap();
            let copy = "git ls-files -z | xargs -0 cp --parents -t \"$0\"";
            run(Command::new("sh").current_dir(repository("")).args(["-c", copy]).arg(&place));
            if name == "with" {
                // All but what has init in it.
                let built = "cp -al \"$0\"/* \"$1\" && rm -r \"$1\"/tree \"$1\"/root \"$1\"/initramfs \"$1\"/seed";
                run(Command::new("sh").args(["-c", built, cache]).arg(place.join("kios-init")));
            }
            let mut command = Command::new(place.join("scripts/image.sh"));
            // With pods of its own, which are in the data partition too.
            command.args(["--kernel", "cloud", "--manifests"]).arg(manifests()).arg("--out").arg(place.join("disk"));
            // What Go has compiled is the compiler's own cache; the programs are linked anew.
            let compiled = run(Command::new("go").args(["env", "GOCACHE"]));
            command
                .env("XDG_CACHE_HOME", &place)
                .env("GOCACHE", compiled.trim())
                .env("SOURCE_DATE_EPOCH", "1750000000");
            run(command.env_remove("KIOS_INIT").env_remove("CARGO_TARGET_DIR"));
            place.join("disk")
        });
        let differ = run(Command::new("sh").args(["-c", "cmp \"$0\" \"$1\" || true"]).args(&disks));
        assert_eq!(differ, "", "the disks differ");
        scenario.note(&run(Command::new("sha256sum").args(&disks)));
        fs::remove_dir_all(base).unwrap();
    });
}
