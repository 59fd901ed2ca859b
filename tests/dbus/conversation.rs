//! A conversation with `kios_init::run::dbus`: bytes in pieces, and what came of them. tests/fuzz has it too.

use kios_init::run::dbus::{Next, Peer};

/// What a connection was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Answer(Vec<u8>),
    Lock(Vec<u8>),
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub said: Vec<Said>,
    pub closed: bool,
    pub listens: bool,
}

/// Says `bytes` in pieces of these lengths, the rest in one; as init reads them, no piece longer than there is room for.
pub fn talk(bytes: &[u8], pieces: &[usize]) -> Outcome {
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
