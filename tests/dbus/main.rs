//! kubelet's bus as bytes (`kios_init::run::dbus`): recorded conversations of the library that kubelet has, conversations
//! and mutilations made here, and libdbus as a client and as the reader of every answer.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod arbitrary;
mod captures;
mod conversation;
mod handshake;
mod libdbus;
mod malformed;
mod messages;

use conversation::{Outcome, Said, talk};
use kios_init::run::dbus::INPUT_BYTES;

/// The lines by which kubelet comes in, where it is asked for the data that it does not have.
const HANDSHAKE: &[u8] = b"\0AUTH\r\nAUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
/// Their answers.
const LET_IN: [&str; 4] =
    ["REJECTED EXTERNAL\r\n", "DATA\r\n", "OK 6b696f736b696f736b696f736b696f73\r\n", "AGREE_UNIX_FD\r\n"];

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
