//! The kernel's random numbers (random(4)).

use core::ffi::CStr;
use linux_raw_sys::general::__NR_ioctl;
use linux_raw_sys::ioctl::RNDADDENTROPY;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, Result};

use super::arch::syscall;
use super::{check, fd_argument, file};
use crate::plan::SEED_BYTES;

const DEVICE: &CStr = c"/dev/random";

/// `struct rand_pool_info` (linux/random.h) with a seed.
#[repr(C)]
struct Entropy {
    bits: i32,
    bytes: i32,
    seed: [u8; SEED_BYTES],
}

/// Adds a seed that nobody else knows, every bit of which counts as one of entropy. Errors: EINVAL for one of another length;
/// of open(2).
pub fn credit(seed: &[u8]) -> Result<()> {
    let seed: [u8; SEED_BYTES] = seed.try_into().map_err(|_| Errno::INVAL)?;
    let bytes = i32::try_from(SEED_BYTES).unwrap_or(0);
    let entropy = Entropy { bits: bytes * 8, bytes, seed };
    let device = file::open(CWD, DEVICE, OFlags::WRONLY)?;
    let arguments =
        [fd_argument(device.as_raw_fd()), RNDADDENTROPY as usize, (&raw const entropy).expose_provenance(), 0, 0, 0];
    // SAFETY: the kernel reads the header and the `bytes` after it, all of which `entropy` has.
    check(unsafe { syscall(__NR_ioctl, arguments) }).map(|_| ())
}
