//! The data disk: found by label, mounted, its directories bound to their places. Never formatted; without one the
//! machine runs from memory.

use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdirat};
use rustix::io::{Errno, pread, read};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount as mount_at, mount_bind, mount_change, unmount};

use super::Step;
use super::formats::{Path, SUPERBLOCK_AT, SUPERBLOCK_BYTES, entry_names, ext4_label, partition_name};
use crate::error::{During, Error, Result};
use crate::sys::file;
use crate::{plan, report};

/// Where block devices are listed.
const BLOCK: &CStr = c"/sys/class/block";

/// Mounts the data disk, or a tmpfs where there is none that can be used, and binds its directories.
pub fn mount(step: &mut Step) -> Result<()> {
    match find().and_then(|device| mount_disk(&device)) {
        Ok(()) => {}
        Err(error) => {
            step.degrade(error);
            let mode = c"mode=0755";
            mount_at(c"data", plan::DATA, c"tmpfs", plan::DATA_FLAGS, mode).during(c"mount tmpfs for data")?;
        }
    }
    let root = directory(plan::DATA)?;
    for &(path, mode) in plan::DATA_DIRECTORIES {
        match mkdirat(&root, path.get(), Mode::from_raw_mode(mode.into())) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => step.degrade(Error::new(path, errno)),
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

fn directory(path: &'static CStr) -> Result<OwnedFd> {
    file::open(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY).during(path)
}

fn mount_disk(device: &Path) -> Result<()> {
    mount_at(device.get(), plan::DATA, plan::DATA_KIND, plan::DATA_FLAGS, plan::DATA_OPTIONS)
        .during(c"mount data disk")?;
    report::line().text("data disk ").path(device.get()).send();
    Ok(())
}

fn no_disk(errno: Errno) -> Error {
    Error::new(c"no data disk, running from memory", errno)
}

/// The path of the one device that carries the label. Errors: ENODEV for none, ENOTUNIQ for two, which are both left alone.
fn find() -> Result<Path> {
    let list = directory(BLOCK)?;
    let mut found: Option<Path> = None;
    let mut space = [0; 2048];
    loop {
        let entries = file::entries(&list, &mut space).during(c"list block devices")?;
        if entries.is_empty() {
            break;
        }
        for name in entry_names(entries).filter(|name| carries_label(&list, name)) {
            if found.is_some() {
                return Err(Error::new(c"two data disks, using neither", Errno::NOTUNIQ));
            }
            found = Path::new(&[b"/dev/", name]);
        }
    }
    found.ok_or(no_disk(Errno::NODEV))
}

/// Whether the device is a partition of that name, or an ext4 file system of that label.
fn carries_label(list: &OwnedFd, name: &[u8]) -> bool {
    let open = |parts: &[&[u8]]| {
        Path::new(parts).and_then(|path| file::open(list.as_fd(), path.get(), OFlags::RDONLY | OFlags::NONBLOCK).ok())
    };
    let mut bytes = [0; 512];
    let got = open(&[name, b"/uevent"]).and_then(|file| read(&file, &mut bytes).ok()).unwrap_or(0);
    if partition_name(bytes.get(..got).unwrap_or(&[])) == Some(plan::DATA_LABEL) {
        return true;
    }
    let superblock = open(&[b"/dev/", name]).and_then(|file| pread(&file, &mut bytes, SUPERBLOCK_AT).ok());
    let got = superblock.unwrap_or(0).min(SUPERBLOCK_BYTES);
    bytes.get(..got).and_then(ext4_label) == Some(plan::DATA_LABEL)
}
