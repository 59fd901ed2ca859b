//! The part of D-Bus that kubelet speaks (D-Bus Specification 0.43, contract.md §2), as logind's manager on a bus of its
//! own: bytes in, answers out. Pure.
//!
//! Whatever is not understood as a message ends the connection; whatever is a call that is not among [`CALLS`] is
//! answered with an error. Both in the peer's time: nothing here waits.

use core::cell::Cell;
use heapless::Vec;

/// Bytes of the longest message, and line of the handshake, that is taken. kubelet's longest has 300.
pub const INPUT_BYTES: usize = 1024;
/// Bytes of the longest answer.
const ANSWER_BYTES: usize = 96;

/// What is to be done next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: wait for more bytes.
    Wait,
    /// Send the answer.
    Send,
    /// Send the answer together with a descriptor, the inhibitor lock: it is held until it is closed everywhere.
    SendLock,
    /// End the connection.
    Close,
}

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before its first byte.
    New,
    /// In the handshake.
    Handshake,
    /// In the handshake, and let in.
    Authenticated,
    /// Past it: messages.
    Messages,
}

/// A connection's input, and where it is.
pub struct Peer {
    input: [u8; INPUT_BYTES],
    filled: usize,
    phase: Phase,
    listens: bool,
    answer: Vec<u8, ANSWER_BYTES>,
}

/// The lines of the handshake that are understood, where, where they lead, and their answers (D-Bus Specification,
/// Authentication Protocol). Who the peer is was known before; that it says so is form: its user id in hexadecimal ASCII,
/// of which 30 is 0.
const LINES: &[(&[u8], Phase, Phase, &[u8])] = &[
    (b"AUTH EXTERNAL", Phase::Handshake, Phase::Handshake, b"DATA\r\n"),
    (b"AUTH EXTERNAL 30", Phase::Handshake, Phase::Authenticated, LET_IN),
    (b"DATA", Phase::Handshake, Phase::Authenticated, LET_IN),
    (b"DATA 30", Phase::Handshake, Phase::Authenticated, LET_IN),
    (b"NEGOTIATE_UNIX_FD", Phase::Authenticated, Phase::Authenticated, b"AGREE_UNIX_FD\r\n"),
    (b"BEGIN", Phase::Authenticated, Phase::Messages, b""),
];
const LET_IN: &[u8] = b"OK 6b696f736b696f736b696f736b696f73\r\n";
const REJECTED: &[u8] = b"REJECTED EXTERNAL\r\n";
const ERROR: &[u8] = b"ERROR\r\n";

/// A message whose fields and body are constant (D-Bus Specification, Message Format): little-endian, no reply expected,
/// protocol 1, serial 1. `fields` are marshalled, and begin at a multiple of 8.
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // Computed by the compiler.
const fn message<const N: usize>(kind: u8, fields: &[u8], body: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let start = [b'l', kind, 1, 1, body.len() as u8, 0, 0, 0, 1, 0, 0, 0, fields.len() as u8, 0, 0, 0];
    let body_at = (HEADER_BYTES + fields.len()).next_multiple_of(8);
    assert!(body.len() < 256 && fields.len() < 256 && body_at + body.len() == N);
    let mut at = 0;
    while at < N {
        bytes[at] = match at {
            0..HEADER_BYTES => start[at],
            _ if at < HEADER_BYTES + fields.len() => fields[at - HEADER_BYTES],
            _ if at < body_at => 0,
            _ => body[at - body_at],
        };
        at += 1;
    }
    bytes
}

/// Bytes of a message before its fields' first.
const HEADER_BYTES: usize = 16;
/// Where an answer has the serial of the call it answers: REPLY_SERIAL is its first field.
const REPLY_SERIAL_AT: usize = 20;

/// Kinds of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const FAILURE: u8 = 3;
const SIGNAL: u8 = 4;
/// A flag of a call.
const NO_REPLY_EXPECTED: u8 = 1;

/// In each: REPLY_SERIAL (5) u, then SIGNATURE (8) g, UNIX_FDS (9) u or ERROR_NAME (4) s.
const NAMED: &[u8] = &message::<41>(RETURN, b"\x05\x01u\0\0\0\0\0\x08\x01g\0\x01s\0", b"\x04\0\0\0:1.1\0");
/// A variant that holds 3,600,000,000 µs as u64: an hour, more than any sum of grace periods. For less than that sum
/// kubelet would write logind's settings.
const DELAY: &[u8] =
    &message::<48>(RETURN, b"\x05\x01u\0\0\0\0\0\x08\x01g\0\x01v\0", b"\x01t\0\0\0\0\0\0\x00\xa4\x93\xd6\0\0\0\0");
/// The first descriptor that comes along.
const LOCK: &[u8] =
    &message::<44>(RETURN, b"\x05\x01u\0\0\0\0\0\x08\x01g\0\x01h\0\0\x09\x01u\0\x01\0\0\0", b"\0\0\0\0");
const DONE: &[u8] = &message::<24>(RETURN, b"\x05\x01u\0\0\0\0\0", b"");
const UNKNOWN: &[u8] =
    &message::<80>(FAILURE, b"\x05\x01u\0\0\0\0\0\x04\x01s\0\x28\0\0\0org.freedesktop.DBus.Error.UnknownMethod\0", b"");

/// The signal that the machine is about to stop: PATH (1) o, INTERFACE (2) s, MEMBER (3) s, SIGNATURE (8) g; true.
pub const PREPARE_FOR_SHUTDOWN: &[u8] = &message::<132>(
    SIGNAL,
    b"\x01\x01o\0\x17\0\0\0/org/freedesktop/login1\0\
\x02\x01s\0\x1e\0\0\0org.freedesktop.login1.Manager\0\0\
\x03\x01s\0\x12\0\0\0PrepareForShutdown\0\0\0\0\0\0\
\x08\x01g\0\x01b\0",
    b"\x01\0\0\0",
);

/// A call that is answered.
struct Call {
    interface: &'static [u8],
    member: &'static [u8],
    /// What its first and its last argument must be; empty is anything. All arguments are strings.
    arguments: [&'static [u8]; 2],
    answer: &'static [u8],
}

const BUS: &[u8] = b"org.freedesktop.DBus";
const MANAGER: &[u8] = b"org.freedesktop.login1.Manager";

/// All of them.
const CALLS: [Call; 4] = [
    Call { interface: BUS, member: b"Hello", arguments: [b"", b""], answer: NAMED },
    // Whatever it asks for: there is one signal.
    Call { interface: BUS, member: b"AddMatch", arguments: [b"", b""], answer: DONE },
    Call {
        interface: b"org.freedesktop.DBus.Properties",
        member: b"Get",
        arguments: [MANAGER, b"InhibitDelayMaxUSec"],
        answer: DELAY,
    },
    Call { interface: MANAGER, member: b"Inhibit", arguments: [b"shutdown", b"delay"], answer: LOCK },
];
const ADD_MATCH: usize = 1;
const INHIBIT: usize = 3;

impl Peer {
    /// A connection that has said nothing.
    pub const fn new() -> Peer {
        Peer { input: [0; INPUT_BYTES], filled: 0, phase: Phase::New, listens: false, answer: Vec::new() }
    }

    /// Where what it says is to be written.
    pub fn room(&mut self) -> &mut [u8] {
        self.input.get_mut(self.filled..).unwrap_or(&mut [])
    }

    /// That many bytes were written to the room.
    pub fn received(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(INPUT_BYTES);
    }

    /// Whether it asked to hear signals.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// What to send, after [`Next::Send`] and [`Next::SendLock`].
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Takes what was received, up to where there is something to be done.
    pub fn proceed(&mut self) -> Next {
        loop {
            match self.take() {
                Ok((taken, next)) => {
                    self.forget(taken);
                    if next != Next::Wait {
                        return next;
                    }
                }
                Err(Stuck::Short) if self.filled < INPUT_BYTES => return Next::Wait,
                Err(_) => return Next::Close,
            }
        }
    }

    /// Takes one piece of the input: how long it is, and what it asks for.
    fn take(&mut self) -> Result<(usize, Next), Stuck> {
        let input = self.input.get(..self.filled).unwrap_or(&[]);
        self.answer.clear();
        match self.phase {
            Phase::New => match input {
                [] => Err(Stuck::Short),
                [0, ..] => {
                    self.phase = Phase::Handshake;
                    Ok((1, Next::Wait))
                }
                _ => Err(Stuck::Malformed),
            },
            Phase::Messages => {
                let message = whole(input)?;
                let next = answer_message(message, &mut self.listens, &mut self.answer).ok_or(Stuck::Malformed)?;
                Ok((message.len(), next))
            }
            Phase::Handshake | Phase::Authenticated => {
                let end = input.iter().position(|byte| *byte == b'\n').ok_or(Stuck::Short)?;
                let line = input.get(..end).unwrap_or(&[]);
                let (phase, answer) = answer_line(self.phase, line.strip_suffix(b"\r").unwrap_or(line))?;
                self.phase = phase;
                let _ = self.answer.extend_from_slice(answer);
                Ok((end + 1, if answer.is_empty() { Next::Wait } else { Next::Send }))
            }
        }
    }

    /// Drops the first `count` bytes of the input.
    fn forget(&mut self, count: usize) {
        let cells = Cell::from_mut(&mut self.input[..]).as_slice_of_cells();
        for (to, from) in cells.iter().zip(cells.iter().skip(count)) {
            to.set(from.get());
        }
        self.filled = self.filled.saturating_sub(count);
    }
}

impl Default for Peer {
    fn default() -> Peer {
        Peer::new()
    }
}

/// Why there is nothing to take.
enum Stuck {
    /// The rest is still to come.
    Short,
    /// It is not D-Bus, or not that part of it.
    Malformed,
}

/// Answers a line of the handshake: where the connection then is, and what to send.
fn answer_line(phase: Phase, line: &[u8]) -> Result<(Phase, &'static [u8]), Stuck> {
    for (known, before, after, answer) in LINES {
        if line == *known && phase == *before {
            return Ok((*after, *answer));
        }
    }
    match line.starts_with(b"BEGIN") {
        true => Err(Stuck::Malformed),
        false if line.starts_with(b"AUTH") => Ok((Phase::Handshake, REJECTED)),
        false => Ok((phase, ERROR)),
    }
}

/// The first message, once it is whole. Malformed is one that can never be: not of this byte order (a peer on the same
/// machine has it) or protocol, of no kind, without a serial, or longer than the input.
fn whole(input: &[u8]) -> Result<&[u8], Stuck> {
    let length = message_bytes(input.first_chunk().ok_or(Stuck::Short)?).filter(|length| *length <= INPUT_BYTES);
    input.get(..length.ok_or(Stuck::Malformed)?).ok_or(Stuck::Short)
}

/// How long a message is, by its first bytes.
fn message_bytes(head: &[u8; HEADER_BYTES]) -> Option<usize> {
    let mut reader = Reader { bytes: head, at: 0 };
    let [b'l', 1..=255, _, 1] = reader.take(4)? else { return None };
    let body = reader.number()?;
    if reader.number()? == 0 {
        return None;
    }
    reader.number()?.checked_next_multiple_of(8)?.checked_add(body)?.checked_add(HEADER_BYTES)
}

/// Answers a message: what is to be done, with the answer put in its place. None where the message is malformed.
fn answer_message(message: &[u8], listens: &mut bool, answer: &mut Vec<u8, ANSWER_BYTES>) -> Option<Next> {
    let mut reader = Reader { bytes: message, at: 0 };
    let [_, kind, flags, _] = *reader.take(4)?.first_chunk()?;
    let _body_bytes = reader.number()?;
    let serial = reader.take(4)?;
    let end = reader.number()?.checked_add(HEADER_BYTES)?;
    let (mut interface, mut member, mut signature): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
    while reader.at < end {
        reader.align(8);
        let code = reader.take(1)?;
        let value = match reader.signature()? {
            b"s" | b"o" => reader.string()?,
            b"g" => reader.signature()?,
            b"u" => reader.take(4)?,
            // No field of the specification has another type.
            _ => return None,
        };
        match code {
            [2] => interface = value,
            [3] => member = value,
            [8] => signature = value,
            _ => {}
        }
    }
    if reader.at != end {
        return None;
    }
    reader.align(8);
    let mut arguments: [&[u8]; 2] = [b"", b""];
    for (at, kind) in signature.iter().enumerate() {
        let argument = if *kind == b's' { reader.string()? } else { break };
        let [first, last] = &mut arguments;
        if at == 0 {
            *first = argument;
        }
        *last = argument;
    }
    if kind != CALL {
        return Some(Next::Wait);
    }
    let fits = |(wanted, given): (&&[u8], &&[u8])| wanted.is_empty() || wanted == given;
    let found = CALLS.iter().position(|call| {
        (call.interface, call.member) == (interface, member) && call.arguments.iter().zip(&arguments).all(fits)
    });
    *listens |= found == Some(ADD_MATCH);
    if flags & NO_REPLY_EXPECTED != 0 {
        return Some(Next::Wait);
    }
    let bytes = found.and_then(|found| CALLS.get(found)).map_or(UNKNOWN, |call| call.answer);
    let _ = answer.extend_from_slice(bytes);
    for (to, from) in answer.iter_mut().skip(REPLY_SERIAL_AT).zip(serial) {
        *to = *from;
    }
    Some(if found == Some(INHIBIT) { Next::SendLock } else { Next::Send })
}

/// Reads marshalled values (D-Bus Specification, Marshaling). Each is None where the message ends before it does.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    /// An aligned u32.
    fn number(&mut self) -> Option<usize> {
        self.align(4);
        usize::try_from(u32::from_le_bytes(*self.take(4)?.first_chunk()?)).ok()
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.terminated(length.into())
    }

    /// Bytes with a NUL behind.
    fn terminated(&mut self, length: usize) -> Option<&'a [u8]> {
        self.take(length.checked_add(1)?)?.strip_suffix(b"\0")
    }
}
