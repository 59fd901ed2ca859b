//! Disks as scripts/image.sh makes them, started by the machine's firmware.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kios_init::boot::formats::erofs_bytes;

use crate::arch::{arch, choose};
use crate::attack::HELPER;
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{manifests, run};
use crate::lines::{check_boot, of_init, power_off};
use crate::vm::{Boot, Vm, boot, repository, scratch};

/// Bytes of the disk that an image is written to.
const DEVICE: u64 = 2 << 30;
/// Bytes of memory in use with the root in a partition.
const MEMORY_BUDGET: u64 = 150_000_000;
/// Bytes of an image that are written, with the full kernel and with the tests' pods.
const IMAGE_BUDGET: u64 = 110_000_000;

/// An image.
pub fn image(name: &str, arguments: &[&str]) -> PathBuf {
    image_by(&mut Command::new(repository("scripts/image.sh")), name, arguments)
}

/// An image by image.sh with an environment of its own.
pub fn image_by(script: &mut Command, name: &str, arguments: &[&str]) -> PathBuf {
    let out = scratch(name);
    let _ = fs::remove_file(&out);
    run(script.args(arguments).arg("--out").arg(&out));
    let written = fs::metadata(&out).unwrap().blocks() * 512;
    eprintln!("{name}: {written} bytes written");
    assert!(written <= IMAGE_BUDGET, "{name}");
    out
}

/// Makes the disk larger than the image was.
pub fn enlarge(disk: &Path) {
    OpenOptions::new().write(true).open(disk).unwrap().set_len(DEVICE).unwrap();
}

/// Waits for all that a new machine has to say, and checks what became of its disk, whose last partition is the `data`th.
pub fn check_first_boot(scenario: &Scenario, vm: &mut Vm, disk: &Path, data: usize) {
    vm.wait_up();
    vm.wait_for("container-a: hello 1");
    vm.wait_for("dhcpcd: bound eth0 10.0.2.");
    check_boot(scenario, &vm.lines(), &[]);
    assert!(vm.has(&format!("data disk /dev/vda{data}")) && vm.has("data disk grown to "));
    check_table(disk, data);
}

/// Checks the partition table: good, and its last partition, the `data`th, as long as the disk lets it be.
pub fn check_table(disk: &Path, data: usize) {
    let said = run(Command::new("/usr/sbin/sfdisk").arg("--verify").arg(disk));
    assert!(said.contains("No errors detected"), "{said}");
    let json = run(Command::new("/usr/sbin/sfdisk").arg("--json").arg(disk));
    let table = &serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["partitiontable"];
    let data = &table["partitions"][data - 1];
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
        check_first_boot(scenario, &mut vm, &disk, 2);
        assert!(vm.has("root in memory"));
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

/// Where the root partition is in its image, in bytes.
const ROOT_AT: usize = 65 << 20;
/// Bytes of its end that are overwritten, where files are that only pods' starts and new disks need.
const SPOILT: u64 = 1 << 20;

/// The root in a partition: what is read of it is what it was made with, or nothing.
#[test]
fn root_in_a_partition() {
    scenario("root_in_a_partition", ROOM, |scenario| {
        let pods = manifests().to_str().unwrap();
        let arguments = ["--arch", arch(), "--kernel", "cloud", "--root-in", "partition", "--manifests", pods];
        let disk = image("partition.disk", &arguments);
        let bytes = fs::read(&disk).unwrap();
        enlarge(&disk);
        let mut vm = boot(scenario).option("--image", &disk).port().start();
        check_first_boot(scenario, &mut vm, &disk, 3);
        assert!(vm.has("root on /dev/vda2, verified"));
        let used = vm.used();
        scenario.note(&format!("MemTotal - MemAvailable with both pods and a third, every 5 s, bytes: {used:?}"));
        assert!(*used.last().unwrap() <= MEMORY_BUDGET);
        spoil(scenario, &mut vm);
        power_off(scenario, &mut vm);
        drop(vm);

        // The superblock, and the hash of all hashes, behind the file system.
        let length = usize::try_from(erofs_bytes(&bytes[ROOT_AT + 1024..]).expect("EROFS")).unwrap();
        let changed = |name: &str, at: usize| {
            let mut changed = bytes.clone();
            changed[ROOT_AT + at] ^= 1;
            let disk = scratch(name);
            fs::write(&disk, changed).unwrap();
            disk
        };
        let disks = [changed("superblock.disk", 1024), changed("hashes.disk", length)];
        // Where another disk has it, that is taken; and of two data disks none.
        let drive = format!("if=none,id=other,format=raw,snapshot=on,file={}", disk.display());
        let other = ["-drive", &drive, "-device", "virtio-blk-pci,drive=other"];
        let vm = boot(scenario).option("--image", &disks[0]).qemu(&other).start();
        vm.wait_up();
        assert!(vm.has("root on /dev/vdb2, verified") && vm.has("two data disks"));
        drop(vm);
        let start = |disk| (boot(scenario).option("--image", &disk).option("--memory", "700").start(), disk);
        for (mut vm, disk) in disks.map(start) {
            assert_eq!(vm.end().0, 3, "the machine resets");
            let fatal: Vec<_> = of_init(&vm.lines()).into_iter().filter(|line| line.text.contains("(fatal)")).collect();
            assert_eq!(fatal.len(), 1, "one line says why");
            assert_eq!(fatal[0].text, "2/12 root: mount root image: EIO (fatal)");
            fs::remove_file(disk).unwrap();
        }
        fs::remove_file(&disk).unwrap();
    });
}

/// Writes to the partition while it is used: each file of the root is as it was, or cannot be read.
fn spoil(scenario: &Scenario, vm: &mut Vm) {
    vm.sh(HELPER);
    let sums = "nsenter -t $(pidof containerd) -m /run/intruder/busybox sh -c 'cd /usr/lib && /run/intruder/busybox find . -type f \
        -exec /run/intruder/busybox sha256sum {} \\; 2>&1' || true";
    let before = vm.sh(sums);
    assert!(before.lines().count() > 100 && !before.contains("error"), "{before}");
    vm.sh(&format!(
        "size=$(cat /sys/class/block/dm-0/size) && at=$((size / 2048 - {} - 2)) && \
         dd if=/dev/zero of=/host/dev/vda2 bs=1M seek=$at count={} conv=notrunc,fsync && echo 3 >/proc/sys/vm/drop_caches",
        SPOILT >> 20,
        SPOILT >> 20
    ));
    let after = vm.sh(sums);
    let (errors, same): (Vec<_>, Vec<_>) = after.lines().partition(|line| line.ends_with(": Input/output error"));
    scenario.note(&format!("files of the root that can be read: {}, others: {}", same.len(), errors.len()));
    assert!(!errors.is_empty(), "{after}");
    for line in same {
        assert!(before.lines().any(|before| before == line), "{line}");
    }
}

/// What is inside is listed, each with its licence; Debian's packages have theirs as a text.
fn check_list(scenario: &Scenario, file: &Path) {
    let list: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).expect("JSON");
    let all = list["components"].as_array().unwrap();
    let urls: Vec<_> = all.iter().map(|component| component["purl"].as_str().unwrap()).collect();
    scenario.note(&format!("{} components, of {}", urls.len(), list["bomFormat"]));
    for part in [
        "pkg:cargo/kios-init@",
        "pkg:cargo/rustix@1.",
        "pkg:golang/std@1.",
        "pkg:golang/k8s.io/kubernetes@v1.",
        "pkg:golang/github.com/containerd/containerd/v2@v2.",
        "pkg:golang/github.com/opencontainers/runc@v1.",
        "pkg:golang/github.com/containernetworking/plugins@v1.",
        "pkg:deb/debian/linux-image-6.",
        "pkg:deb/debian/libseccomp-dev@",
        "pkg:deb/debian/systemd-boot-efi@",
        "pkg:oci/container-a@sha256%3A",
    ] {
        assert!(urls.iter().any(|url| url.starts_with(part)), "{part}: {urls:?}");
    }
    // For tests and build scripts alone.
    assert!(!urls.iter().any(|url| url.contains("proptest") || url.contains("/nix@")));
    let without = all.iter().filter(|component| component["licenses"].is_null());
    let without: Vec<_> = without.map(|component| component["purl"].as_str().unwrap()).collect();
    let whole = |url: &&str| ["pkg:deb/", "pkg:oci/"].iter().any(|kind| url.starts_with(kind));
    assert!(without.iter().all(whole), "without a licence: {without:?}");
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
            let copy = "git ls-files -z | xargs -0 cp -P --parents -t \"$0\"";
            run(Command::new("sh").current_dir(repository("")).args(["-c", copy]).arg(&place));
            if name == "with" {
                // All but what has init in it.
                let built = "cp -al \"$0\"/* \"$1\" && rm -r \"$1\"/tree \"$1\"/root \"$1\"/initramfs \"$1\"/seed";
                run(Command::new("sh").args(["-c", built, cache]).arg(place.join("kios-init")));
            }
            let mut command = Command::new(place.join("scripts/image.sh"));
            // With pods of its own, which are in the data partition too.
            command
                .args(["--kernel", "cloud", "--sbom", "--manifests"])
                .arg(manifests())
                .arg("--out")
                .arg(place.join("disk"));
            // What Go has compiled is the compiler's own cache; the programs are linked anew.
            let compiled = run(Command::new("go").args(["env", "GOCACHE"]));
            command
                .env("XDG_CACHE_HOME", &place)
                .env("GOCACHE", compiled.trim())
                .env("SOURCE_DATE_EPOCH", "1750000000");
            run(command.env_remove("KIOS_INIT").env_remove("CARGO_TARGET_DIR"));
            place.join("disk")
        });
        for kind in ["", ".cdx.json", ".licences.tar.xz"] {
            let files = disks.each_ref().map(|disk| format!("{}{kind}", disk.display()));
            let differ = run(Command::new("sh").args(["-c", "cmp \"$0\" \"$1\" || true"]).args(&files));
            assert_eq!(differ, "", "they differ");
            scenario.note(&run(Command::new("sha256sum").args(&files)));
        }
        check_list(scenario, Path::new(&format!("{}.cdx.json", disks[0].display())));
        fs::remove_dir_all(base).unwrap();
    });
}
