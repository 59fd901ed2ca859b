//! The machines' kind of processor: this machine's own, or KIOS_ARCH's (scripts/test.sh --arch), which is emulated.

use std::env::consts::ARCH;
use std::sync::OnceLock;

/// As boot.sh has it.
pub fn arch() -> &'static str {
    static WANTED: OnceLock<String> = OnceLock::new();
    WANTED.get_or_init(|| std::env::var("KIOS_ARCH").unwrap_or_else(|_| ARCH.to_owned()))
}

/// As Rust has it.
pub fn target() -> String {
    target_of(arch())
}

/// The same of another kind.
pub fn target_of(arch: &str) -> String {
    format!("{arch}-unknown-linux-gnu")
}

/// As Go has it.
pub fn go_arch() -> &'static str {
    choose("amd64", "arm64")
}

/// The serial port that is the console.
pub fn console() -> &'static str {
    choose("ttyS0", "ttyAMA0")
}

/// The first for x86_64, the second for aarch64.
pub fn choose<T>(x86_64: T, aarch64: T) -> T {
    match arch() {
        "x86_64" => x86_64,
        "aarch64" => aarch64,
        other => panic!("KIOS_ARCH={other}: neither x86_64 nor aarch64"),
    }
}

/// Rust's flags for a program that needs no C library where it runs: the pods' images have none.
pub fn static_flags(arch: &str) -> Vec<String> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    if arch != ARCH {
        flags.extend([format!("-Clinker={arch}-linux-gnu-gcc"), "-Clinker-flavor=gcc".to_owned()]);
    }
    flags
}

/// Devices that Debian's kernel for virtual machines has drivers of on x86_64 only: the one for boards has them.
const OF_BOARDS: &[&str] = &["i6300esb", "nvme"];

/// boot.sh's options for a machine of this kind with these arguments for QEMU.
pub fn options(qemu: &[String]) -> Vec<String> {
    let mut options = vec!["--arch", arch()];
    let is = |argument: &String| OF_BOARDS.contains(&argument.split(',').next().unwrap_or_default());
    if arch() == "aarch64" && qemu.iter().any(is) {
        options.extend(["--kernel", "full"]);
    }
    options.into_iter().map(str::to_owned).collect()
}
