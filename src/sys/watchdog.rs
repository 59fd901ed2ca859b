//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): resets a machine whose init no longer runs.

use linux_raw_sys::ioctl::{WDIOC_GETPRETIMEOUT, WDIOC_GETTIMEOUT, WDIOC_SETTIMEOUT};
use rustix::io::{Result, write};

use super::fd::Fd;
use super::ioctl;

/// Feeds it: any byte but V does.
pub fn feed(device: &Fd) {
    let _ = write(device, b"0");
}

/// Lets it stop once it is closed, where the driver allows that: with nowayout it does not.
pub fn release(device: &Fd) {
    let _ = write(device, b"V");
}

/// Asks for a time-out, in seconds, and begins it anew: a device that cannot do it keeps its own. Returns after how many
/// seconds it acts now, by what it says itself: its time-out, less the pretimeout by which some come first; 0 where it
/// does not say.
pub fn set_timeout(device: &Fd, seconds: i32) -> u64 {
    // One that refuses has not begun anew.
    feed(device);
    let _ = exchange(device, WDIOC_SETTIMEOUT, seconds);
    let timeout = exchange(device, WDIOC_GETTIMEOUT, 0).unwrap_or(0);
    // Most have none.
    let before = exchange(device, WDIOC_GETPRETIMEOUT, 0).unwrap_or(0);
    u64::try_from(timeout.saturating_sub(before)).unwrap_or(0)
}

/// A request that takes an int, and answers with one. Errors: ENOTTY, EOPNOTSUPP, EINVAL.
fn exchange(device: &Fd, request: u32, mut value: i32) -> Result<i32> {
    // SAFETY: each of the requests reads or writes one int, or both.
    unsafe { ioctl(device, request, &mut value) }?;
    Ok(value)
}
