//! The cgroup tree that kubelet's own hangs beside: init's, and one for each service and for the shims.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, mkdirat, unlinkat};
use rustix::io::Errno;

use super::kernel::put;
use super::{Step, directory};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::{Text, t};

/// The cgroup tree, held from boot on: whatever is mounted over it later.
#[derive(Default)]
pub struct Cgroups {
    root: Option<Fd>,
    /// Whether there is one for each service.
    whole: bool,
}

impl Cgroups {
    /// Moves this process to a new cgroup for a service: what pods wrote to the one before is gone with that. Where there was
    /// none after boot it stays where it is. Not for process 1, which whoever marks the tree (fanotify(7)) could hold. Errors:
    /// of open(2) and write(2).
    pub fn enter(&self, service: &plan::Service) -> Result<()> {
        let Some(root) = self.root.as_ref().filter(|_| self.whole) else { return Ok(()) };
        // With processes of pods' in it, it stays as it is.
        let _ = unlinkat(root, service.cgroup.get(), AtFlags::REMOVEDIR);
        let mut step = Step { first: None };
        let own = plan::CGROUPS.iter().filter(|(path, ..)| path.get() == service.cgroup.get());
        own.for_each(|cgroup| make_one(&mut step, root.as_fd(), cgroup));
        if step.first.take().is_some() {
            // What it is in is gone too.
            make_each(&mut step, root.as_fd());
        }
        if let Some(error) = step.first {
            report::degraded(&error);
        }
        directory(root.as_fd(), service.cgroup).and_then(|own| put(own.as_fd(), t(c"cgroup.procs"), t(c"0")))
    }
}

/// Makes the cgroups, and moves init into its own.
pub fn make(step: &mut Step, cgroups: &mut Cgroups) -> Result<()> {
    cgroups.root = step.check(directory(CWD, t(plan::CGROUP_ROOT)));
    let Some(root) = &cgroups.root else { return Ok(()) };
    make_each(step, root.as_fd());
    cgroups.whole = plan::SERVICES.iter().all(|service| step.check(directory(root.as_fd(), service.cgroup)).is_some());
    Ok(())
}

fn make_each(step: &mut Step, root: BorrowedFd<'_>) {
    plan::CGROUPS.iter().for_each(|cgroup| make_one(step, root, cgroup));
}

fn make_one(step: &mut Step, root: BorrowedFd<'_>, &(path, memory_min, cpu_weight): &(Text, Text, Text)) {
    let made = match mkdirat(root, path.get(), Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => result.during(path),
    };
    if step.check(made).is_none() {
        return;
    }
    if path.get() == plan::INIT_CGROUP {
        // Before the root's controllers are switched on: a cgroup may hold processes or give out controllers, not
        // both, except the real root (cgroups(7)).
        let own = directory(root, path).and_then(|own| put(own.as_fd(), t(c"cgroup.procs"), t(c"1")));
        step.check(own);
        enable(step, root);
    }
    let Some(own) = step.check(directory(root, path)) else { return };
    step.check(put(own.as_fd(), t(c"memory.min"), memory_min));
    step.check(put(own.as_fd(), t(c"cpu.weight"), cpu_weight));
    if path.get() == plan::PODRUNTIME {
        enable(step, own.as_fd());
    }
}

/// Switches the controllers on, one by one: one that the kernel lacks must not keep the others away.
fn enable(step: &mut Step, cgroup: BorrowedFd<'_>) {
    for &controller in plan::CONTROLLERS {
        match put(cgroup, t(c"cgroup.subtree_control"), controller) {
            // Not given out here, not known at all (kernel/cgroup/cgroup.c, cgroup_subtree_control_write).
            Err(Error { errno: Errno::NOENT | Errno::INVAL, .. }) => {}
            result => {
                step.check(result);
            }
        }
    }
}
