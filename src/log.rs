//! The pipe to the logs' writer, and what is in it.
//!
//! It carries records: a header of four bytes, `length | log << 16` in little-endian order, and as many bytes. A record is
//! written whole or not at all, since it has at most PIPE_BUF bytes (pipe(7)).

use rustix::fd::AsFd;
use rustix::fs::{OFlags, fcntl_setfl};

use crate::error::{During, Result};
use crate::sys::file;
use crate::sys::stdio::{self, Fixed};

/// Bytes of a record's header.
pub const HEADER: usize = 4;
/// Bytes of the longest record: PIPE_BUF (linux/limits.h).
pub const RECORD: usize = 4096;

/// A record's header.
pub fn header(log: usize, length: usize) -> [u8; HEADER] {
    let [low, high, ..] = length.to_le_bytes();
    let [log, ..] = log.to_le_bytes();
    [low, high, log, 0]
}

/// The log and the length in a record's header.
pub fn split([low, high, log, _]: [u8; HEADER]) -> (usize, usize) {
    (usize::from(log), usize::from(u16::from_le_bytes([low, high])))
}

/// Makes the writer's pipe: lines from then on wait in it until there is a writer. Errors: of pipe(2) and dup(2).
pub fn open() -> Result<()> {
    let (out, into) = file::pipe().during(c"pipe")?;
    // Whatever the writer is held by, who writes here is not.
    fcntl_setfl(&into, OFlags::NONBLOCK).during(c"pipe")?;
    stdio::install(into.as_fd(), Fixed::LogIn, false).during(c"dup")?;
    stdio::install(out.as_fd(), Fixed::LogOut, false).during(c"dup")
}

/// No more goes into the writer's pipe from here: the writer ends once the services' drains have ended too.
pub fn close() {
    let _ = stdio::install(stdio::get(Fixed::Input), Fixed::LogIn, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_log_and_length() {
        for (log, length) in [(0, 0), (1, 255), (2, 256), (2, RECORD - HEADER)] {
            assert_eq!(split(header(log, length)), (log, length));
        }
    }
}
