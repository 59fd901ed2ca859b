//! The kernel's records of crashes (pstore: Documentation/ABI/testing/pstore), moved to where they can be read, so that its
//! store has room for the next one.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, mkdirat, unlinkat};
use rustix::io::{Errno, Result, read, write};

use crate::boot::formats::entries;
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::{plan, report};

/// Moves them all to the logs' directory. A store that the kernel lacks is empty.
pub fn move_to(logs: &Fd) {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Ok(store) = file::open(CWD, plan::PSTORE.get(), how) else { return };
    let _ = mkdirat(logs, plan::RECORDS, Mode::RWXU);
    let Ok(records) = file::open(logs.as_fd(), plan::RECORDS, how) else { return };
    let (mut moved, mut space) = (0, [0; 2048]);
    while let Ok(got @ 1..) = file::entries(&store, &mut space) {
        for (name, _) in entries(space.get(..got).unwrap_or(&[])).filter(|(_, is_directory)| !is_directory) {
            match move_one(&store, &records, name) {
                Ok(()) => moved += 1,
                Err(errno) => report::failed(name.to_bytes(), errno),
            }
        }
    }
    if moved > 0 {
        report::line()
            .number(moved)
            .text(c" crash records moved to ")
            .path(plan::LOG_DIRECTORY)
            .text(c"/")
            .path(plan::RECORDS)
            .send();
    }
}

/// Appends a record to what there is of its name, and removes it once that is on the disk.
fn move_one(store: &Fd, records: &Fd, name: &CStr) -> Result<()> {
    let (from, to) = (file::open(store.as_fd(), name, OFlags::RDONLY)?, file::append(records, name)?);
    let mut space = [0; 2048];
    loop {
        let got = read(&from, &mut space)?;
        if got == 0 {
            break;
        }
        if write(&to, space.get(..got).unwrap_or(&[]))? != got {
            return Err(Errno::NOSPC);
        }
    }
    fsync(&to)?;
    unlinkat(store, name, AtFlags::empty())
}
