//! Time since power-on, and what the clock shows.

use core::mem::MaybeUninit;
use linux_raw_sys::general::{__NR_clock_gettime, __NR_clock_settime, CLOCK_BOOTTIME, CLOCK_REALTIME, timespec};
use rustix::io::Result;

use super::arch::syscall;
use super::check;

/// Microseconds since the kernel started (CLOCK_BOOTTIME).
pub fn since_power_on() -> u64 {
    let now = get(CLOCK_BOOTTIME);
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000).wrapping_add(now.tv_nsec.cast_unsigned() / 1_000)
}

/// Seconds since 1970 by the clock (CLOCK_REALTIME); 0 before that.
pub fn now() -> u64 {
    u64::try_from(get(CLOCK_REALTIME).tv_sec).unwrap_or(0)
}

/// Sets the clock to these seconds since 1970 (clock_settime(2)). Errors: EPERM; EINVAL for a time before power-on.
pub fn set(seconds: u64) -> Result<()> {
    let time = timespec { tv_sec: seconds.cast_signed(), tv_nsec: 0 };
    let arguments = [CLOCK_REALTIME as usize, (&raw const time).expose_provenance(), 0, 0, 0, 0];
    // SAFETY: `time` is a timespec, and outlives the call.
    check(unsafe { syscall(__NR_clock_settime, arguments) }).map(|_| ())
}

/// A clock's time (clock_gettime(2)); 0 if the kernel refuses, which it does not. By system call: the vDSO's parser costs more
/// bytes than it saves nanoseconds here.
fn get(clock: u32) -> timespec {
    let mut now = MaybeUninit::<timespec>::zeroed();
    // SAFETY: `now` is a timespec the kernel may write.
    unsafe { syscall(__NR_clock_gettime, [clock as usize, now.as_mut_ptr().expose_provenance(), 0, 0, 0, 0]) };
    // SAFETY: a timespec is two integers: all zeroes is one, and so is what the kernel wrote.
    unsafe { now.assume_init() }
}
