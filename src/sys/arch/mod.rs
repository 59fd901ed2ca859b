//! What differs by CPU. Each file holds the same items in the same order, so that a diff between two reads well.

use core::mem::MaybeUninit;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{FILTER, FILTER_LOADS, copy_up, fill, syscall};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{FILTER, FILTER_LOADS, copy_up, fill, syscall};

/// A system call's arguments in the registers for them: what it does not take is whatever was there.
#[inline(always)]
fn registers<const N: usize>(arguments: [usize; N]) -> [MaybeUninit<usize>; 6] {
    const { assert!(N <= 6, "no system call takes more") };
    let register = |index: usize| arguments.get(index).map_or(MaybeUninit::uninit(), |value| MaybeUninit::new(*value));
    [register(0), register(1), register(2), register(3), register(4), register(5)]
}
