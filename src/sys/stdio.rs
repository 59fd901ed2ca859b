//! Descriptors with fixed numbers: what every process of init, and each service, finds open.
//!
//! 0, 1 and 2 are /dev/null in init, so that nothing it starts inherits the console by accident. Init's own lines go to
//! [`Fixed::Console`], [`Fixed::Kmsg`] and [`Fixed::LogIn`], which are close-on-exec, as is [`Fixed::Image`].
//! [`Fixed::Config`], [`Fixed::Kubeconfig`] and [`Fixed::Authority`] are where a service finds its configuration.

use linux_raw_sys::general::{__NR_close_range, __NR_dup3, O_CLOEXEC};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, Result};

use super::arch::syscall;
use super::{check, fd, fd_argument, file};

/// The fixed descriptors.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Fixed {
    /// Standard input.
    Input = 0,
    /// Standard output.
    Output = 1,
    /// Standard error output.
    Error = 2,
    /// The console, for init's own lines.
    Console = 3,
    /// /dev/kmsg, for init's own lines.
    Kmsg = 4,
    /// A service's configuration, a file or a pipe; plan.rs names it as /proc/self/fd/5.
    Config = 5,
    /// The pipe to the logs' writer: its end to write, non-blocking.
    LogIn = 6,
    /// The same pipe's end to read.
    LogOut = 7,
    /// The root image's file; plan.rs names it as /proc/self/fd/8.
    Image = 8,
    /// kubelet's kubeconfig, where it has one; plan.rs names it as /proc/self/fd/9.
    Kubeconfig = 9,
    /// The cluster's certificate authority, of the same; kubelet-in-cluster.yaml names it as /proc/self/fd/10.
    Authority = 10,
}
/// The last of them.
const LAST: Fixed = Fixed::Authority;

/// Fills each number up to [`LAST`] that is closed with a descriptor that can neither be read nor written, so that no
/// file opened later is taken for one of these. Errors: of open(2) on `/`.
pub fn reserve() -> Result<()> {
    loop {
        match file::open(CWD, c"/", OFlags::PATH) {
            Ok(placeholder) if placeholder.as_raw_fd() > LAST as RawFd => return Ok(()),
            Ok(placeholder) => core::mem::forget(placeholder),
            // It is number 0, which an `Fd` does not hold: reserved all the same.
            Err(Errno::BADF) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes `fixed` a copy of `from`. Errors: of dup2(2); EINVAL when they are the same.
pub fn install(from: BorrowedFd<'_>, fixed: Fixed, inherited: bool) -> Result<()> {
    let flags = if inherited { 0 } else { O_CLOEXEC as usize };
    // SAFETY: the call touches no memory; no owned descriptor has the number, since
    // `reserve` took them before anything else was opened.
    check(unsafe { syscall(__NR_dup3, [fd_argument(from.as_raw_fd()), fd_argument(fixed as RawFd), flags]) })
        .map(|_| ())
}

/// Closes every descriptor but the fixed ones, in a child of init that stays: what init closes must not stay open there.
/// No [`fd::Fd`] is used after it.
pub fn close_others() {
    // SAFETY: touches no memory. The caller, which ends in `process::exit`, uses no owned descriptor any more.
    unsafe { syscall(__NR_close_range, [fd_argument(LAST as RawFd + 1), u32::MAX as usize, 0]) };
}

/// One of the fixed descriptors: open from [`reserve`] on and never closed. Before that, the kernel answers EBADF.
pub fn get(fixed: Fixed) -> BorrowedFd<'static> {
    fd::borrow(fixed as RawFd)
}
