//! The services' sockets, by those who are not the services.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::ucred;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};
use nix::unistd::Pid;

use crate::{errno, say_of};

/// Not there, or nobody there.
const AWAY: [Errno; 4] = [Errno::ENOENT, Errno::ECONNREFUSED, Errno::EACCES, Errno::EPERM];

/// Sends `text` with the credentials of process `pid` (SCM_CREDENTIALS, which root may write at will).
pub fn forge(path: &str, pid: Pid, text: &str) -> nix::Result<()> {
    let from = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let credentials = ucred { pid: pid.as_raw(), uid: 0, gid: 0 }.into();
    let control = [ControlMessage::ScmCredentials(&credentials)];
    let to = UnixAddr::new(path)?;
    let sent = sendmsg(from.as_raw_fd(), &[IoSlice::new(text.as_bytes())], &control, MsgFlags::MSG_DONTWAIT, Some(&to));
    say_of("forged", &AWAY, sent);
    Ok(())
}

/// Hears at `path`; what was heard is left at `mark`.
pub fn squat(path: &str, mark: &str, time: Duration) -> nix::Result<()> {
    let heard = UnixDatagram::bind(path).and_then(|socket| {
        socket.set_read_timeout(Some(time))?;
        let mut text = [0; 64];
        let length = socket.recv(&mut text)?;
        fs::write(mark, &text[..length])
    });
    heard.map_err(|error| errno(&error))
}

/// Begins D-Bus's handshake, and waits for an answer.
pub fn call(path: &str) -> nix::Result<()> {
    let answer = UnixStream::connect(path).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"\0AUTH EXTERNAL 30\r\n")?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    });
    // Whom init does not know it hangs up on.
    let refusals = [&AWAY[..], &[Errno::EPIPE, Errno::ECONNRESET, Errno::UnknownErrno]].concat();
    say_of("bus", &refusals, answer.map_err(|error| errno(&error)));
    Ok(())
}
