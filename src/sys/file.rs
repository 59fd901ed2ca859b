//! Calls that make a descriptor, and reading a directory.
//!
//! rustix has them; but without std its Fd is made through an assertion with a message, and its RawDir slices: either
//! brings core's formatting into the binary, a tenth of its budget.

use core::ffi::CStr;
use core::mem::size_of;
use linux_raw_sys::general::{
    __NR_epoll_create1, __NR_epoll_pwait, __NR_fsmount, __NR_fsopen, __NR_getdents64, __NR_openat, __NR_openat2,
    __NR_pipe2, EPOLL_CLOEXEC, FSOPEN_CLOEXEC, O_CLOEXEC, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
    open_how,
};
use rustix::event::epoll::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat};
use rustix::io::{Errno, Result, read};
use rustix::mount::MountAttrFlags;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// Waits until one of `events` is there, or a hang-up, for `limit` milliseconds at most (poll(2)); whether it is.
pub fn ready(fd: BorrowedFd<'_>, events: PollFlags, limit: u64) -> bool {
    let time = Timespec { tv_sec: (limit / 1_000).cast_signed(), tv_nsec: (limit % 1_000 * 1_000_000).cast_signed() };
    poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&time)) != Ok(0)
}

/// Opens `path` below `directory` (openat(2)), close-on-exec. Errors: of open(2).
pub fn open(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<Fd> {
    create(directory, path, flags, Mode::empty())
}

/// As [`open`], with the mode of a file that is made.
pub fn create(directory: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd> {
    let flags = (flags.bits() | O_CLOEXEC) as usize;
    let directory = fd_argument(directory.as_raw_fd());
    // SAFETY: `path` is NUL-terminated and outlives the call.
    Fd::from_answer(unsafe {
        syscall(__NR_openat, [directory, path.as_ptr().expose_provenance(), flags, mode.as_raw_mode() as usize])
    })
}

/// Opens the file `name` of `directory` to append to, made for root alone where it is missing, as [`below`]. A FIFO does not
/// hold the caller. Errors: ENXIO for that; of [`below`].
pub fn append(directory: &Fd, name: &CStr) -> Result<Fd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK;
    below(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Opens `path` below `directory` (openat2(2)), close-on-exec: no link in it and no mount on it is followed. `mode` is that of
/// a file that is made, and empty where none can be. Errors: ELOOP and EXDEV for these; of open(2).
pub fn below(directory: &Fd, path: &CStr, flags: OFlags, mode: Mode) -> Result<Fd> {
    let how = open_how {
        flags: u64::from(flags.bits() | O_CLOEXEC),
        mode: u64::from(mode.as_raw_mode()),
        resolve: u64::from(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV),
    };
    let arguments = [
        fd_argument(directory.as_raw_fd()),
        path.as_ptr().expose_provenance(),
        (&raw const how).expose_provenance(),
        size_of::<open_how>(),
    ];
    // SAFETY: `path` is NUL-terminated, `how` has the size given, and both outlive the call.
    Fd::from_answer(unsafe { syscall(__NR_openat2, arguments) })
}

/// Opens the directory `path` below `at`, as [`below`] does. Errors: ENOTDIR; of [`below`].
pub fn directory(at: &Fd, path: &CStr) -> Result<Fd> {
    below(at, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Makes the directory `path` below `at`, unless it is there (mkdirat(2)). Errors: of mkdir(2).
pub fn make_directory(at: &Fd, path: &CStr, mode: Mode) -> Result<()> {
    match mkdirat(at, path, mode) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Opens the file `name` of `directory` for reading, as [`below`] does. Errors: EINVAL for what is no file; of open(2).
pub fn regular(directory: &Fd, name: &CStr) -> Result<Fd> {
    let file = below(directory, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() { Ok(file) } else { Err(Errno::INVAL) }
}

/// Reads such a file into `space`, which must be larger: its bytes. Errors: E2BIG; of [`regular`].
pub fn read_small<'a>(directory: &Fd, name: &CStr, space: &'a mut [u8]) -> Result<&'a [u8]> {
    let file = regular(directory, name)?;
    let got = read(&file, &mut *space)?;
    if got < space.len() { Ok(space.get(..got).unwrap_or(&[])) } else { Err(Errno::TOOBIG) }
}

/// A context to configure a file system of type `kind` in (fsopen(2)). Errors: ENODEV for a type the kernel lacks.
pub fn file_system(kind: &CStr) -> Result<Fd> {
    // SAFETY: `kind` is NUL-terminated and outlives the call.
    Fd::from_answer(unsafe { syscall(__NR_fsopen, [kind.as_ptr().expose_provenance(), FSOPEN_CLOEXEC as usize]) })
}

/// linux/mount.h.
const FSMOUNT_CLOEXEC: usize = 1;

/// A mount, attached to nothing, of the file system created in `context` (fsmount(2)). Errors: of fsmount(2).
pub fn detached_mount(context: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<Fd> {
    let arguments = [fd_argument(context.as_raw_fd()), FSMOUNT_CLOEXEC, attributes.bits() as usize];
    // SAFETY: the call touches no memory of ours.
    Fd::from_answer(unsafe { syscall(__NR_fsmount, arguments) })
}

/// An epoll instance (epoll_create1(2)). Errors: EMFILE, ENOMEM.
pub fn epoll() -> Result<Fd> {
    // SAFETY: the call touches no memory of ours.
    Fd::from_answer(unsafe { syscall(__NR_epoll_create1, [EPOLL_CLOEXEC as usize]) })
}

/// A pipe, close-on-exec: its end to read, its end to write (pipe2(2)). Errors: EMFILE, ENFILE.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let arguments = [(&raw mut ends).expose_provenance(), O_CLOEXEC as usize];
    // SAFETY: `ends` is writable for two ints.
    check(unsafe { syscall(__NR_pipe2, arguments) })?;
    let [read, write] = ends.map(|end| Fd::from_answer(end as isize));
    Ok((read?, write?))
}

/// Reads as many bytes as `space` has; false where there are no more before.
pub fn fill(from: BorrowedFd<'_>, mut space: &mut [u8]) -> bool {
    while !space.is_empty() {
        match read(from, &mut *space) {
            Ok(got @ 1..) => space = space.get_mut(got..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

/// Reads entries of a directory into `space` (getdents64(2)); how many bytes they take, 0 at the end. Errors: ENOENT for
/// one that was removed; EINVAL where not even one fits.
pub fn entries(directory: &Fd, space: &mut [u8]) -> Result<usize> {
    let arguments = [fd_argument(directory.as_raw_fd()), space.as_mut_ptr().expose_provenance(), space.len()];
    // SAFETY: `space` is writable for that many bytes.
    check(unsafe { syscall(__NR_getdents64, arguments) })
}

/// Waits for events, or only looks for them (epoll_pwait(2)); the number of those filled in. Errors: EINTR.
pub fn wait(epoll: &Fd, events: &mut [Event], look: bool) -> Result<usize> {
    let limit = if look { 0 } else { -1 };
    let arguments = [
        fd_argument(epoll.as_raw_fd()),
        events.as_mut_ptr().expose_provenance(),
        events.len(),
        fd_argument(limit),
        0,
        0,
    ];
    // SAFETY: `events` is writable for that many, and epoll.rs of rustix gives Event the kernel's layout.
    check(unsafe { syscall(__NR_epoll_pwait, arguments) })
}
