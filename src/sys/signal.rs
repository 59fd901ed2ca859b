//! Signals as a descriptor: all stay blocked for ever, and the main loop reads them.

use core::mem::{size_of, size_of_val};
use linux_raw_sys::general::{
    __NR_read, __NR_rt_sigprocmask, __NR_rt_sigtimedwait, __NR_signalfd4, O_CLOEXEC, O_NONBLOCK, SIG_SETMASK, timespec,
};
use rustix::fd::AsRawFd;
use rustix::io::Result;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// The kernel's sigset_t: one bit a signal, signal 1 in bit 0.
pub type Mask = u64;

/// `struct signalfd_siginfo` (signalfd(2)), of which init reads the number, its first word.
type SignalInfo = [u32; 32];

fn set_mask(mask: Mask) -> Result<()> {
    let arguments = [SIG_SETMASK as usize, (&raw const mask).expose_provenance(), 0, size_of::<Mask>()];
    // SAFETY: `mask` is a kernel sigset of the size given, read only for the length of the call; no old mask is asked for.
    check(unsafe { syscall(__NR_rt_sigprocmask, arguments) }).map(|_| ())
}

/// Blocks every signal that can be blocked. Errors: none known.
pub fn block_all() -> Result<()> {
    set_mask(Mask::MAX)
}

/// Unblocks every signal: what a new program expects to start with. Errors: none known.
pub fn unblock_all() -> Result<()> {
    set_mask(0)
}

/// Takes one pending signal, or waits for one, at most `limit` milliseconds (sigtimedwait(2)): for where the descriptor is
/// not needed, and may not be had.
pub fn wait(limit: u64) {
    let mask = Mask::MAX;
    // Longer than a day only wakes the caller for nothing.
    let limit = limit.min(86_400_000).cast_signed();
    let limit = timespec { tv_sec: limit / 1_000, tv_nsec: limit % 1_000 * 1_000_000 };
    let arguments =
        [(&raw const mask).expose_provenance(), 0, (&raw const limit).expose_provenance(), size_of::<Mask>()];
    // SAFETY: `mask` and `limit` are read only for the length of the call; no siginfo is asked for.
    unsafe { syscall(__NR_rt_sigtimedwait, arguments) };
}

/// A descriptor that the signals of `mask` are read from. Errors: of signalfd(2).
pub fn descriptor(mask: Mask) -> Result<Fd> {
    // SFD_CLOEXEC and SFD_NONBLOCK are these (linux/signalfd.h).
    let flags = O_CLOEXEC | O_NONBLOCK;
    let arguments = [usize::MAX, (&raw const mask).expose_provenance(), size_of::<Mask>(), flags as usize];
    // SAFETY: `mask` is a kernel sigset of the size given, read only for the length of the call; -1 makes a new descriptor.
    Fd::from_answer(unsafe { syscall(__NR_signalfd4, arguments) })
}

/// Hands the numbers of pending signals to `each`, the lowest first, at most [`BATCH`] at once.
pub fn read(descriptor: &Fd, each: impl FnMut(u32)) {
    let mut all: [SignalInfo; BATCH] = [[0; 32]; BATCH];
    let arguments = [fd_argument(descriptor.as_raw_fd()), (&raw mut all).expose_provenance(), size_of_val(&all)];
    // SAFETY: `all` is writable for the size given. A signalfd writes whole structs (signalfd(2)), of integers.
    let got = check(unsafe { syscall(__NR_read, arguments) }).unwrap_or(0);
    all.iter().take(got / size_of::<SignalInfo>()).map(|info| info[0]).for_each(each);
}

/// Signals that are read at once.
const BATCH: usize = 8;
