//! The API file systems.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, mount as mount_at,
    mount_change,
};

use super::Step;
use crate::error::{During, Result};
use crate::plan::{self, Mount, Need};
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::sys::text::Text;

/// Mounts one entry of the table, on a directory that is made where there is none. One that is mounted already counts as
/// mounted (mount(2): EBUSY is the same file system at the same place). Errors: of mount(2).
pub fn mount(entry: &Mount) -> Result<()> {
    let (target, kind) = (entry.target.get(), entry.kind.get());
    let mut tried = false;
    loop {
        match mount_at(kind, target, kind, entry.flags, entry.data.get()) {
            Err(Errno::BUSY) => return Ok(()),
            // Once, and where it cannot be made, mount says why.
            Err(Errno::NOENT) if !tried => {
                tried = true;
                let _ = mkdirat(CWD, target, Mode::from_raw_mode(0o755));
            }
            result => return result.during(entry.target),
        }
    }
}

/// Makes every mount of PID 1 private: nothing mounted elsewhere reaches it. Errors: of mount(2); fatal.
pub fn make_private(_: &mut Step) -> Result<()> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).during(c"make private /")
}

/// Mounts the table.
pub fn mount_all(step: &mut Step) -> Result<()> {
    for entry in plan::MOUNTS {
        match (mount(entry), entry.need) {
            (Err(error), Need::Fatal) => return Err(error),
            (result, _) => step.check(result),
        };
    }
    Ok(())
}

/// A mount attached to nothing, of a new file system of type `kind` with `options`. Errors: of fsopen(2), fsconfig(2) and
/// fsmount(2).
pub fn detached(kind: &CStr, options: &[(Text, Text)], attributes: MountAttrFlags) -> rustix::io::Result<Fd> {
    let context = file::file_system(kind)?;
    for &(key, value) in options {
        fsconfig_set_string(context.as_fd(), key.get(), value.get())?;
    }
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        // Else its device is opened for writing.
        fsconfig_set_flag(context.as_fd(), c"ro")?;
    }
    fsconfig_create(context.as_fd())?;
    file::detached_mount(context.as_fd(), attributes)
}
