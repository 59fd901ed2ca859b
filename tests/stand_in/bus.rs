//! What the stand-in does on kubelet's bus: as kubelet, by libdbus, and as nobody should.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dbus::Message;
use dbus::arg::Variant;
use dbus::channel::Channel;

use super::{in_child, leave_behind};

const MANAGER: &str = "org.freedesktop.login1.Manager";
const HANDSHAKE: &[u8] = b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
/// Longer than any test lives.
const LONG: Duration = Duration::from_secs(300);

/// What is held on the bus.
#[derive(Default)]
pub struct Bus {
    connection: Option<Channel>,
    lock: Option<OwnedFd>,
    others: Vec<UnixStream>,
}

impl Bus {
    /// Carries out a command; false where it is none of the bus's.
    pub fn act(&mut self, command: &str) -> bool {
        match command {
            // All that kubelet does when it starts, and again when it lost the connection (contract.md §2).
            "inhibit" => ["hello", "take", "listen"].iter().for_each(|command| assert!(self.act(command))),
            "hello" => {
                self.connection = None;
                let mut connection = Channel::open_private(&address()).expect("connect to bus");
                connection.register().expect("Hello");
                self.connection = Some(connection);
            }
            "take" => self.take(),
            "listen" => drop(self.call("org.freedesktop.DBus", "AddMatch", &["type='signal'"])),
            "hang-up" => self.connection = None,
            "release" => assert!(self.lock.take().is_some(), "no lock to release"),
            "told" => self.told(),
            "untold" => assert!(self.next(Duration::ZERO).is_none(), "something was said"),
            "mute" => self.others.push(connect()),
            "half" => {
                let mut stream = let_in();
                stream.write_all(&hello()[..40]).expect("half a message");
                self.others.push(stream);
            }
            "garbage" => closed_after(connect(), &[[0xff, b'\n', 0, b'l'].repeat(2_000)]),
            "endless-line" => closed_after(connect(), &[b"\0".to_vec(), vec![b'x'; 5_000]]),
            "oversized" => closed_after(let_in(), &[b"l\x01\0\x01\0\0\0\x04\x01\0\0\0\0\0\0\0".to_vec()]),
            "other-order" => closed_after(let_in(), &[b"B\x01\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0".to_vec()]),
            "deaf" => closed_after(let_in(), &vec![hello(); 100_000]),
            "stranger" => in_child(|| assert_turned_away(b"\0AUTH EXTERNAL 30\r\n")),
            "stray" => assert_turned_away(HANDSHAKE),
            "flood" => in_child(|| (0..1_000).for_each(|_| assert_turned_away(b""))),
            "flooder" => leave_behind(|| assert_turned_away(HANDSHAKE)),
            _ => return false,
        }
        true
    }

    fn take(&mut self) {
        let delay = self.call("org.freedesktop.DBus.Properties", "Get", &[MANAGER, "InhibitDelayMaxUSec"]);
        assert!(delay.read1::<Variant<u64>>().expect("delay").0 >= 60_000_000);
        let reply = self.call(MANAGER, "Inhibit", &["shutdown", "kubelet", "why", "delay"]);
        // The one before goes once there is another.
        self.lock = Some(reply.read1().expect("lock"));
    }

    fn call(&self, interface: &str, member: &str, arguments: &[&str]) -> Message {
        let path =
            if interface == "org.freedesktop.DBus" { "/org/freedesktop/DBus" } else { "/org/freedesktop/login1" };
        let name = path[1..].replace('/', ".");
        let mut call = Message::new_method_call(name, path, interface, member).expect("call");
        arguments.iter().for_each(|argument| call.append_all((*argument,)));
        self.connection.as_ref().expect("hello first").send_with_reply_and_block(call, LONG).expect(member)
    }

    fn next(&self, limit: Duration) -> Option<Message> {
        self.connection.as_ref().expect("hello first").blocking_pop_message(limit).expect("connection")
    }

    /// Waits for the signal that the machine is about to stop.
    fn told(&self) {
        let signal = self.next(LONG).expect("in time");
        assert_eq!(signal.path().as_deref(), Some("/org/freedesktop/login1"));
        assert_eq!(signal.interface().as_deref(), Some(MANAGER));
        assert_eq!(signal.member().as_deref(), Some("PrepareForShutdown"));
        assert!(signal.read1::<bool>().expect("a truth value"));
    }
}

fn address() -> String {
    std::env::var("DBUS_SYSTEM_BUS_ADDRESS").expect("DBUS_SYSTEM_BUS_ADDRESS")
}

fn connect() -> UnixStream {
    UnixStream::connect(address().strip_prefix("unix:path=").expect("a path")).expect("connect to bus")
}

/// A connection past the handshake.
fn let_in() -> UnixStream {
    let mut stream = connect();
    stream.write_all(HANDSHAKE).expect("handshake");
    let mut answers = Vec::new();
    while answers.iter().filter(|byte| **byte == b'\n').count() < 2 {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("answer");
        answers.extend(byte);
    }
    assert!(answers.starts_with(b"OK ") && answers.ends_with(b"AGREE_UNIX_FD\r\n"));
    stream
}

/// A call of Hello.
fn hello() -> Vec<u8> {
    let fields = b"\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x03\x01s\0\x05\0\0\0Hello\0\0\0";
    [&b"l\x01\0\x01\0\0\0\0\x01\0\0\0"[..], &[u8::try_from(fields.len() - 2).expect("short")], &[0; 3], fields].concat()
}

/// Says all that, or as much as is taken; then the connection ends.
fn closed_after(mut stream: UnixStream, parts: &[Vec<u8>]) {
    let said = parts.iter().try_for_each(|part| stream.write_all(part));
    let gone = |error: &std::io::Error| [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind());
    assert!(said.is_ok() || said.is_err_and(|error| gone(&error)));
    let ended = stream.read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|error| gone(&error)));
}

/// Connects where it must not: whatever it says, it hears nothing.
fn assert_turned_away(words: &[u8]) {
    let mut stream = connect();
    // It may be closed already.
    let _ = stream.write_all(words);
    let mut heard = Vec::new();
    // ECONNRESET where the words were not read.
    let _ = stream.read_to_end(&mut heard);
    assert!(heard.is_empty(), "heard {heard:?}");
}
