//! kubelet's bus as bytes (`kios_init::run::dbus`): recorded conversations of the library that kubelet has, conversations
//! and mutilations made here, and libdbus as a client and as the reader of every answer.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod arbitrary;
mod captures;
mod handshake;
mod libdbus;
mod malformed;
mod messages;

use kios_init::run::dbus::{INPUT_BYTES, Next, Peer};

/// The lines by which kubelet comes in, where it is asked for the data that it does not have.
const HANDSHAKE: &[u8] = b"\0AUTH\r\nAUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
/// Their answers.
const LET_IN: [&str; 4] =
    ["REJECTED EXTERNAL\r\n", "DATA\r\n", "OK 6b696f736b696f736b696f736b696f73\r\n", "AGREE_UNIX_FD\r\n"];

/// What a connection was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Answer(Vec<u8>),
    Lock(Vec<u8>),
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    said: Vec<Said>,
    closed: bool,
    listens: bool,
}

impl Outcome {
    /// The answers, with or without the lock.
    fn answers(&self) -> Vec<&[u8]> {
        let bytes = |said| match said {
            &Said::Answer(ref bytes) | &Said::Lock(ref bytes) => &bytes[..],
        };
        self.said.iter().map(bytes).collect()
    }

    /// How often the lock was handed out.
    fn locks(&self) -> usize {
        self.said.iter().filter(|said| matches!(said, Said::Lock(_))).count()
    }
}

/// Says `bytes` in pieces of these lengths, the rest in one; as init reads them, no piece longer than there is room for.
fn talk(bytes: &[u8], pieces: &[usize]) -> Outcome {
    let (mut peer, mut said, mut left) = (Peer::new(), Vec::new(), bytes);
    let mut lengths = pieces.iter().copied();
    let mut proceeded = 0;
    while !left.is_empty() {
        let (mut piece, rest) = left.split_at(lengths.next().unwrap_or(usize::MAX).clamp(1, left.len()));
        left = rest;
        while !piece.is_empty() {
            let room = peer.room();
            assert!(!room.is_empty(), "it waits for more and has no room for it");
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            piece = &piece[count..];
            peer.received(count);
            loop {
                proceeded += 1;
                assert!(proceeded <= 2 * bytes.len(), "it does not come to an end");
                match peer.proceed() {
                    Next::Wait => break,
                    Next::Close => return Outcome { said, closed: true, listens: peer.listens() },
                    Next::Send => said.push(Said::Answer(peer.answer().to_vec())),
                    Next::SendLock => said.push(Said::Lock(peer.answer().to_vec())),
                }
                assert!(!peer.answer().is_empty());
            }
        }
    }
    Outcome { said, closed: false, listens: peer.listens() }
}

/// What comes of `bytes`, which must be the same whole and byte by byte.
fn outcome(bytes: &[u8]) -> Outcome {
    let whole = talk(bytes, &[]);
    assert_eq!(whole, talk(bytes, &vec![1; bytes.len()]));
    whole
}

/// What comes of messages once the handshake is over: with it, less its own answers.
fn after_handshake(bytes: &[u8]) -> Outcome {
    let mut outcome = outcome(&[HANDSHAKE, bytes].concat());
    let own: Vec<_> = outcome.said.drain(..LET_IN.len()).collect();
    assert_eq!(own, LET_IN.map(|line| Said::Answer(line.into())));
    outcome
}

/// An answer as libdbus reads it: a whole message, of which there is no more.
fn parsed(answer: &[u8]) -> dbus::Message {
    assert_eq!(dbus::Message::demarshal_bytes_needed(answer), Ok(answer.len()));
    dbus::Message::demarshal(answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// Which call an answer is for, where libdbus would want its descriptor to say so.
fn reply_serial(answer: &[u8]) -> u32 {
    u32::from_le_bytes(answer[20..24].try_into().unwrap())
}
