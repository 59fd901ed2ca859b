//! The data disk: found by label, mounted, its directories bound to their places. Never formatted; without one the
//! machine runs from memory.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, unlinkat};
use rustix::io::{Errno, pread};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount as mount_at, mount_bind, mount_change, unmount};

use super::formats::{Ext4, SUPERBLOCK_AT, ext4_label};
use super::{Step, devices, directory, partition, seed};
use crate::error::{During, Error, Result};
use crate::sys::fd::Fd;
use crate::sys::text::{Path, t};
use crate::sys::{disk, file};
use crate::{plan, report};

/// A data disk that is used.
pub struct Disk {
    /// Can be read once the kernel finds an error in its file system.
    pub errors: Option<Fd>,
}

/// Mounts the data disk, or a tmpfs where there is none that can be used, and binds its directories.
pub fn mount(step: &mut Step, disk: &mut Option<Disk>) -> Result<()> {
    match mount_disk(step).and_then(|mounted| make_directories(step).map(|()| mounted)) {
        Ok(mounted) => *disk = Some(mounted),
        Err(error) => {
            step.degrade(error);
            report::line().text(c"running from memory").send();
            // The disk, where it was mounted: what it has is nothing to build on.
            let _ = unmount(plan::DATA, UnmountFlags::DETACH);
            let mode = c"mode=0755";
            mount_at(c"data", plan::DATA, c"tmpfs", plan::DATA_FLAGS, mode).during(c"mount tmpfs for data")?;
            make_directories(step)?;
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

fn mount_disk(step: &mut Step) -> Result<Disk> {
    let path = devices::in_time(c"waiting for the data disk", plan::DATA_BY, find)?;
    let device = file::open(CWD, path.get(), OFlags::RDONLY).during(c"open data disk")?;
    if superblock(&device).is_some_and(|ext4| ext4.is_shared) {
        return Err(Error::new(c"data disk with multiple mount protection", Errno::OPNOTSUPP));
    }
    let name = path.get().to_bytes().strip_prefix(b"/dev/").unwrap_or(&[]);
    step.check(partition::grow(name).during(c"grow data partition"));
    mount_at(path.get(), plan::DATA, plan::DATA_KIND, plan::DATA_FLAGS, plan::DATA_OPTIONS)
        .during(c"mount data disk")?;
    report::line().text(c"data disk ").path(path.get()).send();
    let root = directory(CWD, t(plan::DATA))?;
    step.check(grow(&device, &root).during(c"grow data disk"));
    Ok(Disk { errors: step.check(disk::errors(&root).during(c"watch data disk")) })
}

/// What the superblock of an ext4 file system says now.
fn superblock(device: &Fd) -> Option<Ext4> {
    let mut bytes = [0; 512];
    let got = pread(device, &mut bytes[..], SUPERBLOCK_AT).ok()?;
    bytes.get(..got).and_then(Ext4::of)
}

/// Grows the file system to its device. Errors: of the ioctls.
fn grow(device: &Fd, root: &Fd) -> rustix::io::Result<()> {
    let Some(ext4) = superblock(device) else { return Ok(()) };
    if ext4.has_errors {
        // The kernel grows none such.
        report::line().text(c"data disk has errors: check it with e2fsck (degraded)").send();
        return Ok(());
    }
    let Some(blocks) = ext4.growth(disk::bytes(device)?) else { return Ok(()) };
    disk::grow(root, blocks)?;
    report::line().text(c"data disk grown to ").number(blocks << ext4.block_bits >> 20).text(c" MiB").send();
    Ok(())
}

/// Makes the directories that are missing, and puts into a new one what the image has for it. Errors: of mkdir(2); ELOOP, ENOTDIR for what is no directory itself.
fn make_directories(step: &mut Step) -> Result<()> {
    let root = directory(CWD, t(plan::DATA))?;
    for &(path, mode) in plan::DATA_DIRECTORIES {
        file::make_directory(&root, path.get(), Mode::from_raw_mode(mode.into())).during(path)?;
        // Parents come first, so that none of a path's is a link by now: whoever prepared the disk leads nobody elsewhere.
        file::below(&root, path.get(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).during(path)?;
    }
    step.check(remove_network(&root).during(plan::NETWORKS));
    step.check(seed::plant(&root).during(plan::MANIFESTS));
    Ok(())
}

/// Removes the network configuration of an earlier boot. Errors: of unlink(2) and open(2).
fn remove_network(root: &Fd) -> rustix::io::Result<()> {
    let networks = file::directory(root, plan::NETWORKS)?;
    match unlinkat(networks, plan::NETWORK_MADE, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The path of the one device that carries the label. Errors: ENODEV for none, ENOTUNIQ for two, which are both left alone.
fn find() -> Result<Path> {
    let mut found = None;
    let mut two = false;
    devices::each(plan::DATA_LABEL, Some(ext4_label), &mut |path| two |= found.replace(path).is_some())?;
    match found {
        Some(_) if two => Err(Error::new(c"two data disks", Errno::NOTUNIQ)),
        Some(path) => Ok(path),
        None => Err(Error::new(c"no data disk", Errno::NODEV)),
    }
}
