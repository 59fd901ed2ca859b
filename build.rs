//! Hands the linker what only the binary needs: no C start files, no libraries, our own segments.

fn main() {
    println!("cargo:rerun-if-changed=linker.ld");
    let root = env!("CARGO_MANIFEST_DIR");
    // The budget is the release binary's; an unoptimised one only has to link.
    let budget = match std::env::var("PROFILE").as_deref() {
        Ok("release") => 40_960,
        _ => 1 << 20,
    };
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noexecstack",
        "-Wl,--gc-sections",
        "-Wl,-O2",
        "-Wl,--no-eh-frame-hdr",
        &format!("-Wl,--defsym=FILE_BYTES_MAX={budget}"),
        &format!("-Wl,-T,{root}/linker.ld"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
