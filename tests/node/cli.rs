//! scripts/boot.sh as a command: its usage, and one line about each mistake.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::gate::scenario;
use crate::vm::{repository, scratch};

/// Runs boot.sh; more than a minute counts as a failure.
fn boot_sh(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "60"]).arg(repository("scripts/boot.sh")).args(arguments);
    command.output().unwrap()
}

/// Checks that boot.sh says `text` in one line, nothing on standard output, and exits with `status`.
fn refuses(arguments: &[&str], status: i32, text: &str) {
    check_refused(arguments, &boot_sh(arguments), status, text);
}

fn check_refused(arguments: &[&str], output: &Output, status: i32, text: &str) {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
    assert_eq!(said, "", "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(errors.starts_with("boot.sh: ") && errors.contains(text), "{arguments:?}: {errors}");
}

#[test]
fn help_is_on_standard_output() {
    for option in ["--help", "-h"] {
        let output = boot_sh(&[option]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        for name in ["usage: scripts/boot.sh", "--manifests", "--images", "--data", "--append", "--until", "--qmp"] {
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
    refuses(&["--arch", "aarch64"], 2, "aarch64 is not there yet");
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
    let without = "mount -t tmpfs small $2; for dir in ${PATH//:/ }; do ln -s $dir/* $2/ 2>/dev/null; done; rm -f $2/$NAME; \
        export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}; PATH=$2 HOME=$2 $1 --build-only";
    let cargo = run(&format!("NAME=cargo; {without}"));
    check_refused(&["no cargo"], &cargo, 1, "cargo is needed to build init");
    let go = run(&format!("NAME=go; [ ! -e /usr/local/go/bin ] || mount -t tmpfs none /usr/local/go/bin; {without}"));
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
