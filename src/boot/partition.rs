//! The data partition of a disk that is larger than its partition table says.

use core::num::NonZeroU64;
use rustix::fs::{CWD, OFlags, fdatasync};
use rustix::io::{Errno, Result, pread, pwrite};

use super::devices::start;
use super::formats::uevent;
use super::gpt::{self, BLOCK};
use crate::plan::{self, number};
use crate::sys::fd::Fd;
use crate::sys::text::Path;
use crate::sys::{disk, file};

impl gpt::Disk for Fd {
    fn read(&self, at: u64, block: &mut [u8; BLOCK]) -> Result<()> {
        if pread(self, &mut block[..], at)? == BLOCK { Ok(()) } else { Err(Errno::IO) }
    }

    fn write(&mut self, at: u64, block: &[u8; BLOCK]) -> Result<()> {
        if pwrite(self, block, at)? == BLOCK { Ok(()) } else { Err(Errno::IO) }
    }

    fn flush(&mut self) -> Result<()> {
        fdatasync(self)
    }
}

/// Grows the block device `name` to the end of its disk, where that has become larger than its GPT says and the device
/// is the partition of that name. Errors: of reading and writing the disk, and of the ioctls.
pub fn grow(name: &[u8]) -> Result<()> {
    let (mut text, mut path) = ([0; 512], Path::new());
    let own = start(&[b"/sys/class/block/", name, b"/uevent"], 0, &mut text);
    // A name has only one that the kernel took from a GPT.
    let (Some(plan::DATA_LABEL), Some(part)) = (uevent(own, b"PARTNAME="), uevent(own, b"PARTN=")) else {
        return Ok(());
    };
    let part = number(part);
    // In units of 512 bytes, whatever the disk's are (linux/Documentation/ABI/stable/sysfs-block).
    let begin = number(start(&[b"/sys/class/block/", name, b"/start"], 0, &mut text).trim_ascii_end()) << 9;
    // The link there leads below the disk's directory.
    let disk = uevent(start(&[b"/sys/class/block/", name, b"/../uevent"], 0, &mut text), b"DEVNAME=");
    path.set(&[b"/dev/", disk.unwrap_or(&[])]);
    let mut disk = match file::open(CWD, path.get(), OFlags::RDWR) {
        // It cannot be written.
        Err(Errno::ROFS | Errno::ACCESS) => return Ok(()),
        opened => opened?,
    };
    let size = NonZeroU64::new(disk::sector(&disk)?).ok_or(Errno::INVAL)?;
    let bytes = disk::bytes(&disk)?;
    match gpt::grow(&mut disk, size, bytes, begin)? {
        Some(length) => disk::resize_partition(&disk, part, begin, length),
        None => Ok(()),
    }
}
