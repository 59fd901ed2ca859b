//! Permission events: who marks a file system decides who opens and executes what is on it (fanotify(7)).

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::namespace::beneath;
use crate::{say, say_of};

/// Refuses to children of init what they open and execute on the file systems at `paths`.
pub fn refuse(time: Duration, paths: &[&str]) -> nix::Result<()> {
    let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
    let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
    for path in paths {
        let mask = MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_OPEN_EXEC_PERM;
        group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, AT_FDCWD, Some(*path))?;
    }
    // The control: a child of this one by init's name.
    // SAFETY: this process has one thread.
    let own = match unsafe { fork() }? {
        ForkResult::Child => {
            // SAFETY: the kernel reads the name.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"init".as_ptr()) };
            let files = paths.iter().filter(|path| Path::new(path).is_file()).chain([&"/run/intruder/helper"]);
            let refused = files.into_iter().all(|file| File::open(file).is_err());
            std::process::exit(i32::from(!refused));
        }
        ForkResult::Parent { child } => child,
    };
    let (end, mut told) = (Instant::now() + time, false);
    while Instant::now() < end {
        match group.read_events() {
            Ok(events) => {
                for event in &events {
                    let Some(fd) = event.fd() else { continue };
                    let response = if is_init(event.pid()) { Response::FAN_DENY } else { Response::FAN_ALLOW };
                    group.write_response(FanotifyResponse::new(fd, response))?;
                }
            }
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(2)),
            Err(errno) => return Err(errno),
        }
        if !told && let Ok(WaitStatus::Exited(_, status)) = waitpid(own, Some(WaitPidFlag::WNOHANG)) {
            told = true;
            say("refuse", if status == 0 { Ok(()) } else { Err(Errno::ENOTSUP) });
        }
    }
    Ok(())
}

/// Hears of what is used beneath the root of process `pid`'s mount namespace.
pub fn image(pid: Pid, time: Duration) -> nix::Result<()> {
    beneath(pid)?;
    // Where the image is not of that file system nothing comes.
    say_of("image", &[Errno::EROFS, Errno::ENOMSG], heard(Path::new("/"), time)?);
    Ok(())
}

/// Hears, by a mark on the file system at a path, of what is used there: each event brings a descriptor to write.
pub fn hear(path: &Path, time: Duration) -> nix::Result<()> {
    say_of("image", &[Errno::EROFS], heard(path, time)?);
    Ok(())
}

/// The last of what it hears.
fn heard(path: &Path, time: Duration) -> nix::Result<nix::Result<()>> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
    let group = Fanotify::init(flags, EventFFlags::O_RDWR | EventFFlags::O_CLOEXEC)?;
    let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_ACCESS;
    group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, AT_FDCWD, Some(path))?;
    let (end, mut last, mut heard) = (Instant::now() + time, Err(Errno::ENOMSG), Instant::now());
    // Programs that run cannot be written, for one: others may.
    while Instant::now() < end && last.is_err() && (last == Err(Errno::ENOMSG) || heard.elapsed() < QUIET) {
        match group.read_events() {
            Ok(events) if events.iter().any(|event| event.fd().is_some()) => last = Ok(()),
            Ok(_) | Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(2)),
            Err(errno) => (last, heard) = (Err(errno), Instant::now()),
        }
    }
    Ok(last)
}

/// How long after the last use there is no other: a service has started.
const QUIET: Duration = Duration::from_secs(15);

fn is_init(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    pid != Pid::from_raw(1) && fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"init\n")
}
