//! Time since power-on, a timer by it, and what the clock shows.

use core::mem::MaybeUninit;
use linux_raw_sys::general::{
    __NR_clock_gettime, __NR_clock_settime, __NR_timerfd_create, __NR_timerfd_settime, CLOCK_BOOTTIME, CLOCK_REALTIME,
    O_CLOEXEC, itimerspec, timespec,
};
use rustix::fd::AsRawFd;
use rustix::io::Result;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

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
    let arguments = [CLOCK_REALTIME as usize, (&raw const time).expose_provenance()];
    // SAFETY: `time` is a timespec, and outlives the call.
    check(unsafe { syscall(__NR_clock_settime, arguments) }).map(|_| ())
}

/// A timer by the time since power-on, which is not set (timerfd_create(2)). Errors: EMFILE, ENOMEM.
pub fn timer() -> Result<Fd> {
    // TFD_CLOEXEC is O_CLOEXEC (linux/timerfd.h).
    // SAFETY: no memory is passed.
    Fd::from_answer(unsafe { syscall(__NR_timerfd_create, [CLOCK_BOOTTIME as usize, O_CLOEXEC as usize]) })
}

/// Makes it readable from `at` on, milliseconds since power-on, and at once if that is over; not before
/// (timerfd_settime(2)).
pub fn set_timer(timer: &Fd, at: u64) {
    const TFD_TIMER_ABSTIME: usize = 1;
    // Zero would unset it.
    let at = at.max(1);
    let value = timespec { tv_sec: (at / 1_000).cast_signed(), tv_nsec: (at % 1_000).cast_signed() * 1_000_000 };
    let once = itimerspec { it_interval: timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    let arguments = [fd_argument(timer.as_raw_fd()), TFD_TIMER_ABSTIME, (&raw const once).expose_provenance(), 0];
    // SAFETY: `once` is read only for the length of the call; no old setting is asked for.
    unsafe { syscall(__NR_timerfd_settime, arguments) };
}

/// A clock's time (clock_gettime(2)); 0 if the kernel refuses, which it does not. By system call: the vDSO's parser costs more
/// bytes than it saves nanoseconds here.
fn get(clock: u32) -> timespec {
    let mut now = MaybeUninit::<timespec>::zeroed();
    // SAFETY: `now` is a timespec the kernel may write.
    unsafe { syscall(__NR_clock_gettime, [clock as usize, now.as_mut_ptr().expose_provenance()]) };
    // SAFETY: a timespec is two integers: all zeroes is one, and so is what the kernel wrote.
    unsafe { now.assume_init() }
}
