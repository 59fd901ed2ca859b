//! Whatever bytes come: no panic, an end, and the same answers in whatever pieces.

use kios_init::run::dbus::INPUT_BYTES;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::messages::{Message, calls, signature_field, text_field, texts};
use crate::{HANDSHAKE, LET_IN, captures, reply_serial, talk};

/// Lengths of the pieces that bytes come in.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![Just(1), 1usize..40, 1usize..1_500], 0..60)
}

/// A change of some bytes: where, in thousandths of the whole, what becomes of what is there, and with what.
#[derive(Clone, Debug)]
enum Change {
    Put(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0usize..1_000;
    let some = || {
        let number = prop_oneof![0u32..300, any::<u32>(), Just(u32::MAX), Just(u32::MAX - 7)];
        prop_oneof![vec(any::<u8>(), 1..6), number.prop_map(|number| number.to_le_bytes().to_vec())]
    };
    prop_oneof![
        (at(), some()).prop_map(|(at, bytes)| Change::Put(at, bytes)),
        (at(), some()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1usize..20).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1usize..600).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        let (Change::Put(at, _) | Change::Insert(at, _) | Change::Remove(at, _) | Change::Repeat(at, _)) = self;
        let at = bytes.len() * at / 1_000;
        match self {
            Change::Put(_, put) => {
                let end = (at + put.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&put[..end - at]);
            }
            Change::Insert(_, more) => drop(bytes.splice(at..at, more.iter().copied())),
            Change::Remove(_, count) => drop(bytes.drain(at..(at + count).min(bytes.len()))),
            Change::Repeat(_, count) => {
                let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
}

/// A message that is well-formed, and whether it is a call that wants a reply.
fn message() -> impl Strategy<Value = (Message, bool)> {
    let text =
        || prop_oneof!["[a-zA-Z./]{0,40}", Just(String::from("org.freedesktop.DBus")), Just(String::from("Hello"))];
    let field = (10u8..=255, prop_oneof![Just(b's'), Just(b'o')], text());
    let serial = 1u32..=u32::MAX;
    (1u8..6, any::<u8>(), serial, vec(field, 0..4), text(), text(), vec(text(), 0..5)).prop_map(
        |(kind, flags, serial, others, interface, member, arguments)| {
            let mut fields: Vec<_> = others.iter().map(|(code, kind, text)| text_field(*code, *kind, text)).collect();
            fields.push(text_field(2, b's', &interface));
            fields.insert(0, text_field(3, b's', &member));
            fields.push(signature_field(&"s".repeat(arguments.len())));
            let body = texts(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            (Message { kind, flags, serial, fields, body }, kind == 1 && flags & 1 == 0)
        },
    )
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..3_000), pieces in pieces()) {
        prop_assert_eq!(talk(&bytes, &pieces), talk(&bytes, &[]));
    }

    /// Of what handshakes are made of.
    #[test]
    fn any_lines(
        words in vec(prop_oneof!["AUTH", "EXTERNAL", " ", "30", "DATA", "BEGIN", "\r\n", "\n", "NEGOTIATE_UNIX_FD", "[ -~]"], 0..80),
        pieces in pieces(),
    ) {
        let bytes = format!("\0{}", words.concat()).into_bytes();
        let outcome = talk(&bytes, &pieces);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        prop_assert!(outcome.said.len() <= lines && outcome.locks() == 0);
        prop_assert_eq!(outcome, talk(&bytes, &[]));
    }

    #[test]
    fn any_bytes_once_it_is_in(bytes in vec(any::<u8>(), 0..3_000), pieces in pieces()) {
        let bytes = [HANDSHAKE, &bytes].concat();
        prop_assert_eq!(talk(&bytes, &pieces), talk(&bytes, &[]));
    }

    /// As above, past the header's first bytes, with lengths that fit.
    #[test]
    fn any_fields_and_body(bytes in vec(any::<u8>(), 0..INPUT_BYTES - 16), fields in 0usize..900, pieces in pieces()) {
        let fields = fields.min(bytes.len()) / 8 * 8;
        let [body, fields] = [bytes.len() - fields, fields].map(|length| u32::try_from(length).unwrap().to_le_bytes());
        let bytes = [HANDSHAKE, b"l\x01\0\x01", &body, &[7, 0, 0, 0], &fields, &bytes].concat();
        let outcome = talk(&bytes, &pieces);
        prop_assert!(outcome.closed || outcome.said.len() == LET_IN.len() + 1, "{:?}", outcome);
        prop_assert_eq!(outcome, talk(&bytes, &[]));
    }

    /// Recordings, and a conversation made here, with some bytes changed.
    #[test]
    fn almost_a_conversation(changes in vec(change(), 1..6), pieces in pieces()) {
        let own = [HANDSHAKE, &calls().map(|call| call.bytes()).concat()].concat();
        for mut bytes in captures::all().into_iter().chain([own]) {
            changes.iter().for_each(|change| change.make(&mut bytes));
            prop_assert_eq!(talk(&bytes, &pieces), talk(&bytes, &[]));
        }
    }

    /// Well-formed messages are taken one by one, and each call is answered once, in order.
    #[test]
    fn well_formed_messages_go_on(messages in vec(message(), 0..12), pieces in pieces()) {
        let bytes: Vec<_> = messages.iter().flat_map(|(message, _)| message.bytes()).collect();
        let outcome = talk(&[HANDSHAKE, &bytes].concat(), &pieces);
        prop_assert!(!outcome.closed);
        let wanted: Vec<_> = messages.iter().filter(|(_, answered)| *answered).map(|(message, _)| message.serial).collect();
        let serials: Vec<_> = outcome.answers()[LET_IN.len()..].iter().map(|answer| reply_serial(answer)).collect();
        prop_assert_eq!(serials, wanted);
    }
}
