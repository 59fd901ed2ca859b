//! Starting a service: everything between the fork and the program's first instruction.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{Pid, Rlimit, setrlimit, setsid};

use super::logs;
use super::sockets::{self, Sockets};
use crate::boot::{Isolation, Machine, kernel_put};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::stdio::{self, Fixed};
use crate::sys::text::t;
use crate::sys::{file, process, seccomp, signal};

/// A service that was started: its process, and init's end of its sockets.
pub struct Started {
    /// The process.
    pub pid: Pid,
    /// Where it says that it is ready.
    pub notify: Fd,
    /// Where it connects to the bus.
    pub bus: Option<Fd>,
    /// What it prints.
    pub output: Fd,
    /// The child that drains what it prints.
    pub drain: Pid,
}

/// Starts service `index`. What fails after the fork is said by the child, which then exits with 1. Errors: no program;
/// of the sockets' calls and of clone3(2).
pub fn start(index: usize, machine: &Machine) -> Result<Started> {
    let (program, config) = machine.programs.of(index)?;
    let sockets = sockets::listen(index == plan::KUBELET)?;
    let (output, into) = file::pipe().during(c"pipe")?;
    let drain = logs::drain(index, &output)?;
    let cgroup = machine.cgroups.services.get(index).and_then(Option::as_ref).map(Fd::as_fd);
    let forked = process::fork(cgroup).during(c"fork").or_else(|error| {
        // Its cgroup is gone: pods may remove one that is empty.
        report::degraded(&error);
        process::fork(None).during(c"fork")
    });
    if let Some(pid) = forked? {
        return Ok(Started { pid, notify: sockets.notify, bus: sockets.bus, output, drain });
    }
    let Some(service) = plan::SERVICES.get(index) else { process::exit(1) };
    let error = match prepare(config, &sockets, &into, &machine.isolation) {
        Err(error) => error,
        Ok(()) => {
            Error { what: service.program, errno: process::execute(program, service.arguments, service.environment) }
        }
    };
    report::line().text(c"start ").text(service.name).text(c": ").error(&error).send();
    process::exit(1)
}

/// Makes this process what the service expects to start as: first apart from PID 1, so that whatever pods put in the way of
/// the rest gives them nothing of it. Errors: of what the service must not start without.
fn prepare(config: BorrowedFd<'_>, sockets: &Sockets, output: &Fd, isolation: &Isolation) -> Result<()> {
    own_namespace(sockets)?;
    isolation.enter()?;
    seccomp::keep_from_namespaces().during(c"seccomp")?;
    stdio::install(config, Fixed::Config, true).during(c"dup")?;
    for fixed in [Fixed::Output, Fixed::Error] {
        stdio::install(output.as_fd(), fixed, true).during(c"dup")?;
    }
    setsid().during(c"setsid")?;
    go_without(kernel_put(CWD, t(c"/proc/self/oom_score_adj"), plan::OOM_SCORE_ADJ));
    for (resource, limit) in plan::LIMITS {
        go_without(setrlimit(resource, Rlimit { current: limit, maximum: limit }).during(c"set limits"));
    }
    // The last of what may print: a broken console must not end this process by SIGPIPE.
    signal::unblock_all().during(c"unblock signals")
}

/// For what a service can do without: one line says so.
fn go_without(result: Result<()>) {
    if let Err(error) = result {
        report::degraded(&error);
    }
}

/// Leaves PID 1's mount namespace for a fresh copy. In it `/`, /proc, /sys and /dev are as at boot, and a peer group of
/// their own; only what is mounted below /run and /var comes from and goes to other services and PID 1.
fn own_namespace(sockets: &Sockets) -> Result<()> {
    process::unshare_mounts().during(c"unshare mounts")?;
    move_mount(&sockets.mount, c"", CWD, plan::SOCKETS, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(c"attach sockets")?;
    mount_change(c"/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).during(c"share /")
}
