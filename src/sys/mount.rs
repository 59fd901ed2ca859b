//! The mounts of this process's namespace by id (listmount(2), statmount(2), Linux 6.8): in order, and with nothing to
//! parse. /proc/self/mountinfo would be text of any length, with escapes. And freezing a file system.

use core::ffi::CStr;
use core::mem::size_of;
use linux_raw_sys::general::{
    __NR_ioctl, __NR_listmount, __NR_statmount, LISTMOUNT_REVERSE, LSMT_ROOT, STATMOUNT_FS_TYPE, STATMOUNT_MNT_POINT,
    mnt_id_req, statmount,
};
use linux_raw_sys::ioctl::FIFREEZE;
use rustix::fd::AsRawFd;
use rustix::io::Result;
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// Fills `ids` with the mounts made before mount `last`, the newest first; from the newest of all on where that is 0. Their
/// number; 0 after the last. Errors: ENOSYS.
pub fn list(last: u64, ids: &mut [u64]) -> Result<usize> {
    let request = request(i64::from(LSMT_ROOT).cast_unsigned(), last);
    let arguments = [
        (&raw const request).expose_provenance(),
        ids.as_mut_ptr().expose_provenance(),
        ids.len(),
        LISTMOUNT_REVERSE as usize,
    ];
    // SAFETY: `request` has the size it says; `ids` is writable for that many.
    check(unsafe { syscall(__NR_listmount, arguments) })
}

/// Makes the file system of `directory` as it is on its disk whole, and holds up whoever writes to it from then on (FIFREEZE,
/// fs/ioctl.c). Errors: EOPNOTSUPP where it has no disk; EBUSY where it is frozen.
pub fn freeze(directory: &Fd) -> Result<()> {
    // SAFETY: the request takes no argument.
    check(unsafe { syscall(__NR_ioctl, [fd_argument(directory.as_raw_fd()), FIFREEZE as usize]) }).map(|_| ())
}

/// Bytes of a status's strings: a path (PATH_MAX) and a type.
const STRING_BYTES: usize = 4096 + 64;

/// What the kernel says of one mount. The last byte is always zero.
#[repr(C)]
pub struct Status {
    fixed: statmount,
    strings: [u8; STRING_BYTES + 1],
}
const_assert_eq!(size_of::<statmount>(), 512);

impl Status {
    /// The status of mount `id`. Errors: ENOENT once it is gone; ENOSYS.
    pub fn of(id: u64) -> Result<Status> {
        // SAFETY: both are integers, for which zero is a value.
        let mut status: Status = unsafe { core::mem::zeroed() };
        let request = request(id, (STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE).into());
        let arguments = [
            (&raw const request).expose_provenance(),
            (&raw mut status).expose_provenance(),
            size_of::<statmount>() + STRING_BYTES,
            0,
        ];
        // SAFETY: `request` has the size it says; `status` is writable for more than the size given.
        check(unsafe { syscall(__NR_statmount, arguments) })?;
        Ok(status)
    }

    /// Where it is mounted, below this process's root.
    pub fn place(&self) -> &CStr {
        self.string(self.fixed.mnt_point)
    }

    /// Its file system's type.
    pub fn kind(&self) -> &CStr {
        self.string(self.fixed.fs_type)
    }

    fn string(&self, at: u32) -> &CStr {
        let from = usize::try_from(at).unwrap_or(STRING_BYTES).min(STRING_BYTES);
        // SAFETY: within `strings`, whose last byte the kernel was not given: it is zero.
        unsafe { CStr::from_ptr(self.strings.as_ptr().add(from).cast()) }
    }
}

fn request(mnt_id: u64, param: u64) -> mnt_id_req {
    let size = u32::try_from(size_of::<mnt_id_req>()).unwrap_or(0);
    mnt_id_req { size, spare: 0, mnt_id, param, mnt_ns_id: 0 }
}
