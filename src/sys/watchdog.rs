//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): resets a machine whose init no longer runs.

use linux_raw_sys::general::__NR_ioctl;
use linux_raw_sys::ioctl::WDIOC_SETTIMEOUT;
use rustix::fd::AsRawFd;
use rustix::io::{Result, write};

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// Feeds it: any byte but V does.
pub fn feed(device: &Fd) {
    let _ = write(device, b"0");
}

/// Lets it stop once it is closed, where the driver allows that.
pub fn release(device: &Fd) {
    let _ = write(device, b"V");
}

/// Sets the time-out, in seconds, and begins it anew. Errors: EINVAL for one that the device cannot do, which keeps its own;
/// EOPNOTSUPP.
pub fn set_timeout(device: &Fd, mut seconds: i32) -> Result<()> {
    let address = (&raw mut seconds).expose_provenance();
    // SAFETY: the request reads and writes one int, the time-out that the device took; nobody reads that here.
    check(unsafe {
        syscall(__NR_ioctl, [fd_argument(device.as_raw_fd()), WDIOC_SETTIMEOUT as usize, address, 0, 0, 0])
    })
    .map(|_| ())
}
