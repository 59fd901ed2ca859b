//! The node from power-on to its pods and off again, twice on one disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ending::check_clean;
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{built, run};
use crate::lines::{check_boot, check_order, power_off};
use crate::processes;
use crate::vm::{Vm, boot, repository, scratch};

const MEMORY_BUDGET: u64 = 185_000_000;
const ROOT_BUDGET: u64 = 64_000_000;
const INIT_BUDGET: u64 = 69_632;

#[test]
fn node_boots_to_pods_and_off() {
    scenario("node_boots_to_pods_and_off", ROOM, |scenario| {
        let disk = scratch("data.ext4");
        let _ = fs::remove_file(&disk);
        let mut vm = boot(scenario).shell().option("--data", &disk).qemu(&["-device", "i6300esb"]).start();
        vm.wait_for("container-a: hello 1");
        let lease = vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        scenario.note(&lease);
        // Said by the child that loads them, at any time after step 7.
        vm.wait_for("late modules: ");
        let lines = vm.lines();
        check_boot(scenario, &lines, &[]);
        let services =
            ["started containerd", "started kubelet", "containerd ready", "kubelet ready", "container-a: hello"];
        check_order(&lines, &services);
        assert!(lines.iter().any(|line| line.contains("data disk /dev/vda")));
        processes::check(scenario, &mut vm);
        // Opened and set by init; what becomes of a machine that does not feed it is QEMU's reset.
        let watchdog = vm.sh("cd /sys/class/watchdog/watchdog0 && cat identity state timeout");
        assert_eq!(watchdog, "i6300ESB timer\nactive\n60");
        requests(&mut vm);
        processes::no_zombies(&mut vm);
        power_off(scenario, &mut vm);
        drop(vm);
        check_clean(&disk);

        // The same disk with the two pods of the demonstration alone, one of which says what the machine uses.
        replace_pods(&disk);
        let mut vm = boot(scenario).option("--data", &disk).start();
        let used: Vec<_> =
            (1..=3).map(|number| number_after(&vm.wait_for(&format!("probe: used {number} ")))).collect();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.");
        check_boot(scenario, &vm.lines(), &[]);
        scenario.note(&format!("MemTotal - MemAvailable with both pods, every 5 s, bytes: {used:?}"));
        assert!(used.iter().all(|used| *used <= MEMORY_BUDGET), "more than {MEMORY_BUDGET}");
        power_off(scenario, &mut vm);
        drop(vm);
        check_clean(&disk);
        let _ = fs::remove_file(&disk);
    });
}

#[test]
fn image_is_within_its_budgets() {
    scenario("image_is_within_its_budgets", 0, |scenario: &Scenario| {
        let root = fs::metadata(built("ROOT")).unwrap().len();
        let init = fs::metadata(crate::image::init()).unwrap().len();
        scenario.note(&format!("root.erofs {root} bytes, init {init} bytes"));
        assert!(root <= ROOT_BUDGET && init <= INIT_BUDGET);
    });
}

/// fsck.erofs of the tools that were used last, which wrote the image: this machine's own may be too old to read it.
const FSCK: &str = r#"cd "$(ls -td "$1"/erofs/[0-9a-f]* | head -n 1)"/tree/usr/lib/*-linux-gnu &&
    ./ld-linux-*.so.* --library-path . ../../bin/fsck.erofs "${@:2}""#;

/// No loader runs before a service or a pod's runtime does, to read LD_PRELOAD or ld.so.preload. Of the programs that kubelet
/// starts two have a loader, which kubelet's mount namespace takes from the same read-only root.
#[test]
fn services_have_no_loader() {
    let tree = scratch("root");
    let mut fsck = Command::new("bash");
    fsck.args(["-c", FSCK, "-"])
        .arg(built("CACHE"))
        .arg("--overwrite")
        .arg(format!("--extract={}", tree.display()))
        .arg(built("ROOT"));
    run(&mut fsck);
    let mut with_loader = Vec::new();
    for program in fs::read_dir(tree.join("usr/bin")).unwrap().map(|entry| entry.unwrap().path()) {
        let headers = run(Command::new("readelf").arg("-lW").arg(&program));
        assert!(headers.contains(" LOAD "), "{}", program.display());
        if headers.contains(" INTERP ") {
            with_loader.push(program.file_name().unwrap().to_owned());
        }
    }
    with_loader.sort();
    assert_eq!(with_loader, ["mount", "umount"]);
    fs::remove_dir_all(tree).unwrap();
}

/// Init's file, started by whom process 1 does not listen to, and by a name that asks for nothing.
fn requests(vm: &mut Vm) {
    vm.sh("cd /tmp && ln poweroff reboot && ln poweroff init && echo nobody:x:65534:65534::/: >>/etc/passwd");
    for name in ["poweroff", "reboot"] {
        let said = vm.attempt(&format!("start-stop-daemon -S -c 65534:65534 -x /tmp/{name}"));
        assert_eq!(said, (1, "kios: process 1 takes no signal from you\n".into()), "{name}");
    }
    assert_eq!(vm.attempt("/tmp/init"), (1, "kios: init does nothing unless it is process 1\n".into()));
    assert!(!vm.has("stopping for"));
}

/// The last number of a line, in KiB; in bytes.
fn number_after(line: &str) -> u64 {
    line.rsplit(' ').next().unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// Takes the pod `shell` from a disk, and has container-a say thrice what the machine uses before it goes on as ever.
fn replace_pods(disk: &Path) {
    let text = fs::read_to_string(repository("scripts/image/manifests/container-a.yaml")).unwrap();
    let image = "      image: localhost/container-a:1\n";
    assert!(text.contains(image));
    let script = "until ip addr show dev eth0 | grep -q inet; do sleep 1; done; for n in 1 2 3; do sleep 5; t=; a=; \
                  while read -r k v r; do case $k in MemTotal:) t=$v ;; MemAvailable:) a=$v ;; esac; done </proc/meminfo; \
                  echo probe: used $n $((t - a)) >/host/console; done; exec hello";
    let command = format!("{image}      command:\n        - sh\n        - -c\n        - '{script}'\n");
    let file = scratch("container-a.yaml");
    fs::write(&file, text.replace(image, &command)).unwrap();
    let pods = "/etc/kubernetes/manifests";
    let replace = [format!("rm {pods}/shell.yaml"), format!("rm {pods}/container-a.yaml")];
    let write = format!("write {} {pods}/container-a.yaml", file.display());
    for request in replace.iter().chain([&write]) {
        run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", request]).arg(disk));
    }
}
