//! What the services print, and init's own lines, on their way to files below /var/log.
//!
//! Two kinds of children do it, neither of which executes anything. A drain for each start of a service moves what that
//! service prints into the writer's pipe. The one writer moves what is there into files. A disk that is full, frozen or
//! slow holds up the writer, and a drain for a moment once: what does not fit into the pipe by then is lost, counted, and
//! told. So no service waits for a disk, and process 1, which fills the pipe too, for nothing.

use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::fs::{CWD, Gid, Mode, OFlags, SeekFrom, Uid, fchmod, fchown, ftruncate, renameat, seek};
use rustix::io::{Errno, read, write};
use rustix::process::Pid;

use super::trouble::Trouble;
use super::{now, records};
use crate::boot::{Machine, kernel_put};
use crate::error::{During, Result};
use crate::log::{self, HEADER, RECORD};
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::stdio::{self, Fixed};
use crate::sys::text::{Text, t};
use crate::sys::{file, process};

/// Bytes that a log lacks.
#[derive(Clone, Copy, Default)]
struct Loss {
    bytes: u64,
    /// When it may be told.
    due: Millis,
}

impl Loss {
    /// Counts `bytes`, and says so; not more often than the plan has it, whatever the rate.
    fn count(&mut self, log: Text, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes > 0 && now() >= self.due {
            report::line().text(log).text(c": ").number(self.bytes).text(c" bytes lost (degraded)").send();
            *self = Loss { bytes: 0, due: now().saturating_add(plan::LOSS_PAUSE) };
        }
    }
}

/// A child that drains what service `index` prints into `out`'s pipe, until nobody holds its end to write any more. Errors: of
/// clone3(2).
pub fn drain(index: usize, out: &Fd) -> Result<Pid> {
    if let Some(pid) = process::fork().during(c"fork")? {
        return Ok(pid);
    }
    let _ = stdio::install(out.as_fd(), Fixed::Input, false);
    stay();
    let log = plan::LOGS.get(index).map_or(t(c""), |[name, ..]| *name);
    let (mut record, mut loss, mut stuck) = ([0; RECORD], Loss::default(), false);
    let mut trouble = Trouble::default();
    loop {
        if trouble.past().is_some_and(|past| !prints_until(past)) {
            tell(trouble.over());
        }
        let Some((head, body)) = record.split_first_chunk_mut() else { process::exit(1) };
        let got = match read(stdio::get(Fixed::Input), &mut *body) {
            Ok(got @ 1..) => got,
            Err(Errno::INTR) => continue,
            _ => {
                loss.due = 0;
                loss.count(log, 0);
                process::exit(0)
            }
        };
        if index == plan::KUBELET {
            tell(body.get(..got).and_then(|printed| trouble.hear(printed, now())));
        }
        *head = log::header(index);
        let record = record.get(..HEADER + got).unwrap_or(&[]);
        let mut sent = write(stdio::get(Fixed::LogIn), record).is_ok();
        if !sent && !stuck {
            // A burst, or a disk that hangs: that is found out once, not for each record.
            file::ready(stdio::get(Fixed::LogIn), PollFlags::OUT, plan::LOG_WAIT);
            sent = write(stdio::get(Fixed::LogIn), record).is_ok();
        }
        stuck = !sent;
        loss.count(log, if sent { 0 } else { got });
    }
}

/// Whether the drained service prints until that time, in milliseconds since power-on. (Or ends.)
fn prints_until(time: Millis) -> bool {
    let rest = time.saturating_sub(now());
    rest > 0 && file::ready(stdio::get(Fixed::Input), PollFlags::IN, rest)
}

/// Says what keeps kubelet from its cluster.
fn tell(text: Option<Text>) {
    if let Some(text) = text {
        report::line().text(c"kubelet: the API server").text(text).send();
    }
}

/// Makes a child ready to stay: apart from what init closes one day, and among the last that the kernel kills for memory. All
/// signals are blocked, as in init: it ends when its pipe does.
fn stay() {
    stdio::close_others();
    // A machine where it cannot be written has said so already.
    let _ = kernel_put(CWD, t(c"/proc/self/oom_score_adj"), plan::OOM_SCORE_ADJ);
}

/// The child that writes the logs. Where they are on a disk, the kernel's records of crashes go there too. It opens what pods
/// may have put there, and writes what they may have said: so it is kept from process 1 as they are. Errors: of clone3(2).
pub fn start(machine: &Machine) -> Result<Pid> {
    if let Some(pid) = process::fork().during(c"fork")? {
        return Ok(pid);
    }
    let (entered, kept) = (machine.isolation.enter(), machine.disk.is_some());
    // Its own end to write would keep its pipe open.
    log::close();
    stay();
    match entered.and_then(|()| directory()) {
        Ok(directory) => {
            if kept {
                records::move_to(&directory);
            }
            copy(&directory);
            process::exit(0)
        }
        Err(error) => {
            report::degraded(&error);
            process::exit(1)
        }
    }
}

/// The logs' directory, which nobody but root may write; on a read-only disk nobody may. Held: what is mounted over it later
/// does not matter.
fn directory() -> Result<Fd> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = file::open(CWD, plan::LOG_DIRECTORY, how).during(plan::LOG_DIRECTORY)?;
    let _ = fchown(&directory, Some(Uid::ROOT), Some(Gid::ROOT));
    let _ = fchmod(&directory, Mode::from_raw_mode(0o755));
    Ok(directory)
}

/// Copies records into their logs until nobody can write one any more.
fn copy(directory: &Fd) {
    let mut logs = plan::LOGS.map(|names| Log { names, file: None, size: 0, loss: Loss::default() });
    let mut record = [0; RECORD];
    loop {
        let got = match read(stdio::get(Fixed::LogOut), &mut record) {
            Ok(got @ 1..) => got,
            Err(Errno::INTR) => continue,
            _ => return,
        };
        if let Some(([log, ..], bytes)) = record.get(..got).and_then(|record| record.split_first_chunk::<HEADER>())
            && let Some(log) = logs.get_mut(usize::from(*log))
        {
            log.add(directory, bytes);
        }
    }
}

/// A log with its older files, newest first.
struct Log {
    names: [Text; plan::LOG_FILES],
    file: Option<Fd>,
    size: u64,
    loss: Loss,
}

impl Log {
    fn add(&mut self, directory: &Fd, bytes: &[u8]) {
        let lost = self.append(directory, bytes);
        let [name, ..] = self.names;
        self.loss.count(name, lost);
    }

    /// Appends `bytes`, where they would not fit to a new file; how many of them were not written.
    fn append(&mut self, directory: &Fd, mut bytes: &[u8]) -> usize {
        self.open(directory);
        if self.is_full(bytes) {
            self.file = None;
            let [newest, older, oldest] = self.names;
            for (from, to) in [(older, oldest), (newest, older)] {
                let _ = renameat(directory, from.get(), directory, to.get());
            }
            self.open(directory);
        }
        let mut lost = 0;
        if self.is_full(bytes)
            && let Some(file) = &self.file
            && ftruncate(file, 0).is_ok()
        {
            // It could not be put aside.
            lost = usize::try_from(self.size).unwrap_or(0);
            self.size = 0;
        }
        if let Some(file) = &self.file {
            while let Ok(written @ 1..) = write(file, bytes) {
                bytes = bytes.get(written..).unwrap_or(&[]);
                self.size += written as u64;
            }
        }
        lost + bytes.len()
    }

    fn open(&mut self, directory: &Fd) {
        if self.file.is_none() {
            let [name, ..] = self.names;
            self.file = file::append(directory, name.get()).ok();
            self.size = self.file.as_ref().map_or(0, |file| seek(file, SeekFrom::End(0)).unwrap_or(0));
        }
    }

    fn is_full(&self, bytes: &[u8]) -> bool {
        self.size.saturating_add(bytes.len() as u64) > plan::LOG_BYTES
    }
}
