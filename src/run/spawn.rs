//! Starting a service: everything between the fork and the program's first instruction.

use rustix::fd::AsFd;
use rustix::fs::{CWD, sendfile};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{Pid, setsid};

use super::logs;
use super::sockets::{self, Sockets};
use crate::boot::{Isolation, Machine, kernel_put};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::stdio::{self, Fixed};
use crate::sys::{file, process, seccomp, signal};

/// A service that was started: its process, and init's end of its sockets.
pub struct Started {
    /// The process.
    pub pid: Pid,
    /// Where it says that it is ready.
    pub notify: Fd,
    /// Where it connects to the bus.
    pub bus: Option<Fd>,
    /// What its work waits for, if it may not work yet: its configuration ends when this is closed.
    pub gate: Fd,
    /// What it prints.
    pub output: Fd,
    /// The child that drains what it prints.
    pub drain: Pid,
}

/// Starts service `index` of the plan; one that may not work yet has no end of its configuration before [`Started::gate`] is
/// closed. What fails after the fork is said by the child, which then exits with 1. Errors: of the sockets' calls, pipe2(2)
/// and clone3(2). It starts in its own cgroup or not at all.
// Inlined it is in the loop twice.
#[inline(never)]
pub fn start(index: usize, service: &plan::Service, machine: &Machine, may_work: bool) -> Result<Started> {
    let_fork();
    let sockets = sockets::listen(index == plan::KUBELET, &machine.identity)?;
    let (output, into) = file::pipe().during(c"pipe")?;
    let drain = logs::drain(index, &output)?;
    let (held, gate) = file::pipe().during(c"pipe")?;
    if let Some(pid) = process::fork().during(c"fork")? {
        return Ok(Started { pid, notify: sockets.notify, bus: sockets.bus, gate, output, drain });
    }
    // First, from where process 1 is.
    let mut space = None;
    let error = match machine.programs.of(index, service, &mut space).and_then(|files| {
        machine.cgroups.enter(service)?;
        let [alone, in_cluster] = &files.configs;
        let cluster = machine.identity.cluster();
        let mut config = if cluster.is_some() { in_cluster } else { alone };
        if !may_work {
            hold(config, &gate)?;
            config = &held;
        }
        prepare(config, &sockets, &into, &machine.isolation, !machine.programs.on_disk)?;
        if index == plan::KUBELET {
            if let Some(cluster) = cluster {
                for (file, fixed) in [(&cluster.kubeconfig, Fixed::Kubeconfig), (&cluster.authority, Fixed::Authority)]
                {
                    stdio::install(file.as_fd(), fixed, true).during(c"dup")?;
                }
            }
            let arguments = machine.identity.arguments(service.arguments);
            return Ok(process::execute(&files.program, &arguments, service.environment));
        }
        Ok(process::execute(&files.program, service.arguments, service.environment))
    }) {
        Ok(errno) => Error { what: service.program, errno },
        Err(error) => error,
    };
    report::line().text(c"start ").text(service.name).text(c": ").error(&error).send();
    process::exit(1)
}

/// Puts a configuration into a pipe, which ends when the last descriptor of `gate` is closed: this process's is by its exec.
/// The file's position is left alone: whoever holds it shares that. Errors: E2BIG where it may fill the pipe.
fn hold(config: &Fd, gate: &Fd) -> Result<()> {
    let (mut at, mut left) = (0, plan::CONFIG_MAX);
    while left > 0 {
        match sendfile(gate, config, Some(&mut at), left).during(c"configuration")? {
            0 => return Ok(()),
            put => left = left.saturating_sub(put),
        }
    }
    Err(Error::new(c"configuration", Errno::TOOBIG))
}

/// Makes this process what the service expects to start as: first apart from PID 1, so that whatever pods put in the way of
/// the rest gives them nothing of it. `mappings` says whether pods may load tables of the device mapper. Errors: of what the
/// service must not start without.
fn prepare(config: &Fd, sockets: &Sockets, output: &Fd, isolation: &Isolation, mappings: bool) -> Result<()> {
    own_namespace(sockets)?;
    isolation.enter()?;
    seccomp::confine(mappings).during(c"seccomp")?;
    stdio::install(config.as_fd(), Fixed::Config, true).during(c"dup")?;
    for fixed in [Fixed::Output, Fixed::Error] {
        stdio::install(output.as_fd(), fixed, true).during(c"dup")?;
    }
    setsid().during(c"setsid")?;
    for (file, value) in plan::PROCESS_FILES {
        go_without(kernel_put(CWD, file, value));
    }
    let (file, value) = plan::NR_OPEN;
    // Where it matters, the limits say so.
    let _ = kernel_put(CWD, file, value);
    go_without(process::usual_schedule().during(c"schedule"));
    go_without(process::limit(&plan::LIMITS).during(c"set limits"));
    // The last of what may print: a broken console must not end this process by SIGPIPE.
    signal::unblock_all().during(c"unblock signals")
}

/// Takes back from process 1 what would keep it from making children (fork(2), EAGAIN and EMFILE): a pod may have changed it.
/// Whether that could be done shows in what follows.
pub fn let_fork() {
    let _ = process::usual_schedule();
    let _ = process::limit(&plan::LIMITS);
}

/// For what a service can do without: one line says so.
fn go_without(result: Result<()>) {
    if let Err(error) = result {
        report::degraded(&error);
    }
}

/// Leaves PID 1's mount namespace for a fresh copy. In it `/`, /proc, /sys and /dev are as at boot; only what is mounted below
/// /run and /var comes from and goes to other services and PID 1. Containerd's have a peer group of their own, since its
/// containers' mounts may propagate. Kubelet's are private, and its sockets cannot be bound: it binds parts of volumes for pods
/// (subPath, local volumes) from what it sees to where containerd sees them too, and what pods mount there must not come back.
fn own_namespace(sockets: &Sockets) -> Result<()> {
    process::unshare_mounts().during(c"unshare mounts")?;
    move_mount(&sockets.mount, c"", CWD, plan::SOCKETS, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(c"attach sockets")?;
    let (place, propagation) = if sockets.bus.is_some() {
        (plan::SOCKETS, MountPropagationFlags::UNBINDABLE)
    } else {
        (c"/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
    };
    mount_change(place, propagation).during(c"mount propagation")
}
