//! Unmounting, all of it in children: any of these calls may be held up for ever.

use core::ffi::CStr;
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::{fork, wait};
use crate::sys::file;
use crate::sys::mount::{self, Status};
use crate::sys::text::Text;
use crate::{plan, report};

/// Takes off what is mounted, the newest first, since what is mounted on or below another came later; again as long as that
/// leaves fewer. Then lazily what is left, and what a kernel before 6.11 cannot list.
pub fn unmount_all() {
    in_child(plan::UNMOUNT_FIRST, || make_clean(plan::UNMOUNT_FIRST));
    let mut left = usize::MAX;
    loop {
        let seen = unmount_each();
        if seen >= left {
            break;
        }
        left = seen;
    }
    plan::UNMOUNTS.iter().copied().for_each(detach);
}

/// One round; how many mounts there were.
fn unmount_each() -> usize {
    let (mut seen, mut ids) = (0, [0; 64]);
    let mut last = 0;
    while let Ok(count @ 1..) = mount::list(last, &mut ids) {
        seen += count;
        for &id in ids.iter().take(count) {
            last = id;
            if let Ok(status) = Status::of(id) {
                unmount_one(&status);
            }
        }
    }
    seen
}

/// Takes one off in a child. A network file system lazily, since its server may be gone. Any other is made clean before:
/// coming off here does not end it where a process that cannot be killed holds it in a namespace of its own.
fn unmount_one(status: &Status) {
    let place = status.place();
    if place == c"/" || plan::MOUNTS.iter().any(|mount| mount.target.get() == place) {
        return;
    }
    let far = plan::NETWORK_KINDS.iter().any(|kind| status.kind().to_bytes().starts_with(kind));
    in_child(place, || {
        let mut how = UnmountFlags::NOFOLLOW;
        if far {
            how |= UnmountFlags::DETACH;
        } else {
            make_clean(place);
        }
        let _ = unmount(place, how);
    });
}

/// Sees to it that a file system is clean, even if it does not come off. The kernel refuses to make it read-only while a file
/// is open for writing: by a process that cannot be killed, or a loop device. Then it is frozen.
fn make_clean(place: &CStr) {
    if mount_remount(place, MountFlags::RDONLY, c"").is_err()
        && let Ok(directory) = file::open(CWD, place, OFlags::RDONLY | OFlags::DIRECTORY)
    {
        let _ = mount::freeze(&directory);
    }
}

/// Does something about `place` in a child. One that takes too long is named, and goes on by itself.
fn in_child(place: &CStr, act: impl FnOnce()) {
    if let Ok(child) = fork(act)
        && !wait(plan::UNMOUNT_ONE_LIMIT, Some(child))
    {
        report::failed(place.to_bytes(), Errno::TIMEDOUT);
    }
}

/// Detaches `path` with all that is mounted below, and again for what is mounted on it: pods may do that. Until nothing is
/// mounted there (EINVAL), but not for ever.
fn detach(path: Text) {
    for _ in 0..plan::UNMOUNTS_MAX {
        if unmount(path.get(), UnmountFlags::DETACH).is_err() {
            break;
        }
    }
}
