//! Hands the linker what only the binary needs: no C start files, no libraries, our own segments.

fn main() {
    println!("cargo:rerun-if-changed=linker.ld");
    let root = env!("CARGO_MANIFEST_DIR");
    println!("cargo:rustc-env=KIOS_BUILD_DAY={}", build_day(root));
    // The budget is the release binary's; an unoptimised one only has to link.
    let budget = match std::env::var("PROFILE").as_deref() {
        Ok("release") => 69_632,
        _ => 1 << 20,
    };
    let driven = std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    // There a compiler drives the linker, and would add what C programs start with.
    for argument in ["-nostartfiles", "-nostdlib"].into_iter().filter(|_| driven) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in [
        "-static",
        "--build-id=none",
        "-znoexecstack",
        "--gc-sections",
        "-O2",
        "--no-eh-frame-hdr",
        &format!("--defsym=FILE_BYTES_MAX={budget}"),
        &format!("-T{root}/linker.ld"),
    ] {
        let through = if driven && argument != "-static" { "-Wl," } else { "" };
        println!("cargo:rustc-link-arg-bins={through}{argument}");
    }
}

/// The day of the sources, in seconds since 1970, so that the same ones make the same binary: SOURCE_DATE_EPOCH
/// (reproducible-builds.org), or of the last commit, or of this file.
fn build_day(root: &str) -> u64 {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = given.or_else(|| git(&["log", "-1", "--format=%ct"])).and_then(|text| text.parse().ok());
    let of_this_file = || {
        let time = std::fs::metadata(format!("{root}/build.rs")).and_then(|file| file.modified()).ok()?;
        time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
    };
    let seconds = seconds.or_else(of_this_file).unwrap_or(0);
    seconds - seconds % 86_400
}
