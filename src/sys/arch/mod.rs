//! What differs by CPU. Each file holds the same items in the same order, so that a diff between two reads well.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{FILTER, FILTER_LOADS, copy_up, fill, syscall};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{FILTER, FILTER_LOADS, copy_up, fill, syscall};
