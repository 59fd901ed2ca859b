//! The node in QEMU, with real containerd and kubelet, booted as scripts/boot.sh does it. Each scenario boots once and
//! looks at many things; what it measured is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod aarch64;
mod arch;
#[path = "../attack/mod.rs"]
mod attack;
mod cli;
mod cluster;
mod crash;
mod disk;
mod ending;
mod fatal;
mod gate;
mod hitches;
mod identity;
mod image;
mod lan;
mod lines;
mod node;
mod pressure;
mod processes;
mod shell;
mod soak;
mod stop;
mod supervise;
mod variants;
mod vm;
mod watchdog;
