//! The pods that come with the image, and their images: put in place on a disk that has no static pods yet.

use core::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags, fstat, renameat, sendfile, syncfs};
use rustix::io::{Errno, Result};

use super::formats::entries;
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::file;

/// Puts them below `root`, unless it has a directory of static pods, which comes last: a power cut before leaves it to the next
/// boot to do it again. Errors: ENOSPC, ELOOP; of the calls.
pub fn plant(root: &Fd) -> Result<()> {
    match file::directory(root, plan::MANIFESTS) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    match file::open(CWD, plan::IMAGE_SEED, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(seed) => copy(&seed, root, plan::SEED_DEPTH)?,
        // The image has none.
        Err(Errno::NOENT) => file::make_directory(root, plan::MANIFESTS_NEW, Mode::RWXU)?,
        Err(errno) => return Err(errno),
    }
    syncfs(root)?;
    renameat(root, plan::MANIFESTS_NEW, root, plan::MANIFESTS)?;
    syncfs(root)
}

/// Copies what is in `from` into `to`, over what a power cut left there; no link there is followed.
fn copy(from: &Fd, to: &Fd, depth: usize) -> Result<()> {
    let mut space = [0; 1024];
    loop {
        let got = file::entries(from, &mut space)?;
        if got == 0 {
            return Ok(());
        }
        for (name, is_directory) in entries(space.get(..got).unwrap_or(&[])) {
            if is_directory {
                copy_directory(from, to, name, depth.checked_sub(1).ok_or(Errno::LOOP)?)?;
            } else {
                copy_file(from, to, name)?;
            }
        }
    }
}

fn copy_directory(from: &Fd, to: &Fd, name: &CStr, depth: usize) -> Result<()> {
    let from = file::directory(from, name)?;
    file::make_directory(to, name, Mode::from_raw_mode(fstat(&from)?.st_mode))?;
    copy(&from, &file::directory(to, name)?, depth)
}

fn copy_file(from: &Fd, to: &Fd, name: &CStr) -> Result<()> {
    let from = file::regular(from, name)?;
    let data = fstat(&from)?;
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let to = file::below(to, name, how, Mode::from_raw_mode(data.st_mode & 0o777))?;
    let mut left = usize::try_from(data.st_size).unwrap_or(0);
    while left > 0 {
        match sendfile(&to, &from, None, left)? {
            0 => return Err(Errno::IO),
            sent => left = left.saturating_sub(sent),
        }
    }
    Ok(())
}
