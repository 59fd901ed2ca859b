//! What the machines boot from, beside what scripts/boot.sh makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::arch::{arch, go_arch, static_flags, target};
use crate::vm::{repository, scratch};

/// Runs a program that must succeed; its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The cargo that runs these tests.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A new data disk, as boot.sh makes it with these arguments.
pub fn new_disk(name: &str, arguments: &[&str]) -> PathBuf {
    let disk = scratch(name);
    let _ = fs::remove_file(&disk);
    let mut command = Command::new(repository("scripts/boot.sh"));
    run(command.args(["--build-only", "--arch", arch()]).args(arguments).arg("--data").arg(&disk));
    disk
}

/// What `boot.sh --build-only` says of `name`.
pub fn built(name: &str) -> PathBuf {
    static SAID: OnceLock<String> = OnceLock::new();
    let said =
        SAID.get_or_init(|| run(Command::new(repository("scripts/boot.sh")).args(["--build-only", "--arch", arch()])));
    let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {said}")).into()
}

/// Makes a variant of the initramfs (scripts/image/initramfs.sh).
pub fn initramfs(name: &str, arguments: &[&str]) -> PathBuf {
    let out = scratch(name);
    let mut command = Command::new("bash");
    command.current_dir(repository("")).args(["scripts/image/initramfs.sh", "--arch", arch(), "--out"]);
    command.arg(&out).args(arguments);
    run(&mut command);
    out
}

/// A directory with the manifests of the two pods of the demonstration and of `shell`.
pub fn manifests() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| with_pods_of("tests/pods/shell", "manifests"))
}

/// The same with `shell` as an attacker has it: what it mounts in the node's file systems is mounted for others too.
pub fn manifests_with_propagation() -> PathBuf {
    let directory = with_pods_of("tests/pods/shell", "manifests-with-propagation");
    let shell = directory.join("shell.yaml");
    let text = fs::read_to_string(&shell).unwrap();
    let changed = text.replace("mountPath: /host}", "mountPath: /host, mountPropagation: Bidirectional}");
    assert_ne!(text, changed);
    fs::write(shell, changed).unwrap();
    directory
}

/// A directory of this name with the manifests of the two pods of the demonstration and of those in `pods`.
pub fn with_pods_of(pods: &str, name: &str) -> PathBuf {
    let directory = scratch(name);
    fs::create_dir_all(&directory).unwrap();
    for from in ["scripts/image/manifests", pods] {
        for entry in fs::read_dir(repository(from)).unwrap().map(Result::unwrap) {
            if entry.path().extension().is_some_and(|extension| extension == "yaml") {
                fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
            }
        }
    }
    directory
}

/// A tar archive with programs for the pod `shell`, which it gets as a disk: init must tell that disk from its own.
pub fn tools() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let (directory, archive) = (scratch("tools"), scratch("tools.tar"));
        fs::create_dir_all(&directory).unwrap();
        let beside = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
        let rustc = beside.filter(|path| path.is_file()).unwrap_or_else(|| "rustc".into());
        let flags = ["--edition=2024", "-Copt-level=s", "-Cstrip=symbols", "--target", &target(), "-o"];
        let programs = ["press", "stuck"];
        fs::copy(init(), directory.join("poweroff")).unwrap();
        for program in programs {
            let source = repository(&format!("tests/pods/shell/{program}.rs"));
            run(Command::new(&rustc).args(static_flags(arch())).args(flags).arg(directory.join(program)).arg(source));
        }
        fs::copy(intruder(), directory.join("intruder")).unwrap();
        ctr(&directory);
        // Signed for the kernel, and not of the node's image.
        let module = run(Command::new("find").arg(built("MODULES").join("kernel")).args(["-name", "binfmt_misc.ko*"]));
        let unpacked = Command::new("xz").args(["-dc", module.trim()]).output().unwrap();
        assert!(unpacked.status.success(), "{module}");
        fs::write(directory.join("binfmt_misc.ko"), unpacked.stdout).unwrap();
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&directory).arg("."));
        archive
    })
}

/// Builds the program that attacks a node (tests/attack/intruder).
fn intruder() -> PathBuf {
    let (manifest, directory) = (repository("tests/attack/intruder/Cargo.toml"), scratch("intruder"));
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--locked", "--target", &target(), "--manifest-path"]).arg(manifest);
    command.env("CARGO_TARGET_DIR", &directory).env("RUSTFLAGS", static_flags(arch()).join(" "));
    run(&mut command);
    directory.join(target()).join("release/intruder")
}

/// Builds containerd's own client, of the version that the node has.
fn ctr(into: &Path) {
    let mut command = Command::new("go");
    command.current_dir(repository("scripts/image/pins/containerd")).args(["build", "-trimpath", "-buildvcs=false"]);
    command.args(["-ldflags", "-s -w", "-tags", "no_btrfs,no_devmapper,no_zfs,grpcnotrace", "-o"]).arg(into);
    command.arg("github.com/containerd/containerd/v2/cmd/ctr");
    command.envs([
        ("GOARCH", go_arch()),
        ("CGO_ENABLED", "0"),
        ("GOFLAGS", "-mod=readonly"),
        ("GOTOOLCHAIN", "local"),
        ("GOWORK", "off"),
    ]);
    run(&mut command);
}

/// The init that the image holds.
pub fn init() -> PathBuf {
    let built = repository("target").join(target()).join("release/init");
    std::env::var_os("KIOS_INIT").map_or(built, PathBuf::from)
}
