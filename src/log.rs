//! The pipe to the logs' writer, and what is in it.
//!
//! It carries packets (pipe(7), O_DIRECT), so that a writer which is killed leaves nothing half read to the next one. A record
//! is one of them: a header, and what there is to say. It is written whole or not at all.

use rustix::fd::AsFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;

use crate::error::{During, Result};
use crate::sys::file;
use crate::sys::stdio::{self, Fixed};

/// Bytes of a record's header.
pub const HEADER: usize = 4;
/// Bytes of the longest record: PIPE_BUF (linux/limits.h).
pub const RECORD: usize = 4096;
/// Bytes of the pipe: what a process may ask for (pipe(7), pipe-max-size).
const PIPE: usize = 1 << 20;

/// The header of a record of `log`, which is its first byte.
pub fn header(log: usize) -> [u8; HEADER] {
    let [log, ..] = log.to_le_bytes();
    [log, 0, 0, 0]
}

/// Makes the writer's pipe: lines from then on wait in it until there is a writer. Errors: of pipe(2) and dup(2).
pub fn open() -> Result<()> {
    let (out, into) = file::pipe().during(c"pipe")?;
    // Whatever the writer is held by, who writes here is not.
    fcntl_setfl(&into, OFlags::NONBLOCK.union(OFlags::DIRECT)).during(c"pipe")?;
    // Each record takes a page of it: without more there is room for sixteen.
    let _ = fcntl_setpipe_size(&into, PIPE);
    stdio::install(into.as_fd(), Fixed::LogIn, false).during(c"dup")?;
    stdio::install(out.as_fd(), Fixed::LogOut, false).during(c"dup")
}

/// No more goes into the writer's pipe from here: the writer ends once the services' drains have ended too.
pub fn close() {
    let _ = stdio::install(stdio::get(Fixed::Input), Fixed::LogIn, false);
}
