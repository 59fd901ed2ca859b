//! The kernel's random numbers (random(4)).

use core::ffi::CStr;
use linux_raw_sys::ioctl::RNDADDENTROPY;
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, Result, write};

use super::{file, ioctl};
use crate::plan::SEED_BYTES;

const DEVICE: &CStr = c"/dev/random";

/// `struct rand_pool_info` (linux/random.h) with a seed.
#[repr(C)]
struct Entropy {
    bits: i32,
    bytes: i32,
    seed: [u8; SEED_BYTES],
}

/// Mixes in bytes that count for nothing, whoever knows them. Errors: of open(2).
pub fn mix(bytes: &[u8]) -> Result<()> {
    write(file::open(CWD, DEVICE, OFlags::WRONLY)?, bytes).map(|_| ())
}

/// Adds a seed that nobody else knows, every bit of which counts as one of entropy. Errors: EINVAL for one of another length;
/// of open(2).
pub fn credit(seed: &[u8]) -> Result<()> {
    let seed: [u8; SEED_BYTES] = seed.try_into().map_err(|_| Errno::INVAL)?;
    let bytes = i32::try_from(SEED_BYTES).unwrap_or(0);
    let device = file::open(CWD, DEVICE, OFlags::WRONLY)?;
    // SAFETY: it reads the header and the `bytes` after it, all of which are there.
    unsafe { ioctl(&device, RNDADDENTROPY, &mut Entropy { bits: bytes * 8, bytes, seed }) }
}
