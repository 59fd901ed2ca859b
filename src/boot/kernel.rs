//! Kernel settings and lockdown.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, OFlags};
use rustix::io::write;

use super::Step;
use crate::error::{During, Result};
use crate::plan::{self, Sysctl};
use crate::sys::file;
use crate::sys::text::Text;

/// Writes `value` into the existing file `path` below `directory`. Errors: of open(2) and write(2).
pub fn put(directory: BorrowedFd<'_>, path: Text, value: Text) -> Result<()> {
    let open = file::open(directory, path.get(), OFlags::WRONLY).during(path)?;
    write(&open, value.get().to_bytes()).during(path).map(|_| ())
}

/// Sets one kernel setting. Errors: of open(2) and write(2).
pub fn set_one((path, value): Sysctl) -> Result<()> {
    let root = file::open(CWD, plan::SYSCTL_ROOT, OFlags::PATH | OFlags::DIRECTORY).during(path)?;
    put(root.as_fd(), path, value)
}

/// Sets them all, then locks the kernel down.
pub fn set(step: &mut Step) -> Result<()> {
    for &setting in plan::SYSCTLS {
        step.check(set_one(setting));
    }
    let (path, level) = plan::LOCKDOWN;
    step.check(put(CWD, path, level));
    Ok(())
}
