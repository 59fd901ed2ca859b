//! What can be done to the mount namespace of another process, from within.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::{errno, say};

fn open(pid: Pid) -> nix::Result<File> {
    File::open(format!("/proc/{pid}/ns/mnt")).map_err(|error| errno(&error))
}

/// Enters the mount namespace of process `pid`.
fn enter(pid: Pid) -> nix::Result<()> {
    let namespace = open(pid)?;
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
}

/// Asks for the namespaces beside it.
pub fn walk(pid: Pid) -> nix::Result<()> {
    let namespace = open(pid)?;
    // NS_MNT_GET_NEXT and NS_MNT_GET_PREV, with the 16 bytes of struct mnt_ns_info (linux/nsfs.h).
    // Linux 6.12 takes them of any type, and longer ones.
    let requests = [
        ("the next", 0x8010_b70b),
        ("the previous", 0x8010_b70c),
        ("the next, by number", 0x8010_000b),
        ("the previous, by number", 0x8020_640c),
    ];
    for (name, request) in requests {
        let mut info = [0u64; 4];
        // SAFETY: the kernel writes as many bytes as the request says at most, which `info` has.
        let walked = Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), request, info.as_mut_ptr()) });
        // It is allowed, and there is none on that side.
        say(name, if walked == Err(Errno::ENOENT) { Ok(0) } else { walked });
    }
    Ok(())
}

/// Detaches the root with all that is mounted on it.
pub fn bare(pid: Pid) -> nix::Result<()> {
    enter(pid)?;
    umount2("/", MntFlags::MNT_DETACH)
}

/// Prints what is beneath the root.
pub fn show_beneath(pid: Pid) -> nix::Result<()> {
    beneath(pid)?;
    list(Path::new("/"), 0).map_err(|error| errno(&error))
}

/// Goes to what is beneath the root, in a copy of the namespace.
pub fn beneath(pid: Pid) -> nix::Result<()> {
    enter(pid)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let own = open(Pid::this())?;
    // Where there is nothing beneath, it is the root itself.
    let _ = umount2("/", MntFlags::MNT_DETACH);
    // To where the namespace begins now.
    setns(own, CloneFlags::CLONE_NEWNS)
}

fn list(directory: &Path, depth: usize) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        println!("{}", entry.path().display());
        if entry.file_type()?.is_dir() && depth < 3 {
            list(&entry.path(), depth + 1)?;
        }
    }
    Ok(())
}

const AT_RECURSIVE: i32 = 0x8000;

/// Makes every mount shared with whoever has a copy, and changes an attribute of each (mount_setattr(2)).
pub fn attributes(pid: Pid) -> nix::Result<()> {
    enter(pid)?;
    // attr_set: MOUNT_ATTR_NODIRATIME; attr_clr; propagation; userns_fd.
    let attributes = [0x80, 0, libc::MS_SHARED, 0];
    // SAFETY: the kernel reads the 32 bytes it is told of.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            AT_RECURSIVE,
            attributes.as_ptr(),
            32usize,
        )
    })
    .map(drop)
}

/// Moves a copy of the tree at /run over /etc/kios (open_tree(2), move_mount(2)).
pub fn graft(pid: Pid) -> nix::Result<()> {
    enter(pid)?;
    // SAFETY: the paths are C strings.
    unsafe {
        let clone = AT_RECURSIVE | 1;
        let tree = Errno::result(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/run".as_ptr(), clone))?;
        // MOVE_MOUNT_F_EMPTY_PATH.
        let to = c"/etc/kios".as_ptr();
        Errno::result(libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, to, 4)).map(drop)
    }
}
