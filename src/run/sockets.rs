//! A service's sockets: where it says that it is ready (sd_notify(3)), and kubelet's bus. They are in that service's mount
//! namespace, and in those of the pods that get a copy of it; of kubelet's, none does.
//!
//! Each start makes a tmpfs that is attached to nothing, with the sockets in it; the service's process attaches it in its
//! own namespace. The sender is also checked by SCM_CREDENTIALS, which alone would not do: root can write any pid there.

use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, chdir, fchdir};

use crate::boot;
use crate::error::{During, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::net;

/// Bound sockets, and the detached mount they are in.
pub struct Sockets {
    /// Where it says that it is ready.
    pub notify: Fd,
    /// Where it connects to the bus; of the service that has one.
    pub bus: Option<Fd>,
    /// For the service's process to attach.
    pub mount: Fd,
}

/// Makes the sockets. Errors: of the mount and socket calls.
pub fn listen(bus: bool) -> Result<Sockets> {
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = boot::detached(c"tmpfs", plan::SOCKETS_OPTIONS, attributes).during(c"mount for sockets")?;
    // bind(2) takes no directory descriptor, and no path leads to the mount.
    fchdir(&mount).during(c"chdir to sockets")?;
    let notify = net::datagrams(plan::NOTIFY_SOCKET).during(c"notify socket");
    let bus = bus.then(|| net::listen(plan::BUS_SOCKET).during(c"bus socket")).transpose();
    chdir(c"/").during(c"chdir /")?;
    Ok(Sockets { notify: notify?, bus: bus?, mount })
}

/// Reads one datagram; whether it is process `pid` saying that it is ready.
pub fn says_ready(socket: &Fd, pid: Option<Pid>) -> bool {
    let mut space = [0; 256];
    let Ok((bytes, sender)) = net::receive(socket, &mut space) else { return false };
    let sender = sender.and_then(|sender| Pid::from_raw(sender.try_into().ok()?));
    sender.is_some() && sender == pid && is_ready(bytes)
}

/// Whether a notification has the line READY=1.
fn is_ready(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::is_ready;

    #[test]
    fn ready_is_one_whole_line() {
        assert!(is_ready(b"READY=1"));
        assert!(is_ready(b"STATUS=up\nREADY=1\n"));
        assert!(!is_ready(b"READY=10"));
        assert!(!is_ready(b"XREADY=1"));
        assert!(!is_ready(b"READY=0\nWATCHDOG=1"));
        assert!(!is_ready(b""));
    }
}
