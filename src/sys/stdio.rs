//! Descriptors with fixed numbers: what every process of init, and each service, finds open.
//!
//! 0, 1 and 2 are /dev/null in init, so that nothing it starts inherits the console by accident. Init's own lines go to
//! [`CONSOLE`] and [`KMSG`], which are close-on-exec. [`CONFIG`] is where a service finds its configuration.

use linux_raw_sys::general::{__NR_dup3, O_CLOEXEC};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, Result};

use super::arch::syscall;
use super::{check, fd, fd_argument, file};

/// Standard input, output and error output.
pub const STANDARD: [RawFd; 3] = [0, 1, 2];
/// The console, for init's own lines.
pub const CONSOLE: RawFd = 3;
/// /dev/kmsg, for init's own lines.
pub const KMSG: RawFd = 4;
/// A service's configuration file; plan.rs names it as /proc/self/fd/5.
pub const CONFIG: RawFd = 5;

/// Fills each number up to [`CONFIG`] that is closed with a descriptor that can neither be read nor written, so that no
/// file opened later is taken for one of these. Errors: of open(2) on `/`.
pub fn reserve() -> Result<()> {
    loop {
        match file::open(CWD, c"/", OFlags::PATH) {
            Ok(placeholder) if placeholder.as_raw_fd() > CONFIG => return Ok(()),
            Ok(placeholder) => core::mem::forget(placeholder),
            // It is number 0, which an `Fd` does not hold: reserved all the same.
            Err(Errno::BADF) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes `number`, one of this module's, a copy of `from`. Errors: of dup2(2); EINVAL when they are the same.
pub fn install(from: BorrowedFd<'_>, number: RawFd, inherited: bool) -> Result<()> {
    let flags = if inherited { 0 } else { O_CLOEXEC as usize };
    // SAFETY: the call touches no memory; `number` is one of the fixed ones, which no owned descriptor has, since
    // `reserve` took them before anything else was opened.
    check(unsafe { syscall(__NR_dup3, [fd_argument(from.as_raw_fd()), fd_argument(number), flags, 0, 0, 0]) })
        .map(|_| ())
}

/// One of the fixed descriptors: open from [`reserve`] on and never closed. Before that, the kernel answers EBADF.
pub fn get(number: RawFd) -> BorrowedFd<'static> {
    fd::borrow(number)
}
