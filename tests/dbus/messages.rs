//! Calls as the peer may put them, and their answers.

use dbus::MessageType;
use dbus::arg::Variant;
use kios_init::run::dbus::{INPUT_BYTES, PREPARE_FOR_SHUTDOWN};

use crate::{Said, after_handshake, parsed, reply_serial};

/// Kinds of messages, and the codes of their header fields (D-Bus Specification, Message Format).
pub const CALL: u8 = 1;
pub const RETURN: u8 = 2;
pub const SIGNAL: u8 = 4;
pub const PATH: u8 = 1;
pub const INTERFACE: u8 = 2;
pub const MEMBER: u8 = 3;
pub const DESTINATION: u8 = 6;
pub const SENDER: u8 = 7;
pub const SIGNATURE: u8 = 8;

const MANAGER: &str = "org.freedesktop.login1.Manager";

/// A message before it is marshalled.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: u8,
    pub flags: u8,
    pub serial: u32,
    /// Each marshalled: code, type, value.
    pub fields: Vec<Vec<u8>>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn bytes(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for field in &self.fields {
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend(field);
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut bytes = vec![b'l', self.kind, self.flags, 1];
        bytes.extend([length(&self.body), self.serial.to_le_bytes(), length(&fields)].concat());
        bytes.extend(fields);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(&self.body);
        bytes
    }
}

/// A header field with a text: type s or o.
pub fn text_field(code: u8, kind: u8, text: &str) -> Vec<u8> {
    [&[code, 1, kind, 0][..], &text_value(text)].concat()
}

/// The field with the body's signature.
pub fn signature_field(signature: &str) -> Vec<u8> {
    let length = u8::try_from(signature.len()).unwrap();
    [&[SIGNATURE, 1, b'g', 0, length], signature.as_bytes(), &[0]].concat()
}

fn text_value(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes(), &[0]].concat()
}

/// A body of texts.
pub fn texts(values: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for value in values {
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(text_value(value));
    }
    body
}

/// A call with texts as arguments.
pub fn call(serial: u32, interface: &str, member: &str, arguments: &[&str]) -> Message {
    let mut fields = vec![
        text_field(PATH, b'o', "/org/freedesktop/login1"),
        text_field(DESTINATION, b's', "org.freedesktop.login1"),
        text_field(INTERFACE, b's', interface),
        text_field(MEMBER, b's', member),
    ];
    if !arguments.is_empty() {
        fields.push(signature_field(&"s".repeat(arguments.len())));
    }
    Message { kind: CALL, flags: 0, serial, fields, body: texts(arguments) }
}

/// kubelet's four calls (contract.md §2), in its order.
pub fn calls() -> [Message; 4] {
    let bus = "org.freedesktop.DBus";
    let why = "Kubelet needs time to handle node shutdown";
    [
        call(1, bus, "Hello", &[]),
        call(2, "org.freedesktop.DBus.Properties", "Get", &[MANAGER, "InhibitDelayMaxUSec"]),
        call(3, MANAGER, "Inhibit", &["shutdown", "kubelet", why, "delay"]),
        call(4, bus, "AddMatch", &["type='signal',interface='org.freedesktop.login1.Manager'"]),
    ]
}

/// All orders of `items`.
fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![vec![]];
    }
    let without = |at: usize| [&items[..at], &items[at + 1..]].concat();
    let begun =
        |at: usize| permutations(&without(at)).into_iter().map(move |rest| [vec![items[at].clone()], rest].concat());
    (0..items.len()).flat_map(begun).collect()
}

/// Contract §2: each call has its answer, with the call's serial; and libdbus reads in it what kubelet needs.
#[test]
fn libdbus_reads_every_answer() {
    let serials = [1, 2, 77, u32::MAX];
    for serial in serials {
        let [hello, get, inhibit, listen] = calls().map(|call| Message { serial, ..call }.bytes());
        let [hello, get, listen] = [hello, get, listen].map(|call| {
            let outcome = after_handshake(&call);
            assert!(!outcome.closed && outcome.locks() == 0 && outcome.said.len() == 1, "{outcome:?}");
            let reply = parsed(outcome.answers()[0]);
            assert_eq!((reply.msg_type(), reply.get_reply_serial()), (MessageType::MethodReturn, Some(serial)));
            assert!(reply.get_no_reply() && reply.get_serial() != Some(0));
            reply
        });
        assert_eq!(hello.read1::<&str>().unwrap(), ":1.1");
        assert_eq!(get.read1::<Variant<u64>>().unwrap().0, 3_600_000_000);
        assert_eq!(listen.iter_init().count(), 0);
        // That libdbus reads the one with the lock takes a descriptor: libdbus.rs.
        let outcome = after_handshake(&inhibit);
        assert!(matches!(&outcome.said[..], [Said::Lock(reply)] if reply_serial(reply) == serial), "{outcome:?}");
    }
}

/// Contract §2: the signal is the one that kubelet waits for, and says true.
#[test]
fn libdbus_reads_the_signal() {
    let signal = parsed(PREPARE_FOR_SHUTDOWN);
    assert_eq!(signal.msg_type(), MessageType::Signal);
    assert_eq!(signal.path().as_deref(), Some("/org/freedesktop/login1"));
    assert_eq!(signal.interface().as_deref(), Some(MANAGER));
    assert_eq!(signal.member().as_deref(), Some("PrepareForShutdown"));
    assert!(signal.read1::<bool>().unwrap());
    assert_eq!(signal.iter_init().count(), 1);
}

/// Contract §2: kubelet's library puts the header's fields in any order; some may be there that nobody knows.
#[test]
fn fields_come_in_any_order() {
    let mut orders = 0;
    for plain in calls() {
        let outcome = after_handshake(&plain.bytes());
        let more = [text_field(SENDER, b's', ":1.1"), vec![200, 1, b'u', 0, 1, 2, 3, 4]];
        for fields in permutations(&[&plain.fields[1..], &more].concat()) {
            // The first goes to each place in turn.
            let at = orders % (fields.len() + 1);
            let fields = [&fields[..at], &plain.fields[..1], &fields[at..]].concat();
            let message = Message { fields, ..plain.clone() };
            assert_eq!(after_handshake(&message.bytes()), outcome, "{message:?}");
            orders += 1;
        }
    }
    println!("{orders} orders of fields");
}

/// What is asked for and is not there is refused, and the connection goes on.
#[test]
fn unknown_calls_are_answered_with_an_error() {
    let properties = "org.freedesktop.DBus.Properties";
    let inhibit = |what, mode| call(9, MANAGER, "Inhibit", &[what, "kubelet", "why", mode]);
    let mut nameless = calls()[0].clone();
    nameless.fields.retain(|field| field[0] != INTERFACE);
    let unknown = [
        call(9, "org.freedesktop.DBus", "hello", &[]),
        call(9, "org.freedesktop.DBus", "Hello2", &[]),
        call(9, MANAGER, "Hello", &[]),
        call(9, "org.freedesktop.systemd1.Manager", "KillUnit", &["systemd-logind.service", "all"]),
        call(9, MANAGER, "PowerOff", &[]),
        call(9, properties, "Get", &[MANAGER, "InhibitDelayMaxUSec2"]),
        call(9, properties, "Get", &[MANAGER]),
        call(9, properties, "Get", &[]),
        call(9, properties, "Set", &[MANAGER, "InhibitDelayMaxUSec"]),
        inhibit("sleep", "delay"),
        inhibit("shutdown:sleep", "delay"),
        inhibit("shutdown", "block"),
        call(9, MANAGER, "Inhibit", &[]),
        Message { serial: 9, ..nameless },
        Message { kind: CALL, flags: 0, serial: 9, fields: vec![], body: vec![] },
    ];
    for call in unknown {
        let outcome = after_handshake(&[call.bytes(), calls()[0].bytes()].concat());
        assert_eq!((outcome.closed, outcome.locks(), outcome.said.len()), (false, 0, 2), "{call:?}");
        let mut refused = parsed(outcome.answers()[0]);
        assert_eq!((refused.msg_type(), refused.get_reply_serial()), (MessageType::Error, Some(9)));
        let error = refused.as_result().expect_err("an error");
        assert_eq!(error.name(), Some("org.freedesktop.DBus.Error.UnknownMethod"));
        assert_eq!(parsed(outcome.answers()[1]).get_reply_serial(), Some(1), "the call after it");
    }
}

/// As the specification wants it: kinds of messages that nobody knows are ignored; so is what a client of a bus may send
/// but nobody asked it for.
#[test]
fn other_kinds_of_messages_are_ignored() {
    for plain in calls() {
        for kind in RETURN..=u8::MAX {
            let ignored = Message { kind, ..plain.clone() }.bytes();
            let outcome = after_handshake(&[ignored, calls()[0].bytes()].concat());
            assert!(!outcome.closed && !outcome.listens && outcome.said.len() == 1, "{kind}: {outcome:?}");
            assert_eq!(reply_serial(outcome.answers()[0]), 1);
        }
    }
    let reply = [text_field(4, b's', "org.example.Error"), vec![5, 1, b'u', 0, 7, 0, 0, 0]].to_vec();
    let signal = [&calls()[0].fields[..], &[signature_field("a{sv}as(ii)vs")]].concat();
    for (kind, fields) in [(RETURN, reply.clone()), (3, reply), (SIGNAL, signal)] {
        let outcome = after_handshake(&Message { kind, flags: 0, serial: 5, fields, body: vec![0; 40] }.bytes());
        assert!(!outcome.closed && outcome.said.is_empty(), "{outcome:?}");
    }
}

/// Whoever wants no reply gets none, and no lock either, since that is part of one; but what it asked for is done. All
/// other flags mean nothing.
#[test]
fn no_reply_is_sent_where_none_is_expected() {
    for (at, plain) in calls().into_iter().enumerate() {
        for flags in 0..=u8::MAX {
            let outcome = after_handshake(&Message { flags, ..plain.clone() }.bytes());
            assert!(!outcome.closed);
            assert_eq!(outcome.said.len(), usize::from(flags & 1 == 0), "flags {flags}: {outcome:?}");
            assert_eq!(outcome.listens, at == 3, "flags {flags}");
        }
    }
    let unknown = Message { flags: 1, ..call(9, MANAGER, "PowerOff", &[]) };
    assert!(after_handshake(&unknown.bytes()).said.is_empty());
}

/// The longest message that is taken is as long as the input.
#[test]
fn a_message_may_fill_the_input() {
    let hello = calls()[0].clone();
    let rest = INPUT_BYTES - hello.bytes().len();
    for (body, closed) in [(rest - 1, false), (rest, false), (rest + 1, true)] {
        let long = Message { body: vec![b'x'; body], ..hello.clone() }.bytes();
        let outcome = after_handshake(&[&long[..], &hello.bytes()].concat());
        assert_eq!((outcome.closed, outcome.said.len()), (closed, if closed { 0 } else { 2 }), "{body}");
        // What is too long is so by its header alone.
        assert_eq!(after_handshake(&long[..16]).closed, closed, "{body}");
    }
}
