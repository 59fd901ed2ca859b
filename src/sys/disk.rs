//! Block devices and ext4.

use linux_raw_sys::general::__NR_ioctl;
use linux_raw_sys::ioctl::BLKGETSIZE64;
use rustix::fd::AsRawFd;
use rustix::io::Result;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// `_IOW('f', 16, __u64)` (linux/ext4.h).
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// Bytes of a block device. Errors: ENOTTY for what is none.
pub fn bytes(device: &Fd) -> Result<u64> {
    let mut bytes = 0;
    ioctl(device, BLKGETSIZE64, &mut bytes)?;
    Ok(bytes)
}

/// Has the mounted ext4 file system of which `root` is a directory grow to that many blocks; already made ones change nothing.
/// Errors: EPERM, EROFS, ENOSPC, EOPNOTSUPP for one without room for more descriptors.
pub fn grow(root: &Fd, mut blocks: u64) -> Result<()> {
    ioctl(root, EXT4_IOC_RESIZE_FS, &mut blocks)
}

fn ioctl(file: &Fd, request: u32, number: &mut u64) -> Result<()> {
    let arguments = [fd_argument(file.as_raw_fd()), request as usize, (&raw mut *number).expose_provenance(), 0, 0, 0];
    // SAFETY: both requests read or write one 64-bit number, which `number` is.
    check(unsafe { syscall(__NR_ioctl, arguments) }).map(|_| ())
}
