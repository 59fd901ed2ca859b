//! The lines before the first message (D-Bus Specification, Authentication Protocol).

use crate::messages::calls;
use crate::{HANDSHAKE, INPUT_BYTES, LET_IN, outcome};

const OK: &str = LET_IN[2];
const REJECTED: &str = "REJECTED EXTERNAL\r\n";

/// The answers to lines that are said after the first byte, and whether the connection is closed by them.
fn answers(lines: &str) -> (Vec<String>, bool) {
    let outcome = outcome(&[b"\0", lines.as_bytes()].concat());
    (outcome.answers().into_iter().map(|answer| String::from_utf8(answer.to_vec()).unwrap()).collect(), outcome.closed)
}

/// Contract §2: who says so is let in; each line is answered at once, and but for what it asks nothing is sent.
#[test]
fn each_line_has_its_answer() {
    let cases: &[(&str, &[&str], bool)] = &[
        ("AUTH EXTERNAL 30\r\n", &[OK], false),
        ("AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", &[OK, "AGREE_UNIX_FD\r\n"], false),
        ("AUTH EXTERNAL 30\r\nBEGIN\r\n", &[OK], false),
        ("AUTH EXTERNAL\r\nDATA\r\n", &["DATA\r\n", OK], false),
        ("AUTH EXTERNAL\r\nDATA 30\r\n", &["DATA\r\n", OK], false),
        ("AUTH\r\n", &[REJECTED], false),
        ("AUTH\r\nAUTH EXTERNAL 30\r\n", &[REJECTED, OK], false),
        ("AUTH ANONYMOUS\r\n", &[REJECTED], false),
        ("AUTH DBUS_COOKIE_SHA1 726f6f74\r\nAUTH EXTERNAL 30\r\n", &[REJECTED, OK], false),
        // 1000, and root in another writing.
        ("AUTH EXTERNAL 31303030\r\n", &[REJECTED], false),
        ("AUTH EXTERNAL 3030\r\n", &[REJECTED], false),
        ("AUTH EXTERNAL 30x\n", &[REJECTED], false),
        ("AUTH EXTERNAL\r\nDATA 31303030\r\nBEGIN\r\n", &["DATA\r\n", "ERROR\r\n"], true),
        // Out of turn.
        ("NEGOTIATE_UNIX_FD\r\n", &["ERROR\r\n"], false),
        ("BEGIN\r\n", &[], true),
        ("AUTH EXTERNAL\r\nBEGIN\r\n", &["DATA\r\n"], true),
        ("AUTH ANONYMOUS\r\nBEGIN\r\n", &[REJECTED], true),
        ("AUTH EXTERNAL 30\r\nAUTH ANONYMOUS\r\nBEGIN\r\n", &[OK, REJECTED], true),
        ("AUTH EXTERNAL 30\r\nBEGIN now\r\n", &[OK], true),
        // Not understood.
        ("\r\n", &["ERROR\r\n"], false),
        ("auth external 30\r\n", &["ERROR\r\n"], false),
        ("ERROR \"what\"\r\nAUTH EXTERNAL 30\r\n", &["ERROR\r\n", OK], false),
        ("AUTH EXTERNAL 30\r\nCONFUSE\r\nNEGOTIATE_UNIX_FD\r\n", &[OK, "ERROR\r\n", "AGREE_UNIX_FD\r\n"], false),
    ];
    for (lines, wanted, closed) in cases {
        let (said, ended) = answers(lines);
        assert_eq!(
            (said.iter().map(String::as_str).collect::<Vec<_>>(), ended),
            (wanted.to_vec(), *closed),
            "{lines:?}"
        );
    }
}

/// The first byte is zero.
#[test]
fn a_connection_begins_with_a_zero() {
    for first in 1..=u8::MAX {
        let outcome = outcome(&[&[first], &HANDSHAKE[1..]].concat());
        assert!(outcome.closed && outcome.said.is_empty(), "{first}");
    }
    assert!(!outcome(b"\0").closed);
}

/// A line has an end, or the connection has: once the input is full of one.
#[test]
fn a_line_without_an_end_ends_the_connection() {
    for start in [&b"\0"[..], b"\0AUTH EXTERNAL 30\r\n"] {
        let line = |length: usize, end: &[u8]| outcome(&[start, &vec![b'x'; length], end].concat());
        assert!(!line(INPUT_BYTES - 1, b"").closed);
        assert!(line(INPUT_BYTES, b"").closed);
        assert!(line(INPUT_BYTES, b"\r\n").closed);
        let longest = line(INPUT_BYTES - 2, b"\r\n");
        assert!(!longest.closed && longest.answers().last() == Some(&&b"ERROR\r\n"[..]), "{longest:?}");
    }
}

/// Nothing is taken for a message before BEGIN, nor for a line behind it.
#[test]
fn messages_come_after_the_lines() {
    let hello = calls()[0].bytes();
    assert_eq!(outcome(&[HANDSHAKE, &hello].concat()).said.len(), LET_IN.len() + 1);
    assert!(outcome(&[HANDSHAKE, b"AUTH EXTERNAL 30\r\n"].concat()).closed);
    let early = outcome(&[b"\0AUTH EXTERNAL 30\r\n", &hello[..], b"\r\n"].concat());
    assert_eq!(early.answers(), [OK.as_bytes(), b"ERROR\r\n"]);
}
