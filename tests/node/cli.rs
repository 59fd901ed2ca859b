//! scripts/boot.sh as a command: its usage, and one line about each mistake.

use std::fs;
use std::process::{Command, Output};

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
    let output = boot_sh(arguments);
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
        let own: Vec<_> = errors.lines().filter(|line| !line.contains("building: ")).collect();
        assert_eq!(own, ["boot.sh: --accel kvm: KVM does not run a guest on this machine"]);
    });
}
