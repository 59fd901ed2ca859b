//! The only unsafe code: the system calls rustix lacks, and what stands between the kernel and `main`.
//!
//! Everything public here is safe to call, except the CPU's items in [`arch`] that `start.rs` builds the mem functions
//! from. What it must never do: decide anything. Numbers and structs come from linux-raw-sys, which is generated from the kernel's headers.
#![allow(unsafe_code)]

pub mod arch;
pub mod clock;
pub mod disk;
pub mod dm;
pub mod fd;
pub mod file;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod net;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod signal;
pub mod stdio;
pub mod text;
pub mod watchdog;

use rustix::fd::{AsRawFd, RawFd};
use rustix::io::{Errno, Result};

/// Turns the kernel's raw answer into a result: -4095..=-1 is a negated errno (syscall(2)).
fn check(answer: isize) -> Result<usize> {
    usize::try_from(answer).map_err(|_| errno(answer))
}

/// The errno in a negative answer.
fn errno(answer: isize) -> Errno {
    // In range, so that the assertion in the constructor is compiled away.
    let number = answer.wrapping_neg() & 0xfff;
    i32::try_from(number.max(1)).map_or(Errno::INVAL, Errno::from_raw_os_error)
}

/// ioctl(2) with a pointer to what the request reads or writes.
///
/// # Safety
/// `what` is of the request's type.
unsafe fn ioctl<T>(file: &fd::Fd, request: u32, what: &mut T) -> Result<()> {
    let arguments = [fd_argument(file.as_raw_fd()), request as usize, core::ptr::from_mut(what).expose_provenance()];
    // SAFETY: the caller's word; `what` outlives the call.
    check(unsafe { arch::syscall(linux_raw_sys::general::__NR_ioctl, arguments) }).map(|_| ())
}

/// A descriptor as a system call's argument: the kernel's int parameter takes the lower half.
fn fd_argument(fd: RawFd) -> usize {
    fd.cast_unsigned() as usize
}

/// Sets the level below which kernel messages go to the console (syslog(2), SYSLOG_ACTION_CONSOLE_LEVEL). Errors: EPERM.
pub fn log_level(level: u8) -> Result<()> {
    const CONSOLE_LEVEL: usize = 8;
    // SAFETY: this action takes its number in the length and touches no memory.
    check(unsafe { arch::syscall(linux_raw_sys::general::__NR_syslog, [CONSOLE_LEVEL, 0, usize::from(level)]) })
        .map(|_| ())
}
