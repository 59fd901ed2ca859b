//! kubelet's bus: whole, and in whatever pieces, bytes come to what a second reading of the specification says.
#![no_main]

#[path = "../../dbus/conversation.rs"]
mod conversation;

use conversation::{Said, talk};
use kios_init::run::dbus::INPUT_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = talk(bytes, &[]);
    // The pieces are as long as the bytes from behind say.
    let lengths: Vec<_> = bytes.iter().rev().map(|byte| usize::from(*byte)).collect();
    assert_eq!(talk(bytes, &lengths), whole);
    let mut wanted = Wanted::default();
    let closed = wanted.connection(bytes).is_none();
    let said: Vec<_> = whole.said.iter().map(gist).collect();
    assert_eq!((said, whole.closed, whole.listens), (wanted.said, closed, wanted.listens));
});

const LET_IN: &str = "OK 6b696f736b696f736b696f736b696f73\r\n";
const BUS: &[u8] = b"org.freedesktop.DBus";
const MANAGER: &[u8] = b"org.freedesktop.login1.Manager";

/// An answer without what is constant: whether the lock goes with it, its length, its line or the serial of its call.
type Gist = (bool, usize, String);

fn gist(said: &Said) -> Gist {
    let (Said::Answer(bytes) | Said::Lock(bytes)) = said;
    let own = if bytes.starts_with(b"l") { &bytes[20..24] } else { &bytes[..] };
    (matches!(said, Said::Lock(_)), bytes.len(), own.escape_ascii().to_string())
}

/// What is to come of a connection.
#[derive(Default)]
struct Wanted {
    said: Vec<Gist>,
    listens: bool,
}

impl Wanted {
    /// All that is said. None where the connection is to be closed.
    fn connection(&mut self, bytes: &[u8]) -> Option<()> {
        let Some((0, mut rest)) = bytes.split_first() else { return bytes.is_empty().then_some(()) };
        let mut is_in = false;
        loop {
            let Some(end) = rest.iter().take(INPUT_BYTES).position(|byte| *byte == b'\n') else {
                return (rest.len() < INPUT_BYTES).then_some(());
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            let (after, answer) = match line {
                b"BEGIN" if is_in => break,
                [b'B', b'E', b'G', b'I', b'N', ..] => return None,
                b"NEGOTIATE_UNIX_FD" if is_in => (true, "AGREE_UNIX_FD\r\n"),
                b"AUTH EXTERNAL" if !is_in => (false, "DATA\r\n"),
                b"AUTH EXTERNAL 30" | b"DATA" | b"DATA 30" if !is_in => (true, LET_IN),
                [b'A', b'U', b'T', b'H', ..] => (false, "REJECTED EXTERNAL\r\n"),
                _ => (is_in, "ERROR\r\n"),
            };
            is_in = after;
            self.said.push((false, answer.len(), answer.as_bytes().escape_ascii().to_string()));
        }
        while let Some(header) = rest.first_chunk::<16>() {
            let [body, serial, fields] = [4, 8, 12].map(|at| number(header, at).unwrap_or(0));
            let length = 16 + fields.next_multiple_of(8) + body;
            if header[0] != b'l' || header[1] == 0 || header[3] != 1 || serial == 0 || length > INPUT_BYTES {
                return None;
            }
            let Some((message, more)) = rest.split_at_checked(length) else { break };
            self.message(message, 16 + fields)?;
            rest = more;
        }
        Some(())
    }

    /// A whole message, whose fields end there.
    fn message(&mut self, message: &[u8], end: usize) -> Option<()> {
        let (mut at, mut known) = (16, [&b""[..]; 9]);
        while at < end {
            at = at.next_multiple_of(8);
            let code = usize::from(*message.get(at)?);
            let (kind, start) = value(message, at + 1, b'g')?;
            let &[kind @ (b's' | b'o' | b'g' | b'u')] = kind else { return None };
            let (field, next) = value(message, start, kind)?;
            if let Some(known) = known.get_mut(code) {
                *known = field;
            }
            at = next;
        }
        (at == end).then_some(())?;
        let [_, _, interface, member, .., signature] = known;
        at = at.next_multiple_of(8);
        let mut arguments = vec![];
        for _ in signature.iter().take_while(|kind| **kind == b's') {
            let (argument, next) = value(message, at, b's')?;
            arguments.push(argument);
            at = next;
        }
        if message[1] != 1 {
            return Some(());
        }
        let [first, last] = [arguments.first(), arguments.last()].map(|text| text.copied().unwrap_or_default());
        let length = match (interface, member, first, last) {
            (BUS, b"Hello", ..) => 41,
            (BUS, b"AddMatch", ..) => {
                self.listens = true;
                24
            }
            (b"org.freedesktop.DBus.Properties", b"Get", MANAGER, b"InhibitDelayMaxUSec") => 48,
            (MANAGER, b"Inhibit", b"shutdown", b"delay") => 44,
            _ => 80,
        };
        if message[2] & 1 == 0 {
            self.said.push((length == 44, length, message[8..12].escape_ascii().to_string()));
        }
        Some(())
    }
}

/// The little-endian u32 there.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

/// The value of a type that a field may have there, and where it ends.
fn value(message: &[u8], at: usize, kind: u8) -> Option<(&[u8], usize)> {
    let (start, length) = match kind {
        b'u' => return Some((message.get(at..at + 4)?, at + 4)),
        b'g' => (at + 1, usize::from(*message.get(at)?)),
        _ => (at.next_multiple_of(4) + 4, number(message, at.next_multiple_of(4))?),
    };
    let end = start + length;
    (message.get(end) == Some(&0)).then(|| (&message[start..end], end + 1))
}
