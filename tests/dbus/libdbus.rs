//! libdbus as the client, over a socket that is served as init serves its own.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbus::arg::Variant;
use dbus::channel::Channel;
use dbus::{Message, MessageType};
use kios_init::run::dbus::{Next, PREPARE_FOR_SHUTDOWN, Peer};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

const MANAGER: &str = "org.freedesktop.login1.Manager";
/// The longest that a call may take.
const SOON: Duration = Duration::from_secs(20);

/// A served socket, of one connection.
struct Bus {
    path: PathBuf,
    server: Option<JoinHandle<()>>,
    /// Our end of each lock.
    locks: Receiver<OwnedFd>,
    /// What is sent beside answers, once the peer listens.
    connection: Receiver<UnixStream>,
}

impl Bus {
    fn new(name: &str) -> Bus {
        assert!(nix::unistd::geteuid().is_root(), "the peer is root: run this test as root");
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bus-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("listen");
        let ((lock, locks), (listening, connection)) = (channel(), channel());
        let serve = move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut peer = Peer::new();
            loop {
                let count = stream.read(peer.room()).expect("read");
                if count == 0 {
                    break;
                }
                peer.received(count);
                loop {
                    match peer.proceed() {
                        Next::Wait => break,
                        Next::Close => return,
                        Next::Send => stream.write_all(peer.answer()).expect("answer"),
                        Next::SendLock => lock.send(send_lock(&stream, peer.answer())).expect("keep the lock"),
                    }
                }
                if peer.listens() {
                    let _ = listening.send(stream.try_clone().expect("clone"));
                }
            }
        };
        Bus { path, server: Some(std::thread::spawn(serve)), locks, connection }
    }

    fn client(&self) -> Channel {
        let mut client = Channel::open_private(&format!("unix:path={}", self.path.display())).expect("connect");
        client.register().expect("Hello");
        client
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let served = self.server.take().map(JoinHandle::join);
        assert!(matches!(served, Some(Ok(()))) || std::thread::panicking());
    }
}

/// Sends an answer with one end of a pipe; the other.
fn send_lock(stream: &UnixStream, answer: &[u8]) -> OwnedFd {
    let (ours, theirs) = nix::unistd::pipe().expect("pipe");
    let rights = [theirs.as_raw_fd()];
    let with = [ControlMessage::ScmRights(&rights)];
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(answer)], &with, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(answer.len()));
    ours
}

fn call(client: &Channel, interface: &str, member: &str, arguments: &[&str]) -> Result<Message, dbus::Error> {
    let (name, path) = match interface {
        "org.freedesktop.DBus" => ("org.freedesktop.DBus", "/org/freedesktop/DBus"),
        _ => ("org.freedesktop.login1", "/org/freedesktop/login1"),
    };
    let mut call = Message::new_method_call(name, path, interface, member).unwrap();
    arguments.iter().for_each(|argument| call.append_all((*argument,)));
    client.send_with_reply_and_block(call, SOON)
}

fn inhibit(client: &Channel) -> OwnedFd {
    let reply = call(client, MANAGER, "Inhibit", &["shutdown", "kubelet", "why", "delay"]).expect("Inhibit");
    reply.read1::<OwnedFd>().expect("a descriptor")
}

/// Whether the lock is still held.
fn is_held(ours: &OwnedFd) -> bool {
    use std::os::fd::AsFd;
    let mut waiting = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, 0u16).expect("poll") == 0
}

/// Contract §2, the whole of it: name, delay, lock, match, signal.
#[test]
fn libdbus_goes_the_whole_way() {
    let bus = Bus::new("whole");
    let client = bus.client();
    assert_eq!(client.unique_name(), Some(":1.1"));
    let properties = "org.freedesktop.DBus.Properties";
    let delay = call(&client, properties, "Get", &[MANAGER, "InhibitDelayMaxUSec"]).expect("Get");
    assert_eq!(delay.read1::<Variant<u64>>().unwrap().0, 3_600_000_000);

    let lock = inhibit(&client);
    let ours = bus.locks.recv_timeout(SOON).expect("our end");
    assert!(is_held(&ours));
    let flags = FdFlag::from_bits_retain(fcntl(&lock, FcntlArg::F_GETFD).expect("F_GETFD"));
    assert!(flags.contains(FdFlag::FD_CLOEXEC), "no child of the client has it");

    let rule = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'";
    let done = call(&client, "org.freedesktop.DBus", "AddMatch", &[rule]).expect("AddMatch");
    assert_eq!(done.iter_init().count(), 0);
    let mut connection = bus.connection.recv_timeout(SOON).expect("it listens");
    connection.write_all(PREPARE_FOR_SHUTDOWN).expect("signal");
    let signal = wait_for_message(&client);
    assert_eq!(signal.msg_type(), MessageType::Signal);
    assert_eq!(signal.path().as_deref(), Some("/org/freedesktop/login1"));
    assert_eq!(signal.interface().as_deref(), Some(MANAGER));
    assert_eq!(signal.member().as_deref(), Some("PrepareForShutdown"));
    assert!(signal.read1::<bool>().unwrap());

    assert!(is_held(&ours));
    drop(lock);
    assert!(!is_held(&ours));
    assert_eq!(nix::unistd::read(&ours, &mut [0]), Ok(0), "its end, and nothing else");
}

/// Locks are held apart from each other, and from the connection.
#[test]
fn a_lock_outlives_the_next_one_and_the_connection() {
    let bus = Bus::new("locks");
    let client = bus.client();
    let [first, second] = [(); 2].map(|()| (inhibit(&client), bus.locks.recv_timeout(SOON).expect("our end")));
    drop(client);
    assert!(is_held(&first.1) && is_held(&second.1));
    drop(first.0);
    assert!(!is_held(&first.1) && is_held(&second.1));
    drop(second.0);
    assert!(!is_held(&second.1));
}

/// What is not there is refused by the error that says so, and the connection goes on.
#[test]
fn libdbus_is_refused_what_is_not_there() {
    let bus = Bus::new("refused");
    let client = bus.client();
    for (interface, member) in [
        (MANAGER, "PowerOff"),
        (MANAGER, "ListSessions"),
        ("org.freedesktop.DBus", "RequestName"),
        ("org.freedesktop.DBus.Introspectable", "Introspect"),
        ("org.freedesktop.DBus.Peer", "Ping"),
    ] {
        let error = call(&client, interface, member, &["x"]).expect_err(member);
        assert_eq!(error.name(), Some("org.freedesktop.DBus.Error.UnknownMethod"), "{member}");
    }
    inhibit(&client);
}

fn wait_for_message(client: &Channel) -> Message {
    let end = Instant::now() + SOON;
    loop {
        if let Some(message) = client.blocking_pop_message(SOON).expect("connection") {
            return message;
        }
        assert!(Instant::now() < end, "no message");
    }
}
