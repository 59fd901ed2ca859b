//! Sockets: the loopback interface, datagrams with their sender's credentials, and streams that carry a descriptor.

use core::ffi::CStr;
use core::mem::size_of;
use linux_raw_sys::general::{
    __NR_accept4, __NR_bind, __NR_connect, __NR_getsockopt, __NR_listen, __NR_recvmsg, __NR_sendmsg, __NR_setsockopt,
    __NR_socket, O_CLOEXEC, O_NONBLOCK, iovec,
};
use linux_raw_sys::ioctl::{SIOCGIFFLAGS, SIOCSIFFLAGS};
use linux_raw_sys::net::{
    AF_INET, AF_NETLINK, AF_UNIX, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, SCM_CREDENTIALS, SCM_RIGHTS,
    SO_PASSCRED, SO_PEERCRED, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, cmsghdr, msghdr, ucred,
};
use linux_raw_sys::netlink::{NETLINK_KOBJECT_UEVENT, sockaddr_nl};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::{Errno, Result};
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument, ioctl};

/// Interface is up (netdevice(7)).
const IFF_UP: u16 = 1;

/// `struct ifreq` as the flags requests use it (netdevice(7)).
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}
const_assert_eq!(size_of::<InterfaceFlags>(), 40);

/// Makes a socket or a connection close-on-exec and non-blocking: SOCK_CLOEXEC and SOCK_NONBLOCK are these (linux/net.h).
const SAFELY: u32 = O_CLOEXEC | O_NONBLOCK;

/// A socket, close-on-exec and non-blocking. Errors: of socket(2).
fn socket(family: u32, kind: u32, protocol: u32) -> Result<Fd> {
    let kind = kind | SAFELY;
    // SAFETY: the call touches no memory of ours.
    Fd::from_answer(unsafe { syscall(__NR_socket, [family as usize, kind as usize, protocol as usize]) })
}

/// Brings `lo` up; the kernel gives it 127.0.0.1 and ::1 by itself. Errors: of socket(2) and netdevice(7).
pub fn loopback_up() -> Result<()> {
    let socket = socket(AF_INET, SOCK_DGRAM, 0)?;
    let mut request = InterfaceFlags { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: 0, rest: [0; 22] };
    for number in [SIOCGIFFLAGS, SIOCSIFFLAGS] {
        // SAFETY: both read and write one struct ifreq, which `request` is, in layout and in size.
        unsafe { ioctl(&socket, number, &mut request) }?;
        request.flags |= IFF_UP;
    }
    Ok(())
}

/// A socket that hears of devices as they come and go (netlink(7), NETLINK_KOBJECT_UEVENT). Errors: of socket(2) and bind(2).
pub fn device_events() -> Result<Fd> {
    let socket = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)?;
    // The kernel's group; the socket's own number is the kernel's to give.
    let family = u16::try_from(AF_NETLINK).unwrap_or(0);
    let address = sockaddr_nl { nl_family: family, nl_pad: 0, nl_pid: 0, nl_groups: 1 };
    let fd = fd_argument(socket.as_raw_fd());
    let bind = [fd, (&raw const address).expose_provenance(), size_of::<sockaddr_nl>()];
    // SAFETY: `address` is a sockaddr_nl of the size given and outlives the call.
    check(unsafe { syscall(__NR_bind, bind) })?;
    Ok(socket)
}

/// `struct sockaddr_un` (unix(7)).
#[repr(C)]
struct UnixAddress {
    family: u16,
    path: [u8; 108],
}

/// A UNIX datagram socket bound to `path`, whose messages carry their sender's credentials (unix(7), SO_PASSCRED).
/// Errors: of socket(2) and bind(2); ENAMETOOLONG.
pub fn datagrams(path: &CStr) -> Result<Fd> {
    let socket = bound(path, SOCK_DGRAM)?;
    let on: i32 = 1;
    let fd = fd_argument(socket.as_raw_fd());
    let option = [fd, SOL_SOCKET as usize, SO_PASSCRED as usize, (&raw const on).expose_provenance(), size_of::<i32>()];
    // SAFETY: `on` is an int and outlives the call.
    check(unsafe { syscall(__NR_setsockopt, option) })?;
    Ok(socket)
}

/// A UNIX stream socket that listens at `path`. Errors: of socket(2), bind(2) and listen(2); ENAMETOOLONG.
pub fn listen(path: &CStr) -> Result<Fd> {
    const BACKLOG: usize = 4;
    let socket = bound(path, SOCK_STREAM)?;
    // SAFETY: the call touches no memory of ours.
    check(unsafe { syscall(__NR_listen, [fd_argument(socket.as_raw_fd()), BACKLOG]) })?;
    Ok(socket)
}

/// A UNIX stream connected to `path`, non-blocking. Errors: of socket(2) and connect(2); EAGAIN where nobody takes it.
pub fn connect(path: &CStr) -> Result<Fd> {
    addressed(path, SOCK_STREAM, __NR_connect)
}

fn bound(path: &CStr, kind: u32) -> Result<Fd> {
    addressed(path, kind, __NR_bind)
}

/// A socket on which bind(2) or connect(2), which take the same arguments, was called with `path`.
fn addressed(path: &CStr, kind: u32, call: u32) -> Result<Fd> {
    let socket = socket(AF_UNIX, kind, 0)?;
    let mut address = UnixAddress { family: u16::try_from(AF_UNIX).unwrap_or(1), path: [0; 108] };
    if path.count_bytes() >= address.path.len() {
        return Err(Errno::NAMETOOLONG);
    }
    for (to, from) in address.path.iter_mut().zip(path.to_bytes()) {
        *to = *from;
    }
    let fd = fd_argument(socket.as_raw_fd());
    // SAFETY: `address` is a sockaddr_un of the size given and outlives the call.
    check(unsafe { syscall(call, [fd, (&raw const address).expose_provenance(), size_of::<UnixAddress>()]) })?;
    Ok(socket)
}

/// Takes one connection of a listening socket, close-on-exec and non-blocking, and the process that made it (unix(7),
/// SO_PEERCRED: the kernel's word, as of connect(2)). Errors: EAGAIN when there is none.
pub fn accept(listener: &Fd) -> Result<(Fd, u32)> {
    // SAFETY: no address is asked for; the call touches no memory of ours.
    let connection =
        Fd::from_answer(unsafe { syscall(__NR_accept4, [fd_argument(listener.as_raw_fd()), 0, 0, SAFELY as usize]) })?;
    let mut peer = ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = u32::try_from(size_of::<ucred>()).unwrap_or(0);
    let option = [
        fd_argument(connection.as_raw_fd()),
        SOL_SOCKET as usize,
        SO_PEERCRED as usize,
        (&raw mut peer).expose_provenance(),
        (&raw mut length).expose_provenance(),
    ];
    // SAFETY: `peer` is writable for `length` bytes, and both outlive the call.
    check(unsafe { syscall(__NR_getsockopt, option) })?;
    Ok((connection, peer.pid))
}

/// One control message with one descriptor (cmsg(3)).
#[repr(C)]
struct Rights {
    header: cmsghdr,
    descriptor: i32,
    padding: u32,
}
const_assert_eq!(size_of::<Rights>(), 24);

/// Sends all of `bytes` on a stream, with a descriptor where one is given. Errors: EPIPE; EAGAIN where they do not fit.
pub fn send(connection: &Fd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    // SAFETY: both structs are integers and pointers, for which zero is a value.
    let (mut rights, mut message): (Rights, msghdr) = unsafe { core::mem::zeroed() };
    let mut vector = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() as u64 };
    message.msg_iov = (&raw mut vector).cast();
    message.msg_iovlen = 1;
    if let Some(descriptor) = descriptor {
        rights.descriptor = descriptor.as_raw_fd();
        rights.header.cmsg_len = size_of::<Rights>() - size_of::<u32>();
        rights.header.cmsg_level = i32::try_from(SOL_SOCKET).unwrap_or(1);
        rights.header.cmsg_type = i32::try_from(SCM_RIGHTS).unwrap_or(1);
        message.msg_control = (&raw mut rights).cast();
        message.msg_controllen = size_of::<Rights>();
    }
    let flags = (MSG_DONTWAIT | MSG_NOSIGNAL) as usize;
    let arguments = [fd_argument(connection.as_raw_fd()), (&raw const message).expose_provenance(), flags];
    // SAFETY: `message` points to `bytes`, which are only read, and to `rights`, with their sizes; all outlive the call.
    let sent = check(unsafe { syscall(__NR_sendmsg, arguments) })?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::AGAIN) }
}

/// Room for one control message with credentials, and for no more: descriptors that come along find no room, and the
/// kernel closes them for us (net/core/scm.c), which may take as long as their last close does.
#[repr(C)]
struct Control {
    header: cmsghdr,
    credentials: ucred,
    padding: u32,
}
const_assert_eq!(size_of::<Control>(), 32);

/// Receives one datagram into `space`: its bytes, cut to what fits, and the process that sent it. Errors: EAGAIN.
pub fn receive<'a>(socket: &Fd, space: &'a mut [u8]) -> Result<(&'a [u8], Option<u32>)> {
    // SAFETY: both structs are integers and pointers, for which zero is a value.
    let (mut control, mut message): (Control, msghdr) = unsafe { core::mem::zeroed() };
    let mut vector = iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() as u64 };
    message.msg_iov = (&raw mut vector).cast();
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    let flags = MSG_CMSG_CLOEXEC | MSG_DONTWAIT;
    let arguments = [fd_argument(socket.as_raw_fd()), (&raw mut message).expose_provenance(), flags as usize];
    // SAFETY: `message` points to `space` and to `control` with their sizes, and all outlive the call.
    let got = check(unsafe { syscall(__NR_recvmsg, arguments) })?;
    let is_credentials = control.header.cmsg_level == i32::try_from(SOL_SOCKET).unwrap_or(1)
        && control.header.cmsg_type == i32::try_from(SCM_CREDENTIALS).unwrap_or(2);
    Ok((space.get(..got).unwrap_or(&[]), is_credentials.then_some(control.credentials.pid)))
}
