//! A service's sockets: where it says that it is ready (sd_notify(3)), and kubelet's bus. They are in that service's mount
//! namespace, and in those of the pods that get a copy of it; of kubelet's, none does, and it cannot be bound.
//!
//! Each start makes a tmpfs that is attached to nothing, with the sockets in it, and the files that say who the machine is;
//! the service's process attaches it in its own namespace. The sender is also checked by SCM_CREDENTIALS, which alone would
//! not do: root can write any pid there.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::write;
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, chdir, fchdir};

use crate::boot::{self, Identity};
use crate::error::{During, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::{file, net};

/// Bound sockets, and the detached mount they are in.
pub struct Sockets {
    /// Where it says that it is ready.
    pub notify: Fd,
    /// Where it connects to the bus; of the service that has one.
    pub bus: Option<Fd>,
    /// For the service's process to attach.
    pub mount: Fd,
}

/// Makes the sockets, and the files beside them. Errors: of the mount and socket calls.
pub fn listen(bus: bool, identity: &Identity) -> Result<Sockets> {
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = boot::detached(c"tmpfs", plan::SOCKETS_OPTIONS, attributes).during(c"mount for sockets")?;
    let (before, after) = plan::HOSTS;
    put(&mount, plan::HOSTS_FILE, &[before, identity.name(), after])?;
    put(&mount, plan::MACHINE_ID_FILE, &[identity.machine_id()])?;
    // bind(2) takes no directory descriptor, and no path leads to the mount.
    fchdir(&mount).during(c"chdir to sockets")?;
    let notify = net::datagrams(plan::NOTIFY_SOCKET).during(c"notify socket");
    let bus = bus.then(|| net::listen(plan::BUS_SOCKET).during(c"bus socket")).transpose();
    chdir(c"/").during(c"chdir /")?;
    Ok(Sockets { notify: notify?, bus: bus?, mount })
}

/// Makes a file of these parts, that all may read. Errors: of open(2) and write(2).
fn put(directory: &Fd, name: &'static CStr, parts: &[&[u8]]) -> Result<()> {
    let mode = Mode::from_raw_mode(0o444);
    let file = file::create(directory.as_fd(), name, OFlags::WRONLY | OFlags::CREATE, mode).during(name)?;
    parts.iter().try_for_each(|part| write(&file, part).map(|_| ())).during(name)
}

/// What a notification says (sd_notify(3)): lines, of which these two count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// READY=1: the service is up.
    pub ready: bool,
    /// WATCHDOG=1: it finds itself well.
    pub alive: bool,
}

impl Notice {
    /// Reads a notification.
    pub fn of(bytes: &[u8]) -> Notice {
        let mut notice = Notice::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            notice.ready |= line == b"READY=1";
            notice.alive |= line == b"WATCHDOG=1";
        }
        notice
    }
}

/// Reads one datagram; what process `pid` says, and nothing where it is another's.
pub fn hear(socket: &Fd, pid: Option<Pid>) -> Notice {
    let mut space = [0; 256];
    let Ok((bytes, sender)) = net::receive(socket, &mut space) else { return Notice::default() };
    let sender = sender.and_then(|sender| Pid::from_raw(sender.try_into().ok()?));
    if sender.is_some() && sender == pid { Notice::of(bytes) } else { Notice::default() }
}

#[cfg(test)]
mod tests {
    use super::Notice;

    #[test]
    fn a_notice_is_one_whole_line() {
        let notice = |ready, alive| Notice { ready, alive };
        assert_eq!(Notice::of(b"READY=1"), notice(true, false));
        assert_eq!(Notice::of(b"STATUS=up\nREADY=1\n"), notice(true, false));
        assert_eq!(Notice::of(b"READY=10"), notice(false, false));
        assert_eq!(Notice::of(b"XREADY=1"), notice(false, false));
        assert_eq!(Notice::of(b"READY=0\nWATCHDOG=1"), notice(false, true));
        assert_eq!(Notice::of(b"WATCHDOG=1\nREADY=1"), notice(true, true));
        assert_eq!(Notice::of(b"WATCHDOG=trigger"), notice(false, false));
        assert_eq!(Notice::of(b""), notice(false, false));
    }
}
