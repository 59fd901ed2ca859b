//! Files that are in memory alone.

use core::ffi::CStr;
use core::ptr::null_mut;
use linux_raw_sys::general::{
    __NR_memfd_create, __NR_mmap, __NR_munmap, MAP_PRIVATE, MFD_ALLOW_SEALING, MFD_CLOEXEC, PROT_READ,
};
use rustix::fd::AsRawFd;
use rustix::fs::{SealFlags, fcntl_add_seals, sendfile};
use rustix::io::{Errno, Result};

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

const NAME: &CStr = c"kios";

/// An empty one, close-on-exec. Errors: of memfd_create(2).
pub fn file() -> Result<Fd> {
    let flags = (MFD_CLOEXEC | MFD_ALLOW_SEALING) as usize;
    // SAFETY: the name is NUL-terminated and outlives the call.
    Fd::from_answer(unsafe { syscall(__NR_memfd_create, [NAME.as_ptr().expose_provenance(), flags]) })
}

/// From here on nobody changes it. Errors: of fcntl(2), F_ADD_SEALS.
pub fn seal(file: &Fd) -> Result<()> {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
}

/// A file's bytes, that nobody can change any more.
pub struct Copy {
    file: Fd,
    length: usize,
}

impl Copy {
    /// Of what is left to read of `from`. Errors: E2BIG for more than `most` bytes, ENODATA for none; of memfd_create(2),
    /// sendfile(2).
    pub fn of(from: &Fd, most: usize) -> Result<Copy> {
        let file = file()?;
        let mut length = 0;
        while length <= most {
            match sendfile(&file, from, None, most + 1 - length)? {
                0 => break,
                got => length += got,
            }
        }
        if length == 0 {
            return Err(Errno::NODATA);
        } else if length > most {
            return Err(Errno::TOOBIG);
        }
        seal(&file)?;
        Ok(Copy { file, length })
    }

    /// What `read` makes of its bytes. Errors: of mmap(2).
    pub fn with<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let arguments = [
            null_mut::<u8>().expose_provenance(),
            self.length,
            PROT_READ as usize,
            MAP_PRIVATE as usize,
            fd_argument(self.file.as_raw_fd()),
            0,
        ];
        // SAFETY: a new mapping, where the kernel finds room.
        let address = check(unsafe { syscall(__NR_mmap, arguments) })?;
        // SAFETY: that many bytes are mapped there until below, and the seals keep them as they are.
        let made =
            read(unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), self.length) });
        // SAFETY: it is this function's, and `made` can hold nothing of it: it outlives any lifetime that `read` was given.
        unsafe { syscall(__NR_munmap, [address, self.length]) };
        Ok(made)
    }

    /// The file.
    pub fn into_file(self) -> Fd {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::Copy;
    use crate::sys::file;
    use rustix::fs::{CWD, OFlags};
    use rustix::io::{Errno, write};

    #[test]
    fn a_copy_has_all_bytes_and_stays_as_it_is() {
        let path = std::env::temp_dir().join(format!("kios-copy.{}", std::process::id()));
        let text: Vec<u8> = (0..10_000).map(|n: u32| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &text).unwrap();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let from = || file::open(CWD, &name, OFlags::RDONLY).unwrap();
        let bytes = text.len();
        let copy = Copy::of(&from(), bytes).unwrap();
        assert!(copy.with(|bytes| bytes == text).unwrap());
        assert_eq!(write(copy.into_file(), b"x"), Err(Errno::PERM));
        assert_eq!(Copy::of(&from(), bytes - 1).err(), Some(Errno::TOOBIG));
        let none = from();
        rustix::fs::seek(&none, rustix::fs::SeekFrom::Start(bytes as u64)).unwrap();
        assert_eq!(Copy::of(&none, 10).err(), Some(Errno::NODATA));
        std::fs::remove_file(path).unwrap();
    }
}
