//! Starting a service: everything between the fork and the program's first instruction.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{Pid, Rlimit, setrlimit, setsid};

use super::notify::{self, Notify};
use crate::boot::{Cgroups, Isolation, Programs, kernel_put};
use crate::error::{During, Error, Result};
use crate::plan::{self, Service};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::t;
use crate::sys::{file, process, signal, stdio};

/// A service that was started: its process, and init's end of its notify socket.
pub struct Started {
    /// The process.
    pub pid: Pid,
    /// Where it says that it is ready.
    pub notify: Fd,
}

/// Starts service `index`. What fails after the fork is said by the child, which then exits with 1. Errors: no program;
/// of the notify socket's calls and of clone3(2).
pub fn start(index: usize, programs: &Programs, cgroups: &Cgroups, isolation: &Isolation) -> Result<Started> {
    let (program, config) = programs.of(index)?;
    let notify = notify::listen()?;
    let cgroup = cgroups.services.get(index).and_then(Option::as_ref).map(Fd::as_fd);
    if let Some(pid) = process::fork(cgroup).during(c"fork")? {
        return Ok(Started { pid, notify: notify.socket });
    }
    let Some(service) = plan::SERVICES.get(index) else { process::exit(1) };
    let error = match prepare(service, config, &notify, isolation) {
        Err(error) => error,
        Ok(()) => {
            Error { what: service.program, errno: process::execute(program, service.arguments, service.environment) }
        }
    };
    report::line().text(c"start ").text(service.name).text(c": ").error(&error).send();
    process::exit(1)
}

/// Makes this process what the service expects to start as. Errors: of any of it; then the service does not start.
fn prepare(service: &Service, config: BorrowedFd<'_>, notify: &Notify, isolation: &Isolation) -> Result<()> {
    setsid().during(c"setsid")?;
    own_namespace(notify)?;
    unless_refused(kernel_put(CWD, t(c"/proc/self/oom_score_adj"), service.oom_score_adj));
    for (resource, limit) in plan::LIMITS {
        unless_refused(setrlimit(resource, Rlimit { current: limit, maximum: limit }).during(c"set limits"));
    }
    // Opened here and not by PID 1, which a frozen disk must not hold.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let log = file::create(CWD, service.log.get(), flags, Mode::from_raw_mode(0o600)).during(service.log)?;
    for number in [1, 2] {
        stdio::install(log.as_fd(), number, true).during(service.log)?;
    }
    stdio::install(config, stdio::CONFIG, true).during(service.config)?;
    // The last of what may print: a broken console must not end this process by SIGPIPE.
    signal::unblock_all().during(c"unblock signals")?;
    isolation.enter()
}

/// The machine's root may set it, process 1 of a user namespace perhaps not: the service starts all the same.
fn unless_refused(result: Result<()>) {
    if let Err(error) = result {
        report::degraded(&error);
    }
}

/// Leaves PID 1's mount namespace for a fresh copy. In it `/`, /proc, /sys and /dev are as at boot, and a peer group of
/// their own; only what is mounted below /run and /var comes from and goes to other services and PID 1.
fn own_namespace(notify: &Notify) -> Result<()> {
    process::unshare_mounts().during(c"unshare mounts")?;
    move_mount(&notify.mount, c"", CWD, plan::NOTIFY_DIRECTORY, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(c"attach notify mount")?;
    mount_change(c"/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).during(c"share /")
}
