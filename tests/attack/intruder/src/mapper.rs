//! The device mapper (linux/dm-ioctl.h), and devices as such.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};

use crate::{errno, say, say_of};

/// Bytes of `struct dm_ioctl`, and of that and what is behind it.
const HEADER: usize = 312;
const LENGTH: usize = 1024;

/// A table of one target, of 8 blocks (`struct dm_target_spec`): its type, and its parameters.
fn table(kind: &str, parameters: &str) -> Vec<u8> {
    let mut table = [0u8; 40];
    table[8..12].copy_from_slice(&64u32.to_ne_bytes());
    table[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
    [&table, parameters.as_bytes(), &[0]].concat()
}

/// A request: its flags, and what is behind the header.
fn ask(control: &File, number: u64, name: &str, flags: u32, behind: &[u8]) -> nix::Result<()> {
    let mut request = [0u8; LENGTH];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    // version, data_size, data_start, target_count, flags, name.
    for (at, value) in [(0, 4), (12, LENGTH as u32), (16, HEADER as u32), (20, 1), (28, flags)] {
        put(at, &value.to_ne_bytes());
    }
    put(48, name.as_bytes());
    put(HEADER, behind);
    // SAFETY: the kernel reads and writes as many bytes as data_size says.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), number, request.as_mut_ptr()) }).map(drop)
}

const OF_MAPPER: u64 = 0xc138_fd00;
const CREATE: u64 = OF_MAPPER | 3;
const REMOVE: u64 = OF_MAPPER | 4;
const RENAME: u64 = OF_MAPPER | 5;
const SUSPEND: u64 = OF_MAPPER | 6;
const LOAD: u64 = OF_MAPPER | 9;
const CLEAR: u64 = OF_MAPPER | 10;
/// DM_READONLY_FLAG and DM_SUSPEND_FLAG.
const READ_ONLY: u32 = 1;
const SUSPENDED: u32 = 2;

fn control() -> nix::Result<File> {
    OpenOptions::new().read(true).write(true).open("/host/dev/mapper/control").map_err(|error| errno(&error))
}

/// Gives the mapping `name` another table, of the same device, and takes it away.
pub fn tables(name: &str, device: &str) -> nix::Result<()> {
    let control = control()?;
    ask(&control, CREATE, "intruder", 0, &[])?;
    // The kernel lets one of verity have another one of verity, which may be of other hashes.
    let other = table("verity", &format!("1 {device} {device} 4096 4096 8 8 sha256 {} -", "0".repeat(64)));
    // It looks at the type and number of a request alone.
    for (what, mapping, number, table) in [
        ("the root's mapping", name, LOAD, &other),
        ("the root's mapping, by the bare number", name, LOAD & 0xffff, &other),
        ("a mapping of one's own", "intruder", LOAD, &table("error", "")),
    ] {
        say(what, ask(&control, number, mapping, READ_ONLY, table));
    }
    let _ = ask(&control, CLEAR, name, 0, &[]);
    // The control: its own goes.
    ask(&control, REMOVE, "intruder", 0, &[])?;
    say_of("the root's mapping removed", &[Errno::EBUSY], ask(&control, REMOVE, name, 0, &[]));
    Ok(())
}

/// Gives a mapping another name.
pub fn rename(from: &str, to: &str) -> nix::Result<()> {
    ask(&control()?, RENAME, from, 0, to.as_bytes())
}

/// Lets nothing through a mapping, or lets it go on.
pub fn suspend(name: &str, suspended: bool) -> nix::Result<()> {
    ask(&control()?, SUSPEND, name, if suspended { SUSPENDED } else { 0 }, &[])
}

/// Writes to the first block of a device, by a call and by memory.
pub fn write(device: &str) -> nix::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(device).map_err(|error| errno(&error))?;
    // BLKROSET: not read-only any more. Where that is refused, so is what follows.
    // SAFETY: the kernel reads a number.
    let _ = unsafe { libc::ioctl(file.as_raw_fd(), 0x125d, &raw const NO) };
    let refusals = [Errno::EPERM, Errno::EACCES, Errno::EROFS, Errno::EINVAL];
    let written = file.write_all_at(b"intruder", 0).and_then(|()| file.sync_all());
    say_of("written", &refusals, written.map_err(|error| errno(&error)));
    say_of("mapped and written", &refusals, mapped(&file));
    Ok(())
}

static NO: libc::c_int = 0;

fn mapped(file: &File) -> nix::Result<()> {
    let length = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a new mapping, which nothing else uses until it is gone.
    unsafe {
        let memory = mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0)?;
        memory.cast::<u8>().write_volatile(b'i');
        msync(memory, 4096, MsFlags::MS_SYNC)?;
        munmap(memory, 4096)
    }
}
