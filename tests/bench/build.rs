//! Hands the linker what the floor needs: no C start files, no libraries, as init itself.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-nostdlib", "-static"] {
        println!("cargo:rustc-link-arg-bin=floor={argument}");
    }
}
