//! Block devices: which carry a label, and waiting for one.

use core::ffi::CStr;
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, pread, read};

use super::formats::{SUPERBLOCK_AT, device_names, uevent, whole_lines};
use crate::error::{During, Error, Result};
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::text::{Path, Text};
use crate::sys::{clock, file, net};

/// Where block devices are listed: one a line, its name last.
const LIST: &CStr = c"/proc/partitions";

/// What a file system's superblock says is its label.
type Label = fn(&[u8]) -> Option<&[u8]>;

/// Searches; where there is none (ENODEV), says so, and searches again whenever a device comes, until `by` since power-on.
pub fn in_time<T>(waiting: impl Into<Text>, by: Millis, mut search: impl FnMut() -> Result<T>) -> Result<T> {
    // First, so that none comes between.
    let events = net::device_events();
    let end = by.max(clock::since_power_on() / 1_000 + plan::DATA_WITHIN);
    let mut waiting = Some(waiting.into());
    loop {
        let found = search();
        let rest = end.saturating_sub(clock::since_power_on() / 1_000);
        let (Err(Error { errno: Errno::NODEV, .. }), Ok(events), 1..) = (&found, &events, rest) else { return found };
        if let Some(waiting) = waiting.take() {
            report::line().text(waiting).send();
        }
        file::ready(events.as_fd(), PollFlags::IN, rest);
        // What they say does not matter.
        while read(events, &mut [0; 512]).is_ok() {}
    }
}

/// Hands over the path of each device that is a partition of that name, or has a file system of that label. Errors: of the list.
pub fn each(label: &[u8], of: Option<Label>, found: &mut dyn FnMut(Path)) -> Result<()> {
    let list = file::open(CWD, LIST, OFlags::RDONLY).during(LIST)?;
    let (mut lines, mut at) = ([0; 2048], 0);
    loop {
        let got = pread(&list, &mut lines[..], at).during(LIST)?;
        // The last one may be cut: it comes again, whole.
        let Some(whole) = whole_lines(lines.get(..got).unwrap_or(&[])) else { return Ok(()) };
        at += whole.len() as u64;
        for name in device_names(whole).filter(|name| carries(name, label, of)) {
            let mut path = Path::new();
            path.set(&[b"/dev/", name]);
            found(path);
        }
    }
}

fn carries(name: &[u8], label: &[u8], of: Option<Label>) -> bool {
    let mut bytes = [0; 512];
    let text = start(&[b"/sys/class/block/", name, b"/uevent"], 0, &mut bytes);
    if uevent(text, b"PARTNAME=") == Some(label) {
        return true;
    }
    of.is_some_and(|of| of(start(&[b"/dev/", name], SUPERBLOCK_AT, &mut bytes)) == Some(label))
}

/// What can be read of a file from `at` on; nothing where it cannot.
pub fn start<'a>(path: &[&[u8]], at: u64, bytes: &'a mut [u8; 512]) -> &'a [u8] {
    let mut joined = Path::new();
    joined.set(path);
    let got = file::open(CWD, joined.get(), OFlags::RDONLY | OFlags::NONBLOCK)
        .and_then(|file| pread(&file, &mut bytes[..], at));
    bytes.get(..got.unwrap_or(0)).unwrap_or(&[])
}
