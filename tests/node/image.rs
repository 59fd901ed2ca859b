//! What the machines boot from, beside what scripts/boot.sh makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::vm::{repository, scratch};

/// Runs a program that must succeed; its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `boot.sh --build-only` says of `name`.
pub fn built(name: &str) -> PathBuf {
    static SAID: OnceLock<String> = OnceLock::new();
    let said = SAID.get_or_init(|| run(Command::new(repository("scripts/boot.sh")).arg("--build-only")));
    let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {said}")).into()
}

/// Makes a variant of the initramfs (scripts/image/initramfs.sh).
pub fn initramfs(name: &str, arguments: &[&str]) -> PathBuf {
    let out = scratch(name);
    let mut command = Command::new("bash");
    command.current_dir(repository("")).arg("scripts/image/initramfs.sh").arg("--out").arg(&out).args(arguments);
    run(&mut command);
    out
}

/// A directory with the manifests of the two pods of the demonstration and of `shell`.
pub fn manifests() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| with_pods_of("tests/pods/shell", "manifests"))
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
        // Static: the pod's image has no C library.
        let beside = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
        let rustc = beside.filter(|path| path.is_file()).unwrap_or_else(|| "rustc".into());
        let flags = ["--edition=2024", "-Copt-level=s", "-Cstrip=symbols", "-Ctarget-feature=+crt-static", "-o"];
        let programs = ["intruder", "press", "stuck"];
        fs::copy(init(), directory.join("poweroff")).unwrap();
        for program in programs {
            let source = repository(&format!("tests/pods/shell/{program}.rs"));
            run(Command::new(&rustc).args(flags).arg(directory.join(program)).arg(source));
        }
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&directory).args(programs).arg("poweroff"));
        archive
    })
}

/// The init that the image holds.
pub fn init() -> PathBuf {
    let built = repository("target/x86_64-unknown-linux-gnu/release/init");
    std::env::var_os("KIOS_INIT").map_or(built, PathBuf::from)
}
