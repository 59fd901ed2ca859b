//! What is no message, or none of this part of D-Bus: the connection ends, with nothing answered and nothing taken.

use crate::messages::{Message, calls, signature_field, text_field};
use crate::{HANDSHAKE, INPUT_BYTES, Outcome, after_handshake, outcome};

/// Where a message has the length of its body, its serial and the length of its fields.
const BODY: usize = 4;
const SERIAL: usize = 8;
const FIELDS: usize = 12;

/// The call for the lock with `bytes` at `at`.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = calls()[2].bytes();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// The call for the lock with these fields beside its own, or in place of the last ones.
fn fields(keep: usize, more: &[Vec<u8>]) -> Vec<u8> {
    let plain = calls()[2].clone();
    Message { fields: [&plain.fields[..keep], more].concat(), ..plain }.bytes()
}

/// Where the call for the lock has `text`.
fn find(text: &str) -> usize {
    calls()[2].bytes().windows(text.len()).position(|window| window == text.as_bytes()).expect(text)
}

#[track_caller]
fn assert_closes(message: &[u8]) {
    let Outcome { said, closed, listens } = after_handshake(message);
    assert!(closed && said.is_empty() && !listens, "{said:?} to {message:?}");
}

/// The table's own proof: as it is, the message is answered.
#[test]
fn untouched_it_gets_the_lock() {
    assert_eq!(after_handshake(&with(0, b"l")).locks(), 1);
    assert_eq!(after_handshake(&fields(5, &[])).locks(), 1);
}

/// Byte order, kind, protocol and serial.
#[test]
fn a_header_that_no_client_writes_ends_the_connection() {
    for order in (0..=u8::MAX).filter(|order| *order != b'l') {
        assert_closes(&with(0, &[order]));
    }
    assert_closes(&with(1, &[0]));
    for protocol in (0..=u8::MAX).filter(|protocol| *protocol != 1) {
        assert_closes(&with(3, &[protocol]));
    }
    assert_closes(&with(SERIAL, &[0; 4]));
    // A whole message as a machine of the other byte order has it.
    let mut big = calls()[0].bytes();
    big[0] = b'B';
    for at in [BODY, SERIAL, FIELDS] {
        big[at..at + 4].reverse();
    }
    assert_closes(&big);
}

/// Lengths that no message in the input can have end the connection as soon as the header says so.
#[test]
fn lengths_beyond_the_input_end_the_connection() {
    let too_long = u32::try_from(INPUT_BYTES).unwrap();
    for length in [too_long, 1 << 16, 1 << 26, 1 << 27, (1 << 31) - 1, 1 << 31, u32::MAX - 16, u32::MAX - 7, u32::MAX] {
        for at in [BODY, FIELDS] {
            let message = with(at, &length.to_le_bytes());
            assert_closes(&message);
            assert_closes(&message[..16]);
        }
        let mut both = with(BODY, &length.to_le_bytes());
        both[FIELDS..FIELDS + 4].copy_from_slice(&length.to_le_bytes());
        assert_closes(&both[..16]);
    }
}

/// The header's fields are as long as it says, to the byte.
#[test]
fn fields_that_miss_their_end_end_the_connection() {
    let length = u32::from_le_bytes(calls()[2].bytes()[FIELDS..FIELDS + 4].try_into().unwrap());
    for wrong in (0..length + 64).filter(|wrong| *wrong != length) {
        let mut message = with(FIELDS, &wrong.to_le_bytes());
        // Whole in any case.
        message.resize(INPUT_BYTES, 0);
        let Outcome { said, closed, .. } = after_handshake(&message);
        // Shorter by whole fields it may still be a message, but not this call.
        let refused = said.len() == 1 && said[0] == after_handshake(&fields(0, &[])).said[0];
        assert!(said.is_empty() && closed || refused && wrong < length, "{wrong} of {length}: {said:?}");
    }
}

/// Strings within the message and their ends.
#[test]
fn strings_that_miss_their_end_end_the_connection() {
    for text in ["/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Inhibit", "shutdown", "delay"] {
        let at = find(text);
        let length = u32::try_from(text.len()).unwrap();
        for wrong in [400, 1 << 20, u32::MAX - 4, u32::MAX - 1, u32::MAX] {
            assert_closes(&with(at - 4, &wrong.to_le_bytes()));
        }
        // Where it still ends with a zero it is another text.
        for wrong in (0..length + 16).filter(|wrong| *wrong != length) {
            let outcome = after_handshake(&with(at - 4, &wrong.to_le_bytes()));
            assert!(outcome.locks() == 0 || text.starts_with('/'), "{text} with {wrong}: {outcome:?}");
        }
        assert_closes(&with(at + text.len(), b"x"));
    }
    let signature = find("ssss");
    for wrong in [5, 12, 254, 255] {
        assert_closes(&with(signature - 1, &[wrong]));
    }
    assert_closes(&with(signature + 4, b"s"));
}

/// A field has a type that the specification's fields have, and one only.
#[test]
fn fields_of_other_types_end_the_connection() {
    for kind in (0..=u8::MAX).filter(|kind| !b"sogu".contains(kind)) {
        assert_closes(&fields(5, &[vec![200, 1, kind, 0, 0, 0, 0, 0]]));
    }
    for signature in ["", "su", "uu", "as", "(u)"] {
        let length = u8::try_from(signature.len()).unwrap();
        assert_closes(&fields(5, &[[&[200, length], signature.as_bytes(), &[0; 9]].concat()]));
    }
}

/// A body has what its signature says.
#[test]
fn a_body_without_its_arguments_ends_the_connection() {
    let plain = calls()[2].clone();
    for length in 0..plain.body.len() {
        assert_closes(&Message { body: plain.body[..length].to_vec(), ..plain.clone() }.bytes());
    }
    let more = Message { fields: [&plain.fields[..4], &[signature_field("sssss")]].concat(), ..plain.clone() };
    assert_closes(&more.bytes());
    let longest = Message { fields: [&plain.fields[..4], &[signature_field(&"s".repeat(255))]].concat(), ..plain };
    assert_closes(&longest.bytes());
}

/// What was answered before stays answered; what comes after is not looked at.
#[test]
fn the_connection_ends_at_the_first_fault() {
    let [hello, _, inhibit, _] = calls().map(|call| call.bytes());
    let outcome = after_handshake(&[&hello[..], &with(3, &[2]), &inhibit].concat());
    assert_eq!((outcome.closed, outcome.said.len(), outcome.locks()), (true, 1, 0));
}

/// Every beginning of a conversation waits for the rest of it.
#[test]
fn what_is_short_waits() {
    let mut calls = calls().map(|call| call.bytes()).concat();
    calls.extend(fields(5, &[text_field(7, b's', ":1.1")]));
    let all = [HANDSHAKE, &calls].concat();
    let whole = outcome(&all);
    assert_eq!((whole.said.len(), whole.locks()), (9, 2));
    for length in 0..all.len() {
        let part = outcome(&all[..length]);
        assert!(!part.closed && part.said == whole.said[..part.said.len()], "{length}");
    }
}
