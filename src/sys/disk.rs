//! Block devices and ext4.

use linux_raw_sys::general::{__NR_fanotify_init, __NR_fanotify_mark};
use linux_raw_sys::ioctl::{BLKGETSIZE64, BLKPG, BLKSSZGET};
use rustix::fd::AsRawFd;
use rustix::io::Result;
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument, ioctl};

/// `_IOW('f', 16, __u64)` (linux/ext4.h).
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// Bytes of a block device. Errors: ENOTTY for what is none.
pub fn bytes(device: &Fd) -> Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: it writes a 64-bit number.
    unsafe { ioctl(device, BLKGETSIZE64, &mut bytes) }?;
    Ok(bytes)
}

/// Bytes of its sectors. Errors: ENOTTY.
pub fn sector(device: &Fd) -> Result<u64> {
    let mut bytes = 0u32;
    // SAFETY: it writes an int.
    unsafe { ioctl(device, BLKSSZGET, &mut bytes) }?;
    Ok(bytes.into())
}

/// linux/blkpg.h.
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition`, but for two names that this request does not look at: bytes.
#[repr(C)]
struct Partition {
    start: u64,
    length: u64,
    number: i32,
    names: [u8; 128],
}

const PARTITION_BYTES: i32 = 152;
const_assert_eq!(size_of::<Partition>(), PARTITION_BYTES as usize);

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Request<'a> {
    what: i32,
    flags: i32,
    length: i32,
    partition: &'a Partition,
}

/// Tells the kernel how long partition `number` of a disk is, in bytes. Errors: EBUSY for two that overlap; ENXIO for
/// none.
pub fn resize_partition(disk: &Fd, number: u64, start: u64, length: u64) -> Result<()> {
    let number = i32::try_from(number).unwrap_or(0);
    let partition = Partition { start, length, number, names: [0; 128] };
    let mut request =
        Request { what: BLKPG_RESIZE_PARTITION, flags: 0, length: PARTITION_BYTES, partition: &partition };
    // SAFETY: it reads the two structs, which outlive the call.
    unsafe { ioctl(disk, BLKPG, &mut request) }
}

/// Has the mounted ext4 file system of which `root` is a directory grow to that many blocks; already made ones change nothing.
/// Errors: EPERM, EROFS, ENOSPC, EOPNOTSUPP for one without room for more descriptors.
pub fn grow(root: &Fd, mut blocks: u64) -> Result<()> {
    // SAFETY: it reads a 64-bit number.
    unsafe { ioctl(root, EXT4_IOC_RESIZE_FS, &mut blocks) }
}

/// linux/fanotify.h: FAN_CLOEXEC, FAN_NONBLOCK, FAN_REPORT_FID.
const REPORT: usize = 0x1 | 0x2 | 0x200;
/// FAN_MARK_ADD, FAN_MARK_FILESYSTEM.
const MARK: usize = 0x1 | 0x100;
const FAN_FS_ERROR: usize = 0x8000;

/// A descriptor that can be read once the kernel finds an error in the file system of which `root` is a directory
/// (fanotify(7), FAN_FS_ERROR). Errors: of fanotify_init(2) and fanotify_mark(2).
pub fn errors(root: &Fd) -> Result<Fd> {
    // SAFETY: touches no memory.
    let events = Fd::from_answer(unsafe { syscall(__NR_fanotify_init, [REPORT, 0]) })?;
    let (group, of) = (fd_argument(events.as_raw_fd()), fd_argument(root.as_raw_fd()));
    // SAFETY: no path is given; touches no memory.
    check(unsafe { syscall(__NR_fanotify_mark, [group, MARK, FAN_FS_ERROR, of, 0]) })?;
    Ok(events)
}
