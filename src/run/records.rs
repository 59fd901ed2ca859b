//! The kernel's records of crashes (pstore: Documentation/ABI/testing/pstore), moved to where they can be read, so that its
//! store has room for the next one.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, mkdirat, unlinkat};
use rustix::io::{Errno, Result, read, write};

use crate::sys::fd::Fd;
use crate::sys::file;
use crate::{plan, report};

/// Type of a directory entry: a regular file (linux/fs.h, DT_REG).
const REGULAR: u8 = 8;

/// Moves them all to the logs' directory. A store that the kernel lacks is empty.
pub fn move_to(logs: &Fd) {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Ok(store) = file::open(CWD, plan::PSTORE.get(), how) else { return };
    let _ = mkdirat(logs, plan::RECORDS, Mode::RWXU);
    let Ok(records) = file::open(logs.as_fd(), plan::RECORDS, how) else { return };
    let (mut moved, mut space) = (0, [0; 2048]);
    while let Ok(got @ 1..) = file::entries(&store, &mut space) {
        for name in names(space.get(..got).unwrap_or(&[])) {
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

/// Names of the regular files among entries as getdents64(2) gives them: inode 8 bytes, offset 8, length of the entry 2, type 1,
/// name.
pub fn names(mut entries: &[u8]) -> impl Iterator<Item = &CStr> {
    core::iter::from_fn(move || {
        loop {
            let (head, name) = entries.split_first_chunk::<19>()?;
            let [.., low, high, kind] = *head;
            entries = entries.get(usize::from(u16::from_le_bytes([low, high])).max(1)..)?;
            if kind == REGULAR {
                return CStr::from_bytes_until_nul(name).ok();
            }
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut bytes = vec![7; 16];
        bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
        bytes.push(kind);
        bytes.extend(name);
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn only_regular_files_count() {
        let bytes = [entry(4, b"."), entry(8, b"dmesg-erst-1"), entry(4, b".."), entry(8, b"x")].concat();
        assert_eq!(names(&bytes).collect::<Vec<_>>(), [c"dmesg-erst-1", c"x"]);
        assert_eq!(names(&bytes[..bytes.len() - 1]).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(names(&bytes).count() <= bytes.len());
        }
    }
}
