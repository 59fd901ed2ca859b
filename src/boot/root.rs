//! The root: the EROFS image of the initramfs, mounted from ramfs where nobody can write it, moved over `/`. Also which
//! root the kernel's own helpers see.
//!
//! Or the image is a file of an EROFS in a partition, which is read through a mapping that gives what it was made with, or
//! nothing (dm-verity). Whoever mounts the mapping's device reads that file too, and has nothing of what is mounted from it.
//!
//! There is no loop device: a root pod could swap its backing file under the mounted root (LOOP_CHANGE_FD). The image's
//! file is unlinked once mounted, so that no path leads to what backs the root, even from the emptied initramfs, which a
//! pod reaches in a service's namespace by detaching the root there. A mark on that file system tells of each use of the
//! file, with a descriptor of it (fanotify(7)): so it is only used through a mount that is read-only, and nowhere any more.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, Mode, OFlags, access, fallocate, fstat, mkdirat, sendfile, statfs, unlinkat,
};
use rustix::io::{Errno, pread, read};
use rustix::mount::{
    MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_move,
    mount_remount, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir};

use super::formats::{SUPERBLOCK_AT, SUPERBLOCK_BYTES, erofs_bytes, first_number};
use super::{Programs, Step, devices, modules, mounts};
use crate::error::{During, Error, Result};
use crate::sys::fd::Fd;
use crate::sys::stdio::{self, Fixed};
use crate::sys::text::t;
use crate::sys::{dm, file, process};
use crate::{plan, report};

/// f_type of a ramfs (linux/magic.h, RAMFS_MAGIC).
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Puts the root image, or the initramfs' own files, over `/`. Errors: no root image, or one that cannot be mounted.
pub fn take(step: &mut Step, programs: &mut Programs) -> Result<()> {
    modules::load_root(step);
    // Missing in most initramfs; where it cannot be made, the mounts below say so.
    let _ = mkdirat(CWD, plan::NEW_ROOT, Mode::from_raw_mode(0o755));
    match file::open(CWD, plan::IMAGE, OFlags::RDWR) {
        Ok(image) => {
            let source = on_ramfs(image)?;
            mount_bind(source, source).during(c"bind root image")?;
            mount_remount(source, MountFlags::BIND | MountFlags::RDONLY, c"").during(c"remount root image")?;
            let root = erofs(source)?;
            let held = file::open(CWD, source, OFlags::RDONLY).during(c"open root image")?;
            stdio::install(held.as_fd(), Fixed::Image, false).during(c"dup")?;
            unmount(source, UnmountFlags::DETACH).during(c"unmount root image")?;
            programs.image = true;
            report::line().text(c"root in memory").send();
            unlinkat(CWD, source, AtFlags::empty()).during(c"unlink root image")?;
            let _ = unlinkat(CWD, c"/init", AtFlags::empty());
            attach(&root)?;
        }
        Err(Errno::NOENT) if access(plan::ROOT_TABLE, Access::EXISTS).is_ok() => {
            for entry in plan::MOUNTS.iter().take(plan::ROOT_MOUNTS) {
                mounts::mount(entry)?;
            }
            let partition = find_verified()?;
            let image = file::open(partition.as_fd(), plan::IMAGE_FILE, OFlags::RDONLY).during(c"open root image")?;
            stdio::install(image.as_fd(), Fixed::Image, false).during(c"dup")?;
            let root = erofs(plan::IMAGE_HELD)?;
            (programs.image, programs.on_disk) = (true, true);
            for entry in plan::MOUNTS.iter().take(plan::ROOT_MOUNTS) {
                unmount(entry.target.get(), UnmountFlags::DETACH).during(entry.target)?;
            }
            for path in [c"/init", plan::ROOT_TABLE] {
                let _ = unlinkat(CWD, path, AtFlags::empty());
            }
            let _ = unlinkat(CWD, c"/sys", AtFlags::REMOVEDIR);
            attach(&root)?;
        }
        Err(Errno::NOENT) if access(plan::ROOT_MARK, Access::EXISTS).is_ok() => {
            mount_bind_recursive(c"/", plan::NEW_ROOT).during(c"bind root")?;
            report::line().text(c"root in the initramfs' own files, which pods can write").send();
        }
        Err(errno) => return Err(Error::new(c"open root image", errno)),
    }
    chdir(plan::NEW_ROOT).during(c"chdir /newroot")?;
    mount_move(c".", c"/").during(c"move mount /")?;
    chroot(c".").during(c"chroot /")?;
    chdir(c"/").during(c"chdir /")
}

/// Checks the image's length, and sees to it that its file is on a ramfs, which EROFS can be mounted from; a tmpfs
/// refuses (ENOTBLK). Returns its path.
fn on_ramfs(image: Fd) -> Result<&'static CStr> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    let got = pread(&image, &mut superblock, SUPERBLOCK_AT).during(c"read root image")?;
    let needed = superblock.get(..got).and_then(erofs_bytes);
    let length = u64::try_from(fstat(&image).during(c"stat root image")?.st_size).unwrap_or(0);
    match needed {
        Some(needed) if needed <= length => {}
        Some(_) => return Err(Error::new(c"root image cut short", Errno::NODATA)),
        None => return Err(Error::new(c"root image not EROFS", Errno::INVAL)),
    }
    let kind = statfs(c"/").during(c"statfs /")?.f_type;
    if u64::try_from(kind).is_ok_and(|kind| kind & 0xffff_ffff == RAMFS_MAGIC) {
        return Ok(plan::IMAGE);
    }
    copy(&image, length)?;
    unlinkat(CWD, plan::IMAGE, AtFlags::empty()).during(c"unlink root image")?;
    Ok(plan::IMAGE_COPY)
}

/// Copies the image to a ramfs, freeing what was copied as it goes: both never are in memory whole.
fn copy(image: &Fd, length: u64) -> Result<()> {
    mount(c"ramfs", plan::NEW_ROOT, c"ramfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0700")
        .during(c"mount ramfs")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let to = file::create(CWD, plan::IMAGE_COPY, flags, Mode::RUSR).during(c"create root image")?;
    let mut at = 0;
    while at < length {
        let from = at;
        if sendfile(&to, image, Some(&mut at), plan::COPY_STEP).during(c"copy root image")? == 0 {
            return Err(Error::new(c"copy root image", Errno::NODATA));
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(image, punch, from, at - from).during(c"free copied root image")?;
    }
    Ok(())
}

/// A detached mount of the EROFS in the file at `source`, with a superblock of its own. Errors: of the mount calls.
pub fn erofs(source: &'static CStr) -> Result<Fd> {
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    mounts::detached(c"erofs", &[(t(c"source"), t(source))], attributes).during(c"mount root image")
}

/// Puts the root where it is moved from.
fn attach(root: &Fd) -> Result<()> {
    move_mount(root, c"", CWD, plan::NEW_ROOT, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).during(c"attach root")
}

/// A detached mount of the first partition of the label that is what the table says: a mapping gives nothing else of it.
/// Whoever labels another disk so does not keep the root's own, which may come later, from being found. Errors: ENODEV for no
/// such partition; of the last that was looked at.
fn find_verified() -> Result<Fd> {
    let table = file::open(CWD, plan::ROOT_TABLE, OFlags::RDONLY).during(plan::ROOT_TABLE)?;
    let mut bytes = [0; plan::ROOT_TABLE_BYTES];
    let got = read(&table, &mut bytes).during(plan::ROOT_TABLE)?;
    let (length, rest) = first_number(bytes.get(..got).unwrap_or(&[]));
    let (mut failed, mut before) = (None, 0);
    let found = devices::in_time(c"waiting for the root disk", plan::ROOT_BY, || {
        let (mut root, mut number) = (Err(Error::new(c"no root partition", Errno::NODEV)), 0);
        devices::each(plan::ROOT_LABEL, None, &mut |_| number += 1)?;
        // Only a device that came makes another try worth while; the mapping itself is one that comes.
        if number == before {
            return root;
        }
        before = number;
        devices::each(plan::ROOT_LABEL, None, &mut |path| {
            if root.is_err() {
                match verified(length, rest, path.get().to_bytes()) {
                    Ok(mounted) => root = Ok(mounted),
                    Err(error) => failed = Some(error),
                }
            }
        })?;
        root
    });
    found.map_err(|error| failed.unwrap_or(error))
}

/// A detached mount of what the device `name` has, through the mapping. Errors: of the mapping; of the mount calls, which read
/// the first blocks.
fn verified(length: u64, rest: &[u8], name: &[u8]) -> Result<Fd> {
    let mut parameters = [0; dm::PARAMETERS];
    // What is too long is no table.
    for (to, from) in parameters.iter_mut().zip([b"1 ", name, b" ", name, b" ", rest].into_iter().flatten()) {
        *to = *from;
    }
    let mapping = dm::Mapping::verity(length, &parameters).during(c"map root partition")?;
    let root = erofs(plan::ROOT_DEVICE).inspect_err(|_| mapping.remove())?;
    report::line().text(c"root on ").bytes(name).text(c", verified").send();
    Ok(root)
}

/// Confines the kernel's threads to [`plan::KERNEL_ROOT`].
///
/// PID 1 shares its root with the kernel threads whose helpers (core_pattern, modprobe, poweroff_cmd) run as root outside
/// every container. So that shared root goes to a directory that holds only what the kernel may run; then PID 1 leaves
/// the sharing, and returns to the real root by a descriptor.
pub fn confine_kernel(_: &mut Step) -> Result<()> {
    let root = file::open(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY).during(c"open /")?;
    // Its working directory too: a helper may be named by a relative path.
    chdir(plan::KERNEL_ROOT).during(c"chdir kernel")?;
    chroot(c".").during(c"chroot kernel")?;
    process::unshare_root().during(c"unshare root")?;
    fchdir(&root).during(c"chdir /")?;
    chroot(c".").during(c"chroot /")?;
    chdir(c"/").during(c"chdir /")
}
