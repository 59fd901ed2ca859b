//! More than is reasonable, of what root in a service's namespace can bring about: ended children, and notifications.

use std::io::{ErrorKind, Result};
use std::path::Path;

use nix::unistd::{ForkResult, Uid, setresuid};

use super::{fork_when_possible, in_child, leave, leave_behind, notify_socket, wait_for};

/// Where a crowd is told to go.
const GO: &str = "/run/go";
/// How often a flooded socket was found full.
const FULL: usize = 100;

/// A child with that many ended children of its own, which it never reaps. Marks `/run/crowd` once they are there; leaves
/// them to init by its end once there is [`GO`].
pub fn crowd(number: usize) {
    in_child(|| {
        for nth in 0..number {
            if matches!(fork_when_possible(), ForkResult::Child) {
                // What one user may have running, the ended ones too, need not be enough.
                if nth % 2 == 1 {
                    let user = Uid::from_raw(1);
                    let _ = setresuid(user, user, user);
                }
                leave();
            }
        }
        std::fs::write("/run/crowd", "").expect("mark");
        wait_for(|| Path::new(GO).exists());
    });
}

/// Leaves that many processes behind that send notifications which say nothing, for as long as somebody takes them; every
/// second one waits while there is no room. Returns once the queue was seen full.
pub fn notifications(senders: usize) {
    for nth in 0..senders {
        leave_behind(move || send(nth % 2 == 0));
    }
    let socket = notify_socket();
    socket.set_nonblocking(true).expect("non-blocking");
    for _ in 0..FULL {
        wait_for(|| is_full(&socket.send(b"X=1")));
    }
}

fn send(waits: bool) {
    let socket = notify_socket();
    socket.set_nonblocking(!waits).expect("non-blocking");
    loop {
        let sent = socket.send(b"X=1");
        if sent.is_err() && !is_full(&sent) {
            leave();
        }
    }
}

fn is_full(sent: &Result<usize>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
