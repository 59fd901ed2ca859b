//! Unmounting, all of it in children: any of these calls may be held up for ever.

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::{fork, wait};
use crate::plan;
use crate::sys::mount::{self, Status};
use crate::sys::text::Text;

/// Takes off what is mounted, the newest first, since what is mounted on or below another came later; again as long as that
/// leaves fewer. Then lazily what is left, and what a kernel before 6.11 cannot list.
pub fn unmount_all() {
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

/// Takes one off in a child. A network file system lazily, since its server may be gone. Any other is made read-only
/// before: its superblock is clean then even where a process that cannot be killed holds it in a namespace of its own.
fn unmount_one(status: &Status) {
    let place = status.place();
    if place == c"/" || plan::MOUNTS.iter().any(|mount| mount.target.get() == place) {
        return;
    }
    let far = plan::NETWORK_KINDS.iter().any(|kind| status.kind().to_bytes().starts_with(kind));
    let child = fork(|| {
        if !far {
            let _ = mount_remount(place, MountFlags::RDONLY, c"");
        }
        let how = if far { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let _ = unmount(place, UnmountFlags::NOFOLLOW | how);
    });
    if let Ok(child) = child {
        wait(plan::UNMOUNT_ONE_LIMIT, Some(child));
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
