//! The data disk: found by label, mounted, its directories bound to their places. Never formatted; without one the
//! machine runs from memory.

use core::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags, mkdirat};
use rustix::io::{Errno, pread, read};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount as mount_at, mount_bind, mount_change, unmount};

use super::formats::{SUPERBLOCK_AT, device_names, ext4_label, partition_name};
use super::{Step, directory};
use crate::error::{During, Error, Result};
use crate::sys::file;
use crate::sys::text::{Path, t};
use crate::{plan, report};

/// Where block devices are listed: one a line, its name last. A read gives whole lines (fs/seq_file.c).
const LIST: &CStr = c"/proc/partitions";

/// Mounts the data disk, or a tmpfs where there is none that can be used, and binds its directories. `kept`: it is a disk.
pub fn mount(step: &mut Step, kept: &mut bool) -> Result<()> {
    match mount_disk().and_then(|()| make_directories()) {
        Ok(()) => *kept = true,
        Err(error) => {
            step.degrade(error);
            report::line().text(c"running from memory").send();
            // The disk, where it was mounted: what it has is nothing to build on.
            let _ = unmount(plan::DATA, UnmountFlags::DETACH);
            let mode = c"mode=0755";
            mount_at(c"data", plan::DATA, c"tmpfs", plan::DATA_FLAGS, mode).during(c"mount tmpfs for data")?;
            make_directories()?;
        }
    }
    for &(from, to) in plan::DATA_BINDS {
        step.check(mount_bind(from.get(), to.get()).during(to));
    }
    step.check(unmount(plan::DATA, UnmountFlags::DETACH).during(c"unmount /data"));
    for &path in plan::SHARED {
        step.check(mount_change(path.get(), MountPropagationFlags::SHARED).during(path));
    }
    Ok(())
}

fn mount_disk() -> Result<()> {
    let device = find()?;
    mount_at(device.get(), plan::DATA, plan::DATA_KIND, plan::DATA_FLAGS, plan::DATA_OPTIONS)
        .during(c"mount data disk")?;
    report::line().text(c"data disk ").path(device.get()).send();
    Ok(())
}

/// Makes the directories that are missing. Errors: of mkdir(2); ELOOP, ENOTDIR for what is no directory itself.
fn make_directories() -> Result<()> {
    let root = directory(CWD, t(plan::DATA))?;
    for &(path, mode) in plan::DATA_DIRECTORIES {
        match mkdirat(&root, path.get(), Mode::from_raw_mode(mode.into())) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::new(path, errno)),
        }
        // Parents come first, so that none of a path's is a link by now: whoever prepared the disk leads nobody elsewhere.
        file::below(&root, path.get(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).during(path)?;
    }
    Ok(())
}

/// The path of the one device that carries the label. Errors: ENODEV for none, ENOTUNIQ for two, which are both left alone.
fn find() -> Result<Path> {
    let list = file::open(CWD, LIST, OFlags::RDONLY).during(LIST)?;
    let (mut found, mut device) = (false, Path::new());
    let mut lines = [0; 2048];
    loop {
        let got = read(&list, &mut lines).during(LIST)?;
        if got == 0 {
            break;
        }
        for name in device_names(lines.get(..got).unwrap_or(&[])).filter(|name| carries_label(name)) {
            device.set(&[b"/dev/", name]);
            if found {
                return Err(Error::new(c"two data disks", Errno::NOTUNIQ));
            }
            found = true;
        }
    }
    if found { Ok(device) } else { Err(Error::new(c"no data disk", Errno::NODEV)) }
}

/// Whether the device is a partition of that name, or an ext4 file system of that label.
fn carries_label(name: &[u8]) -> bool {
    let mut bytes = [0; 512];
    if partition_name(start(&[b"/sys/class/block/", name, b"/uevent"], 0, &mut bytes)) == Some(plan::DATA_LABEL) {
        return true;
    }
    ext4_label(start(&[b"/dev/", name], SUPERBLOCK_AT, &mut bytes)) == Some(plan::DATA_LABEL)
}

/// What can be read of a file from `at` on; nothing where it cannot.
fn start<'a>(path: &[&[u8]], at: u64, bytes: &'a mut [u8; 512]) -> &'a [u8] {
    let mut joined = Path::new();
    joined.set(path);
    let got = file::open(CWD, joined.get(), OFlags::RDONLY | OFlags::NONBLOCK)
        .and_then(|file| pread(&file, &mut bytes[..], at));
    bytes.get(..got.unwrap_or(0)).unwrap_or(&[])
}
