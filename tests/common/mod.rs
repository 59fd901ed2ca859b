//! What the tests of the real binary share.
// Each test program uses its part.
#![allow(dead_code)]

pub mod layout;
pub mod log;
pub mod machine;
pub mod namespace;
pub mod process;
pub mod setup;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The longest that anything which should happen at once may take on a loaded test machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer. Panics, naming `what`, when there is none within [`SOON`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The release binary, which is what a node runs.
pub fn init() -> PathBuf {
    let path = std::env::var_os("KIOS_INIT").map_or_else(|| target().join("release/init"), PathBuf::from);
    assert!(path.is_file(), "no {}: run scripts/test.sh, or cargo build --release first", path.display());
    path
}

/// The stand-in program. Cargo builds examples when all tests are run, but not for `--test`, and there is no variable
/// that names them.
pub fn stand_in() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
            "build",
            "--quiet",
            "--locked",
            "--example",
            "stand-in",
        ]);
        assert!(status.status().expect("cargo").success(), "the stand-in does not build");
        target().join("debug/examples/stand-in")
    });
    built.clone()
}

/// Where cargo builds for this machine: the directory above that of this program's profile.
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(3).expect("target directory").to_owned()
}
