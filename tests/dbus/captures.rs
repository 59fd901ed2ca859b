//! Conversations as they were recorded (tests/captures/README.md).

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::{LET_IN, Said, outcome, parsed, reply_serial, talk};

/// The recordings whose names begin so, at least one.
fn recordings(start: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(start) && name.ends_with(".bin")
    };
    let found: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(is_wanted).collect();
    assert!(!found.is_empty(), "no recording {start}*.bin");
    found
}

/// What was recorded. The bus that godbus spoke to did not ask for its data; asked, it says the line that is put in here
/// (its auth.go).
fn read(path: &Path) -> Vec<u8> {
    let (asked, mut bytes) = (b"AUTH EXTERNAL\r\n", std::fs::read(path).unwrap());
    if let Some(at) = bytes.windows(asked.len()).position(|window| window == asked) {
        let behind = at + asked.len();
        bytes.splice(behind..behind, *b"DATA\r\n");
    }
    bytes
}

/// The bytes of all recordings.
pub fn all() -> Vec<Vec<u8>> {
    recordings("").iter().map(|path| read(path)).collect()
}

/// Checks that a recorded conversation gets, after `lines`, the answers to its four calls, of which the third hands out
/// the lock.
fn assert_answered(path: &Path, lines: &[&str]) {
    let bytes = read(path);
    let outcome = outcome(&bytes);
    let name = path.display();
    assert!(!outcome.closed && outcome.listens, "{name}: {outcome:?}");
    let answers = outcome.answers();
    let (said, replies) = answers.split_at(lines.len());
    assert_eq!(said, lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), "{name}");
    assert_eq!(replies.iter().map(|reply| reply_serial(reply)).collect::<Vec<_>>(), [1, 2, 3, 4], "{name}");
    assert!(matches!(outcome.said[lines.len() + 2], Said::Lock(_)) && outcome.locks() == 1, "{name}: {outcome:?}");
    for at in [0, 1, 3] {
        assert_eq!(parsed(replies[at]).msg_type(), dbus::MessageType::MethodReturn, "{name}");
    }
    println!("{name}: {} bytes", bytes.len());
}

/// Contract §2: kubelet's library is let in, gets its four answers and the lock, and listens.
#[test]
fn godbus_is_answered() {
    for path in recordings("godbus-") {
        assert_answered(&path, &LET_IN);
    }
}

/// So is libdbus, which says who it is at once.
#[test]
fn libdbus_is_answered() {
    for path in recordings("libdbus-") {
        assert_answered(&path, &LET_IN[2..]);
    }
}

proptest! {
    /// However the bytes come in, the answers are the same.
    #[test]
    fn pieces_do_not_matter(pieces in proptest::collection::vec(1usize..300, 0..40)) {
        for bytes in all() {
            prop_assert_eq!(talk(&bytes, &pieces), talk(&bytes, &[]));
        }
    }
}
