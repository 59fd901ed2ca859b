//! The device mapper (linux/dm-ioctl.h; Documentation/admin-guide/device-mapper/verity.rst).

use linux_raw_sys::general::__NR_ioctl;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, Result};
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument, file};

/// Numbers of the requests.
const CREATE: u32 = 3;
const REMOVE: u32 = 4;
const RESUME: u32 = 6;
/// See [`super::seccomp`].
pub const LOAD: u32 = 9;
/// `_IOWR(0xfd, 0, struct dm_ioctl)`.
const REQUEST: u32 = 0xc138_fd00;
const DM_READONLY_FLAG: u32 = 1;
/// Bytes of `struct dm_ioctl`.
const HEAD: u32 = 312;
/// Bytes of the longest parameters, with their NUL.
pub const PARAMETERS: usize = 512;

/// `struct dm_ioctl`, with one `struct dm_target_spec` behind, and its parameters.
#[repr(C)]
struct Request {
    version: [u32; 3],
    size: u32,
    start: u32,
    targets: u32,
    open: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 136],
    begin: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
    parameters: [u8; PARAMETERS],
}
const_assert_eq!(core::mem::offset_of!(Request, begin), HEAD as usize);
/// Of all.
const BYTES: u32 = HEAD + 40 + 512;
const_assert_eq!(size_of::<Request>(), BYTES as usize);

/// The mapping `kios-root`.
pub struct Mapping(Fd);

impl Mapping {
    /// Makes one whose blocks are read only, and only as long as they are those of the table: `length` sectors of 512 bytes,
    /// and the parameters of the target `verity`. Errors: ENOENT for a kernel without the device mapper; EINVAL for a table
    /// that is none, or without the target; EBUSY where there is another mapping already; of the devices that the table names.
    pub fn verity(length: u64, parameters: &[u8; PARAMETERS]) -> Result<Mapping> {
        let mapping = Mapping(file::open(CWD, c"/dev/mapper/control", OFlags::RDWR)?);
        let device = request(&mapping.0, CREATE, 0, parameters)?;
        // But for the major number, which is in the midst (linux/kdev_t.h, huge_encode_dev).
        let made = if device & !0xf_ff00 == 0 { Ok(0) } else { Err(Errno::BUSY) };
        let made = made.and_then(|_| request(&mapping.0, LOAD, length, parameters));
        if let Err(errno) = made.and_then(|_| request(&mapping.0, RESUME, 0, parameters)) {
            mapping.remove();
            return Err(errno);
        }
        Ok(mapping)
    }

    /// Removes it, if nobody uses its device.
    pub fn remove(self) {
        let _ = request(&self.0, REMOVE, 0, &[0; PARAMETERS]);
    }
}

/// Sends a request about it; its device.
fn request(control: &Fd, number: u32, length: u64, parameters: &[u8; PARAMETERS]) -> Result<u64> {
    let mut name = [0; 128];
    for (to, from) in name.iter_mut().zip(b"kios-root") {
        *to = *from;
    }
    let mut request = Request {
        version: [4, 0, 0],
        size: BYTES,
        start: HEAD,
        targets: u32::from(length > 0),
        open: 0,
        flags: if length > 0 { DM_READONLY_FLAG } else { 0 },
        event: 0,
        padding: 0,
        device: 0,
        name,
        uuid: [0; 136],
        begin: 0,
        length,
        status: 0,
        next: 0,
        kind: *b"verity\0\0\0\0\0\0\0\0\0\0",
        parameters: *parameters,
    };
    let arguments =
        [fd_argument(control.as_raw_fd()), (REQUEST | number) as usize, (&raw mut request).expose_provenance()];
    // SAFETY: it reads and writes as many bytes as `size` says, which are the struct's.
    check(unsafe { syscall(__NR_ioctl, arguments) })?;
    Ok(request.device)
}
