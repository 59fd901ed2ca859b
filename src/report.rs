//! Init's own lines: `kios: [s.mmm] …`, to the console, to /dev/kmsg and to init's log, each by one write.
//!
//! The console is non-blocking: a stopped terminal loses lines, and does not hold PID 1. Text from outside is never part of
//! a line unless it was checked where it came from.

use core::ffi::CStr;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, Ordering};
use heapless::Vec;
use rustix::event::PollFlags;
use rustix::io::{Errno, write};
use rustix::process::Pid;
use static_assertions::const_assert;

use crate::error::{self, Error};
use crate::log;
use crate::plan::{self, Millis};
use crate::sys::stdio::Fixed;
use crate::sys::text::{Text, t};
use crate::sys::{clock, file, stdio};

const_assert!(plan::KMSG_LEVEL.count_bytes() == log::HEADER);

/// Bytes of the longest line; what is longer is cut.
const LINE_BYTES: usize = 256;

/// Whether the console took nothing last.
static STUCK: AtomicBool = AtomicBool::new(false);

/// A line under construction.
pub struct Line(Vec<u8, { LINE_BYTES + 1 }>);

/// Starts a line with the time since power-on.
pub fn line() -> Line {
    at(clock::since_power_on())
}

/// Starts a line with the time `micros` since power-on.
pub fn at(micros: u64) -> Line {
    let millis = micros / 1_000;
    let mut line = Line(Vec::new());
    line.text(plan::KMSG_LEVEL).text(c"kios: [").number(millis / 1_000).text(c".");
    line.digit(millis / 100).digit(millis / 10).digit(millis).text(c"] ");
    line
}

impl Line {
    /// Adds text.
    pub fn text(&mut self, text: impl Into<Text>) -> &mut Line {
        self.constant(text.into())
    }

    fn constant(&mut self, text: Text) -> &mut Line {
        self.bytes(text.get().to_bytes())
    }

    /// Adds bytes; all but printable ASCII becomes `?`, so that no one writes control sequences through init's lines.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Line {
        for &byte in bytes {
            let shown = if byte.is_ascii_graphic() || byte == b' ' { byte } else { b'?' };
            // A full line is cut: the beginning says the most. One byte is the line's end.
            if self.0.len() < LINE_BYTES {
                let _ = self.0.push(shown);
            }
        }
        self
    }

    /// Adds a C string.
    pub fn path(&mut self, path: &CStr) -> &mut Line {
        self.bytes(path.to_bytes())
    }

    /// Adds a decimal number.
    pub fn number(&mut self, number: u64) -> &mut Line {
        if number > 9 {
            self.number(number / 10);
        }
        self.digit(number)
    }

    /// Adds the last decimal digit of a number.
    fn digit(&mut self, number: u64) -> &mut Line {
        self.bytes(&[b'0' + u8::try_from(number % 10).unwrap_or(0)])
    }

    /// Adds ` (pid N)`.
    pub fn process(&mut self, pid: Pid) -> &mut Line {
        self.text(c" (pid ").number(u64::try_from(pid.as_raw_nonzero().get()).unwrap_or(0)).text(c")")
    }

    /// Adds `what: ERRNO`.
    pub fn error(&mut self, error: &Error) -> &mut Line {
        self.text(error.what).text(c": ").errno(error.errno)
    }

    /// Adds an errno by name.
    pub fn errno(&mut self, errno: Errno) -> &mut Line {
        self.named(t(c"E"), error::name(errno), errno.raw_os_error())
    }

    /// Adds a name with its prefix; the prefix and the number where it has none.
    pub fn named(&mut self, prefix: Text, name: Option<&[u8]>, number: i32) -> &mut Line {
        self.text(prefix);
        match name {
            Some(name) => self.bytes(name),
            None => self.number(u64::from(number.unsigned_abs())),
        }
    }

    /// Adds how long it took since `began`, in milliseconds since power-on, and sends the line.
    pub fn took(&mut self, began: Millis) {
        let now = clock::since_power_on() / 1_000;
        self.text(c" ").number(now.saturating_sub(began)).text(c"ms").send();
    }

    /// Sends the line. A sink that fails has no better place to say so.
    pub fn send(&mut self) {
        let _ = self.0.push(b'\n');
        let line = self.0.get(plan::KMSG_LEVEL.count_bytes()..).unwrap_or(&[]);
        // Another writer holds a terminal for a while, a stopped terminal for ever.
        let mut tries = if STUCK.load(Ordering::Relaxed) { 1 } else { plan::CONSOLE_TRIES };
        while tries > 0 && write(stdio::get(Fixed::Console), line) == Err(Errno::AGAIN) {
            tries -= 1;
            file::ready(stdio::get(Fixed::Console), PollFlags::empty(), plan::CONSOLE_PAUSE);
        }
        STUCK.store(tries == 0, Ordering::Relaxed);
        let _ = write(stdio::get(Fixed::Kmsg), &self.0);
        // In the log's record the header is where the level was.
        if let Some(head) = self.0.first_chunk_mut() {
            *head = log::header(plan::OWN_LOG);
        }
        let _ = write(stdio::get(Fixed::LogIn), &self.0);
    }
}

/// Says that `error` made the machine do with less.
pub fn degraded(error: &Error) {
    failed(error.what.get().to_bytes(), error.errno);
}

/// As [`degraded`], of what is no constant text.
pub fn failed(what: &[u8], errno: Errno) {
    line().bytes(what).text(c": ").errno(errno).text(c" (degraded)").send();
}

/// Says how long a phase of the stop took that began at `began`, in milliseconds since power-on, and whether it ended.
pub fn phase(name: Text, began: Millis, ended: bool) {
    let mut line = line();
    line.text(name);
    if !ended {
        line.text(c" not ended, going on without (degraded)");
    }
    line.took(began);
}

/// The last words of a panic, which no code here means to reach: where it was. No formatting of its message: that
/// machinery would be a third of the binary.
pub fn epitaph(location: Option<&Location<'_>>) {
    let mut line = line();
    line.text(c"panic at ");
    if let Some(place) = location {
        line.bytes(place.file().as_bytes()).text(c":").number(u64::from(place.line()));
    }
    line.send();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn shown(line: &Line) -> &str {
        core::str::from_utf8(&line.0[plan::KMSG_LEVEL.count_bytes()..]).unwrap()
    }

    #[test]
    fn time_is_seconds_and_three_digits() {
        assert_eq!(shown(&at(0)), "kios: [0.000] ");
        assert_eq!(shown(&at(1_007_999)), "kios: [1.007] ");
        assert_eq!(shown(&at(u64::MAX)), "kios: [18446744073709.551] ");
    }

    #[test]
    fn numbers_are_decimal() {
        assert_eq!(shown(at(0).number(0)), "kios: [0.000] 0");
        assert_eq!(shown(at(0).number(u64::MAX)), format!("kios: [0.000] {}", u64::MAX));
    }

    #[test]
    fn errors_name_what_failed_and_errno() {
        let error = Error::new(c"/sys/fs/cgroup", Errno::BUSY);
        assert_eq!(shown(at(0).error(&error)), "kios: [0.000] /sys/fs/cgroup: EBUSY");
        let bare = Error::new(c"fork", Errno::AGAIN);
        assert_eq!(shown(at(0).error(&bare)), "kios: [0.000] fork: EAGAIN");
    }

    #[test]
    fn control_bytes_do_not_reach_the_console() {
        assert_eq!(shown(at(0).bytes(b"a\x1b[2J\n\xff b")), "kios: [0.000] a?[2J?? b");
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut line = at(0);
        line.bytes(&[b'x'; 1000]);
        assert_eq!(line.0.len(), LINE_BYTES);
    }
}
