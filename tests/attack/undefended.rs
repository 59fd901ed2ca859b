//! The same init without its defences: built from a copy of the sources in which each is taken out by a change of one line.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::arch::target;
use crate::image::{cargo, run};
use crate::vm::{repository, scratch};

/// What is taken out: file, text that stands there once, text in its place.
const CHANGES: &[(&str, &str, &str)] = &[
    // The kernel's helpers run in the real root.
    (
        "src/boot/root.rs",
        "pub fn confine_kernel(_: &mut Step) -> Result<()> {",
        "pub fn confine_kernel(_: &mut Step) -> Result<()> {\nif true { return Ok(()) }",
    ),
    // Services and pods share process 1's mount namespace.
    ("src/run/spawn.rs", "process::unshare_mounts().during(c\"unshare mounts\")?;", ""),
    // There kubelet's sockets cover containerd's, which must have said before that it is ready.
    ("src/run/supervisor.rs", "self.runs && unit.is_new()", "self.runs && unit.is_new() && false"),
    // What kubelet sees of its own it may hand on, and what is mounted there comes back.
    (
        "src/run/spawn.rs",
        "let (place, propagation) = if sockets.bus.is_some() {",
        "let (place, propagation) = if false {",
    ),
    // No domain of Landlock, nor Yama's scope in its place.
    (
        "src/boot/isolation.rs",
        "match landlock::scope_ruleset() {",
        "match Err::<Fd, _>(Errno::NOSYS).or_else(|errno| if true { Err(errno) } else { landlock::scope_ruleset() }) {",
    ),
    ("src/plan.rs", "kernel/yama/ptrace_scope=3", "kernel/yama/ptrace_scope=0"),
    // No filter.
    ("src/run/spawn.rs", "seccomp::confine(mappings).during(c\"seccomp\")?;", "let _ = mappings;"),
    // Programs by their paths, at each start.
    ("src/boot/programs.rs", "*held = files;", "let _ = held;"),
    // It is attacked many times more: no long waits between the starts.
    ("src/plan.rs", "pub const BACK_OFF_LAST: Millis = 30_000;", "pub const BACK_OFF_LAST: Millis = 500;"),
    // It is there for minutes, not for hours: the seed is saved more often.
    ("src/plan/data.rs", "pub const SAVE_EVERY: Millis = 3_600_000;", "pub const SAVE_EVERY: Millis = 20_000;"),
    // What children inherit.
    ("src/boot/cgroups.rs", "let _ = unlinkat(root, service.cgroup.get(), AtFlags::REMOVEDIR);", ""),
    ("src/run/spawn.rs", "let _ = kernel_put(CWD, file, value);", "let _ = (file, value);"),
    ("src/run/spawn.rs", "go_without(process::usual_schedule().during(c\"schedule\"));", ""),
    ("src/run/spawn.rs", "go_without(process::limit(&plan::LIMITS).during(c\"set limits\"));", ""),
    ("src/run/spawn.rs", "in plan::PROCESS_FILES {", "in plan::PROCESS_FILES.into_iter().take(0) {"),
    // The kernel may be changed.
    ("src/plan.rs", "t(c\"integrity\")", "t(c\"none\")"),
    ("src/plan.rs", "kernel/modules_disabled=1\\n\\\n", ""),
    ("src/plan.rs", "kernel/kexec_load_disabled=1\\n\\\n", ""),
    // Anybody may say that a service is ready, and be its bus's client.
    ("src/run/sockets.rs", "if sender.is_some() && sender == pid {", "if true {"),
    ("src/run/bus.rs", "&& !self.listens()", ""),
    (
        "src/run/bus.rs",
        "if kubelet.is_some_and(|kubelet| u32::try_from(kubelet.as_raw_nonzero().get()) == Ok(process))",
        "if true",
    ),
    // Links and mounts are followed where logs are written.
    ("src/run/logs.rs", "OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW", "OFlags::RDONLY | OFlags::DIRECTORY"),
    ("src/sys/file.rs", "u64::from(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)", "0"),
];

/// Builds it; its path.
pub fn init() -> PathBuf {
    let copy = scratch("undefended");
    let _ = fs::remove_dir_all(copy.join("src"));
    fs::create_dir_all(&copy).unwrap();
    for file in ["Cargo.toml", "Cargo.lock", "build.rs", "linker.ld", ".cargo", "src"] {
        run(Command::new("cp").arg("-R").arg(repository(file)).arg(&copy));
    }
    // Cargo.toml names what is not copied.
    fs::create_dir_all(copy.join("tests/stand_in")).unwrap();
    fs::write(copy.join("tests/stand_in/program.rs"), "fn main() {}\n").unwrap();
    for (file, from, to) in CHANGES {
        let path = copy.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--bin", "init", "--target", &target()]).current_dir(&copy);
    command.env("CARGO_TARGET_DIR", copy.join("target")).env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(&mut command);
    copy.join("target").join(target()).join("release/init")
}
