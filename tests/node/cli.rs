//! scripts/boot.sh as a command: its usage, one line about each mistake, and Ctrl-C.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::gate::scenario;
use crate::lines::check_order;
use crate::vm::{LONG, qemu_of, repository, scratch};

/// Runs boot.sh; more than a minute counts as a failure.
fn boot_sh(arguments: &[&str]) -> Output {
    script("boot.sh", arguments)
}

fn script(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "60"]).arg(repository("scripts").join(name)).args(arguments);
    command.output().unwrap()
}

/// Checks that boot.sh says `text` in one line, nothing on standard output, and exits with `status`.
fn refuses(arguments: &[&str], status: i32, text: &str) {
    check_refused(arguments, &boot_sh(arguments), status, text);
}

/// Who says it.
const SCRIPTS: [&str; 3] = ["boot.sh: ", "cluster.sh: ", "image.sh: "];

fn check_refused(arguments: &[&str], output: &Output, status: i32, text: &str) {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
    assert_eq!(said, "", "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(SCRIPTS.iter().any(|name| errors.starts_with(name)) && errors.contains(text), "{arguments:?}: {errors}");
}

#[test]
fn help_is_on_standard_output() {
    for option in ["--help", "-h"] {
        let image = script("image.sh", &[option]);
        let said = String::from_utf8(image.stdout).unwrap();
        assert!(image.status.success() && image.stderr.is_empty() && said.starts_with("usage: scripts/image.sh"));
        assert!(said.lines().all(|line| line.len() <= 100));
        let output = boot_sh(&[option]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        for name in [
            "usage: scripts/boot.sh",
            "--manifests",
            "--images",
            "--data",
            "--join",
            "--address",
            "--image",
            "--append",
            "--until",
            "--qmp",
        ] {
            assert!(said.contains(name), "{name}");
        }
        assert!(said.lines().all(|line| line.len() <= 100));
    }
}

#[test]
fn mistakes_are_one_line() {
    let file = scratch("no-tar");
    fs::write(&file, "this is no archive").unwrap();
    let empty = scratch("no-manifests");
    fs::create_dir_all(&empty).unwrap();
    let (file, empty) = (file.to_str().unwrap(), empty.to_str().unwrap());
    refuses(&["--nonsense"], 2, "unknown option --nonsense");
    refuses(&["nonsense"], 2, "unknown option nonsense");
    refuses(&["--data"], 2, "--data needs a value");
    refuses(&["--arch", "vax"], 2, "--arch vax");
    refuses(&["--accel", "magic"], 2, "--accel magic");
    refuses(&["--memory", "lots"], 2, "--memory lots: not a number");
    refuses(&["--cpus", "0"], 2, "--cpus 0: not a number");
    refuses(&["--timeout", "-1"], 2, "--timeout -1: not a number");
    refuses(&["--until", "("], 2, "--until (: not a regular expression");
    refuses(&["--manifests", "/nowhere"], 2, "--manifests /nowhere: not a directory");
    refuses(&["--manifests", empty], 2, "no .yaml, .yml or .json file in it");
    refuses(&["--images", "/nowhere.tar"], 2, "--images /nowhere.tar: no such file");
    refuses(&["--images", file], 2, "not a tar archive");
    refuses(&["--data", empty], 2, "a directory, not a disk image");
    refuses(&["--data", "/nowhere/disk"], 2, "--data /nowhere/disk: no such directory");
    refuses(&["--join", "/nowhere"], 2, "--join /nowhere: no such file");
    refuses(&["--join", file], 2, "not a kubeconfig");
    refuses(&["--kernel", "own"], 2, "--kernel own: neither cloud nor full");
    refuses(&["--address", "10.0.2.17"], 2, "--address 10.0.2.17: neither 10.0.2.15 nor 10.0.2.16");
    refuses(&["--join", empty], 2, "no cluster there; scripts/cluster.sh");
    refuses(&["--build-only", "--join", file], 2, "--join with --build-only needs --data");
    refuses(&["--image", "/nowhere"], 2, "--image /nowhere: no such file");
    refuses(&["--image", file], 2, "not a disk of scripts/image.sh");
    refuses(&["--image", file, "--data", "/nowhere"], 2, "--image goes with none of --manifests");
    let image = |arguments: &[&str], text| check_refused(arguments, &script("image.sh", arguments), 2, text);
    image(&["disk"], "unknown option disk");
    image(&["--out"], "--out needs a value");
    image(&["--out", empty], "not a file");
    image(&["--out", "/dev/null"], "--out /dev/null: not a file");
    image(&["--out", "/nowhere/disk"], "its directory cannot be written");
    image(&["--arch", "vax"], "--arch vax");
    image(&["--kernel", "own"], "--kernel own: neither cloud nor full");
    image(&["--root-in", "cloud"], "--root-in cloud: neither initramfs nor partition");
    image(&["--sign", file], "--sign needs a key and a certificate");
    image(&["--sign", file, "/nowhere"], "--sign /nowhere: cannot be read");
    image(&["--manifests", "/nowhere"], "--manifests /nowhere: not a directory");
    image(&["--images", file], "not a tar archive");
    let cluster = |arguments: &[&str], status, text| {
        check_refused(arguments, &script("cluster.sh", arguments), status, text);
    };
    cluster(&[], 2, "what is to be done?");
    cluster(&["nonsense"], 2, "unknown command nonsense");
    cluster(&["up", "now"], 2, "up takes no argument");
    cluster(&["--dir"], 2, "--dir needs a value");
    cluster(&["--dir", empty, "kubectl", "get", "nodes"], 1, "no cluster in ");
    // Nothing to end is no mistake.
    assert_eq!(script("cluster.sh", &["--dir", empty, "down"]).status.code(), Some(0));
}

/// What the machine lacks is one line too.
#[test]
fn what_is_missing_is_one_line() {
    let run = |script: &str| {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "60", "unshare", "--mount", "bash", "-c", script, "bash"]);
        command.arg(repository("scripts/boot.sh")).arg(scratch("small")).output().unwrap()
    };
    fs::create_dir_all(scratch("small")).unwrap();
    let space = run("mount -t tmpfs -o size=1m small $2 && XDG_CACHE_HOME=$2 $1 --build-only");
    check_refused(&["no space"], &space, 1, "has 1 MiB free, the build needs 6144");
    let cache = run("XDG_CACHE_HOME=/proc/nowhere $1 --build-only");
    check_refused(&["no cache"], &cache, 1, "/proc/nowhere/kios-init cannot be made; set XDG_CACHE_HOME");
    // All of the commands there are, without one, and without the places where boot.sh looks for it by itself.
    let without = "mount -t tmpfs small $2; cd $2; for dir in ${PATH//:/ }; do ln -s $dir/* . 2>/dev/null; done; rm -f $NAMES; \
        export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}; PATH=$2 HOME=$2 $1 --build-only";
    let cargo = run(&format!("NAMES='cargo apt-get apt-cache'; {without}"));
    check_refused(&["no cargo"], &cargo, 1, "Rust 1.88 or newer is needed to build init, and Debian has none");
    let go = run(&format!("NAMES=go; [ ! -e /usr/local/go/bin ] || mount -t tmpfs none /usr/local/go/bin; {without}"));
    check_refused(&["no Go"], &go, 1, "is needed to build kubelet and containerd");
}

/// What is built is not built again.
#[test]
fn a_second_run_is_quick() {
    boot_sh(&["--build-only"]);
    let began = Instant::now();
    let output = boot_sh(&["--build-only"]);
    let took = began.elapsed();
    println!("boot.sh --build-only, everything built: {took:?}");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty() && took < Duration::from_secs(3), "{took:?}");
}

/// Where KVM works this cannot be seen; such a machine runs the others faster.
#[test]
fn kvm_that_does_not_work_is_one_line() {
    scenario("kvm_that_does_not_work_is_one_line", 1, |scenario| {
        let output = boot_sh(&["--accel", "kvm", "--timeout", "30", "--until", "kios: "]);
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("starting QEMU (kvm)") {
            scenario.note("KVM works here: not tested");
            return;
        }
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let own: Vec<_> = errors.lines().filter(|line| !line.contains("build")).collect();
        assert_eq!(own, ["boot.sh: --accel kvm: KVM does not run a guest on this machine"]);
    });
}

const PRESSING: &str = "boot.sh: Ctrl-C: pressing the power button; once more kills the machine";

/// boot.sh in a process group of its own, as a shell on a terminal starts it. Dropping it ends it.
struct Job {
    child: Child,
    group: Pid,
    output: PathBuf,
}

impl Job {
    /// With one processor, on which the emulator does not race: these machines are not tried a second time.
    fn start(name: &str, arguments: &[&str], path: Option<&Path>) -> Job {
        let output = scratch(name);
        let file = File::create(&output).unwrap();
        // Where these tests run in the background of a script they ignore SIGINT, and bash could not change that.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(repository("scripts/boot.sh"));
        command.args(["--accel", "tcg", "--cpus", "1", "--memory", "700", "--timeout", "300"]).args(arguments);
        if let Some(path) = path {
            command.env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
        }
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let child = command.spawn().unwrap();
        Job { group: Pid::from_raw(i32::try_from(child.id()).unwrap()), child, output }
    }

    /// What it printed so far, whole lines.
    fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.output).unwrap();
        String::from_utf8_lossy(&text)
            .split_inclusive('\n')
            .filter_map(|line| Some(line.strip_suffix('\n')?.into()))
            .collect()
    }

    /// What it said itself, but for what it had to build first.
    fn said(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with("boot.sh: ") && !line.contains("build")).collect()
    }

    /// Asks until there is an answer.
    fn wait<T>(&mut self, what: &str, mut answer: impl FnMut(&mut Job) -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            // Before the question: what it did last is seen, too.
            let over = self.child.try_wait().unwrap().is_some() || Instant::now() > end;
            if let Some(answer) = answer(self) {
                return answer;
            }
            assert!(!over, "no {what}:\n{}", self.lines().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&mut self, text: &str) {
        self.wait(text, |job| job.lines().iter().any(|line| line.contains(text)).then_some(()));
    }

    /// The child of boot.sh that runs QEMU.
    fn qemu(&mut self) -> Pid {
        self.wait("QEMU", |job| qemu_of(job.group))
    }

    /// Presses Ctrl-C: a terminal sends the signal to the whole group.
    fn interrupt(&self) {
        killpg(self.group, Signal::SIGINT).unwrap();
    }

    /// Its exit status.
    fn end(&mut self) -> Option<i32> {
        self.wait("end", |job| job.child.try_wait().unwrap()).code()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It ends QEMU before itself.
            let _ = kill(self.group, Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Before the node listens to the power button, and after.
#[test]
fn ctrl_c_powers_off_in_order() {
    scenario("ctrl_c_powers_off_in_order", 1, |_| {
        for line in ["kios: [", "started containerd"] {
            let mut job = Job::start("ctrl-c", &[], None);
            job.wait_for(line);
            job.interrupt();
            assert_eq!(job.end(), Some(0), "after {line}: {}", job.lines().join("\n"));
            let stop = ["stopping for power-off", "stopped containerd", "] unmount ", "] power-off"];
            check_order(&job.lines(), &[&[line, PRESSING][..], &stop].concat());
            assert_eq!(job.said(), ["boot.sh: starting QEMU (tcg)", PRESSING]);
            assert_eq!(killpg(job.group, None), Err(Errno::ESRCH), "something is left of the process group");
        }
    });
}

/// A machine that stands still does not end by its power button.
#[test]
fn ctrl_c_twice_kills() {
    scenario("ctrl_c_twice_kills", 1, |_| {
        let mut job = Job::start("ctrl-c-twice", &["--", "-S"], None);
        let qemu = job.qemu();
        job.interrupt();
        job.wait_for(PRESSING);
        assert_eq!(kill(qemu, None), Ok(()), "QEMU got the signal");
        job.interrupt();
        assert_eq!(job.end(), Some(130), "{:?}", job.lines());
        assert_eq!(kill(qemu, None), Err(Errno::ESRCH), "QEMU is left");
        assert_eq!(killpg(job.group, None), Err(Errno::ESRCH), "something is left of the process group");
        assert_eq!(job.said(), ["boot.sh: starting QEMU (tcg)", PRESSING, "boot.sh: Ctrl-C: killing the machine"]);
    });
}

/// The console's reader is interrupted in the middle of a line. What stands in for QEMU prints the rest when the power
/// button is pressed. The exit status says whether `--until` was seen, as ever.
#[test]
fn ctrl_c_keeps_the_line_it_interrupts() {
    let path = scratch("ctrl-c-path");
    fs::create_dir_all(&path).unwrap();
    let qemu = path.join(format!("qemu-system-{}", std::env::consts::ARCH));
    let script = r#"#!/bin/sh
printf 'first\nhalf a' >&4
while read -r request; do
    case $request in *system_powerdown*) printf ' line\nkios: [0.001] power-off\n' >&4 && exit ;; esac
done
"#;
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    for (arguments, status) in [(&[][..], 0), (&["--until", "never"][..], 1)] {
        let mut job = Job::start("ctrl-c-line", arguments, Some(&path));
        job.wait_for("first");
        job.interrupt();
        assert_eq!(job.end(), Some(status), "{arguments:?}: {:?}", job.lines());
        let mut lines = job.lines();
        lines.retain(|line| !line.starts_with("boot.sh: "));
        assert_eq!(lines, ["first", "half a line", "kios: [0.001] power-off"]);
    }
}
