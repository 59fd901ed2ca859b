//! The cgroup tree that kubelet's own hangs beside: init's, and one for each service and for the shims.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use super::kernel::put;
use super::{Step, directory};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::text::t;

/// The services' cgroups, held from boot on: whatever is mounted over the tree later.
#[derive(Default)]
pub struct Cgroups {
    /// By index into [`plan::SERVICES`].
    pub services: [Option<Fd>; plan::SERVICES.len()],
}

/// Makes the cgroups, moves init into its own, and opens the services'.
pub fn make(step: &mut Step, cgroups: &mut Cgroups) -> Result<()> {
    let Some(root) = step.check(directory(CWD, t(plan::CGROUP_ROOT))) else { return Ok(()) };
    for &(path, memory_min, cpu_weight) in plan::CGROUPS {
        let made = match mkdirat(&root, path.get(), Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => Ok(()),
            result => result.during(path),
        };
        if step.check(made).is_none() {
            continue;
        }
        if path.get() == plan::INIT_CGROUP {
            // Before the root's controllers are switched on: a cgroup may hold processes or give out controllers, not
            // both, except the real root (cgroups(7)).
            let own = directory(root.as_fd(), path).and_then(|own| put(own.as_fd(), t(c"cgroup.procs"), t(c"0")));
            step.check(own);
            enable(step, root.as_fd());
        }
        let Some(own) = step.check(directory(root.as_fd(), path)) else { continue };
        step.check(put(own.as_fd(), t(c"memory.min"), memory_min));
        step.check(put(own.as_fd(), t(c"cpu.weight"), cpu_weight));
        if path.get() == plan::PODRUNTIME {
            enable(step, own.as_fd());
        }
    }
    for (service, held) in plan::SERVICES.iter().zip(&mut cgroups.services) {
        *held = step.check(directory(root.as_fd(), service.cgroup));
    }
    Ok(())
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
