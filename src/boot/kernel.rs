//! Kernel settings and lockdown.

use rustix::fd::BorrowedFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::{Errno, write};

use super::Step;
use crate::error::{During, Error, Result};
use crate::sys::file;
use crate::sys::text::{Path, Text};
use crate::{plan, report};

/// Writes `value` into the existing file `path` below `directory`. Errors: of open(2) and write(2).
pub fn put(directory: BorrowedFd<'_>, path: Text, value: Text) -> Result<()> {
    let open = file::open(directory, path.get(), OFlags::WRONLY).during(path)?;
    write(&open, value.get().to_bytes()).during(path).map(|_| ())
}

/// Writes kernel settings, a line each. Each that fails gets a line. Errors: of the first that failed.
pub fn write_settings(settings: &[u8]) -> Result<()> {
    let mut failed = Ok(());
    let mut path = Path::new();
    for setting in settings.split_inclusive(|byte| *byte == b'\n') {
        let at = setting.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let Some((name, [_, value @ ..])) = setting.split_at_checked(at) else { continue };
        path.set(&[plan::SYSCTL_ROOT, name]);
        let set = file::open(CWD, path.get(), OFlags::WRONLY).and_then(|file| write(&file, value));
        if let Err(errno) = set {
            report::failed(name, errno);
            failed = failed.and(Err(Error::new(c"kernel settings", errno)));
        }
    }
    failed
}

/// Sets them all, then locks the kernel down.
pub fn set(step: &mut Step) -> Result<()> {
    step.check(write_settings(plan::SYSCTLS));
    for &(path, value) in plan::KERNEL_FILES {
        step.check(put(CWD, path, value));
    }
    let (path, value) = plan::LOCKDOWN;
    match put(CWD, path, value) {
        // Secure Boot has locked it down as far already (linux/security/lockdown/lockdown.c, lock_kernel_down).
        Err(Error { errno: Errno::PERM, .. }) => {}
        result => drop(step.check(result)),
    }
    Ok(())
}
