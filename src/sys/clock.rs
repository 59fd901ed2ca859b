//! Time since power-on.

use core::mem::MaybeUninit;
use linux_raw_sys::general::{__NR_clock_gettime, CLOCK_BOOTTIME, timespec};

use super::arch::syscall;

/// Microseconds since the kernel started (CLOCK_BOOTTIME, clock_gettime(2)); 0 if the kernel refuses, which it does not.
/// By system call: the vDSO's parser costs more bytes than it saves nanoseconds here.
pub fn since_power_on() -> u64 {
    let mut now = MaybeUninit::<timespec>::zeroed();
    // SAFETY: `now` is a timespec the kernel may write.
    unsafe { syscall(__NR_clock_gettime, [CLOCK_BOOTTIME as usize, now.as_mut_ptr().expose_provenance(), 0, 0, 0, 0]) };
    // SAFETY: a timespec is two integers: all zeroes is one, and so is what the kernel wrote.
    let now = unsafe { now.assume_init() };
    // Neither is negative.
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000).wrapping_add(now.tv_nsec.cast_unsigned() / 1_000)
}
