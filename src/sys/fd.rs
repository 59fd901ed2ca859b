//! Owned descriptors. rustix's own type, without std, asserts on each use that the number is not -1; here that is in the
//! type, and nothing in the binary can panic.

use core::num::NonZero;
use linux_raw_sys::general::__NR_close;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use rustix::io::{Errno, Result};

use super::arch::syscall;
use super::{check, fd_argument};

/// An open descriptor, closed when dropped. Its number is above the fixed ones of [`super::stdio`].
pub struct Fd(NonZero<RawFd>);

impl Fd {
    /// Takes ownership of the descriptor that a system call answered. Errors: the call's own.
    pub(super) fn from_answer(answer: isize) -> Result<Fd> {
        let number = RawFd::try_from(check(answer)?).ok().and_then(NonZero::new);
        number.map(Fd).ok_or(Errno::BADF)
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(self.0.get())
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.get()
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: touches no memory; nothing else owns the number. Linux frees it whatever close answers (close(2)).
        unsafe { syscall(__NR_close, [fd_argument(self.0.get())]) };
    }
}

/// A borrowed descriptor of a number that is not -1.
pub(super) fn borrow<'a>(number: RawFd) -> BorrowedFd<'a> {
    // SAFETY: BorrowedFd is documented to have a descriptor's representation. The callers give numbers from 0 up: of an
    // `Fd` that lives as long, or the fixed ones, which stay open.
    unsafe { core::mem::transmute::<RawFd, BorrowedFd<'a>>(number) }
}
