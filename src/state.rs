//! What init keeps on the data disk, in a directory of its own: the machine's id, and a seed for random numbers, whose file's
//! time is the clock's.
//!
//! Boot reads it before anything else runs; later on it is a child's to open it, since a disk may hang. A file is written
//! whole or not at all, whenever the power goes.

use core::ffi::CStr;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, fstat, fsync, futimens, renameat, unlinkat};
use rustix::io::{Errno, Result, write};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;
use crate::plan;
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::{file, random};

/// The directory. Errors: of open(2).
pub fn directory() -> Result<Fd> {
    file::open(CWD, plan::STATE, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// Puts a file of these bytes, for root alone, in the place of what `name` was; last modified at `time`, in seconds since
/// 1970, or now. Errors: of the calls; EIO for a part of it.
pub fn put(directory: &Fd, name: &CStr, bytes: &[u8], time: Option<u64>) -> Result<()> {
    // What a power cut left.
    let _ = unlinkat(directory, plan::STATE_NEW, AtFlags::empty());
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = file::below(directory, plan::STATE_NEW, how, Mode::RUSR | Mode::WUSR)?;
    if write(&file, bytes)? != bytes.len() {
        return Err(Errno::IO);
    }
    if let Some(time) = time {
        let time = Timespec { tv_sec: time.cast_signed(), tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
    }
    fsync(&file)?;
    renameat(directory, plan::STATE_NEW, directory, name)?;
    fsync(directory)
}

/// Seconds since 1970 that it was when the seed was last saved. Errors: ENOENT where it never was; of open(2).
pub fn saved_time(directory: &Fd) -> Result<u64> {
    let file = file::below(directory, plan::SEED, OFlags::PATH, Mode::empty())?;
    Ok(u64::try_from(fstat(&file)?.st_mtime).unwrap_or(0))
}

/// Saves a seed, and with it the time. Says what fails.
pub fn save() {
    tell(directory().and_then(|directory| put_seed(&directory, None)));
}

/// Gives the kernel the seed that was saved, once: another one is in its place before it counts. The time stays as it was
/// saved, since nobody knows yet whether the clock is right. Says what fails.
pub fn renew() {
    tell(directory().and_then(|directory| {
        let mut space = [0; plan::SEED_BYTES + 1];
        let seed = file::read_small(&directory, plan::SEED, &mut space);
        // The next one is of this one too.
        seed.map_or(Ok(()), random::mix)?;
        put_seed(&directory, Some(saved_time(&directory).unwrap_or(0)))?;
        match seed {
            Ok(seed) => random::credit(seed),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }));
}

fn put_seed(directory: &Fd, time: Option<u64>) -> Result<()> {
    let mut seed = [0; plan::SEED_BYTES];
    // Whoever asks while the kernel's generator is not ready gets what it has.
    getrandom(&mut seed, GetRandomFlags::INSECURE)?;
    put(directory, plan::SEED, &seed, time)
}

fn tell(done: Result<()>) {
    if let Err(errno) = done {
        report::degraded(&Error::new(plan::STATE, errno));
    }
}
