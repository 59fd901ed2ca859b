//! What stands for a node's root image where init runs in namespaces; tests/bench has it too.

/// Outside id of the user namespace's root, as stand_in/launch.rs and tests/bench map it.
pub const OWNER: u32 = 100_000;

/// Directories that the root image has, beside those of the programs and their libraries.
pub const DIRECTORIES: &[&str] = &[
    "usr/bin",
    "etc/kios",
    "etc/kubernetes",
    "etc/cni",
    "opt/cni/bin",
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var",
    "data",
    "kios",
    "newroot",
    "kernel",
];
