//! The modules of kios-init, a PID 1 that starts containerd and kubelet and nothing else. `main.rs` says what it is.
//!
//! A library so that host tests link the very code of the binary and read the same [`plan`].
#![cfg_attr(not(test), no_std)]
// The tests may stop on what the code may not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod boot;
pub mod error;
pub mod log;
pub mod plan;
pub mod report;
pub mod run;
pub mod state;
pub mod stop;
pub mod sys;
