//! kubelet's bus: where it takes its inhibitor lock, and hears that the machine is about to stop (contract.md §2).
//!
//! The socket is in kubelet's mount namespace alone, and only kubelet's own process is let in. The lock is one end of a
//! pipe: kubelet holds it while its pods end, and the kernel closes it with kubelet's process whatever that dies of.

use rustix::event::epoll;
use rustix::io::{Errno, read};
use rustix::process::Pid;

use super::Token;
use super::dbus::{Next, PREPARE_FOR_SHUTDOWN, Peer};
use crate::error::During;
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::{file, net};

/// What an event of the bus is about.
#[derive(Clone, Copy)]
pub enum Source {
    /// Somebody connects.
    Listener,
    /// The peer says something.
    Peer,
    /// The lock is released.
    Lock,
}

/// One start of kubelet's.
pub struct Bus {
    listener: Fd,
    peer: Option<(Fd, Peer)>,
    lock: Option<Fd>,
    /// When kubelet may be told; never is MAX. In milliseconds since power-on.
    tell_at: Millis,
    told: bool,
}

impl Bus {
    /// A bus that nobody is connected to.
    pub fn new(listener: Fd, epoll: &Fd) -> Bus {
        watch(epoll, &listener, Source::Listener);
        Bus { listener, peer: None, lock: None, tell_at: Millis::MAX, told: false }
    }

    /// Whether kubelet holds the lock.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// When [`Bus::tell`] next has something to do, in milliseconds since power-on; never is MAX.
    pub fn deadline(&self) -> Millis {
        if self.told || self.lock.is_none() { Millis::MAX } else { self.tell_at }
    }

    /// Tells kubelet, once, that the machine is about to stop, if it holds the lock and hears it. Whether it was told.
    pub fn tell(&mut self, now: Millis) -> bool {
        if let Some((connection, _)) = &self.peer
            && now >= self.deadline()
        {
            self.told = true;
            // Where that fails, the lock goes with kubelet, or the limit comes.
            let _ = net::send(connection, PREPARE_FOR_SHUTDOWN, None);
        }
        self.told
    }

    /// Handles one event. `kubelet` is who may connect.
    pub fn handle(&mut self, source: Source, kubelet: Option<Pid>, epoll: &Fd, now: Millis) {
        match source {
            Source::Listener => self.accept(kubelet, epoll),
            Source::Peer => {
                if self.serve(epoll).is_none() {
                    self.peer = None;
                }
                // It is deaf at first: it looks for signals only some time after it asked for them.
                let listens = self.peer.as_ref().is_some_and(|(_, peer)| peer.listens());
                let later = now.saturating_add(plan::TELL_AFTER);
                self.tell_at = if listens { self.tell_at.min(later) } else { Millis::MAX };
            }
            Source::Lock => {
                // Only the end of the pipe is readable. EAGAIN: a lock taken since.
                if let Some(lock) = &self.lock
                    && read(lock, &mut [0]).is_ok()
                {
                    self.lock = None;
                }
            }
        }
    }

    /// Lets kubelet in, in place of a connection it had before; anybody else's is closed at once.
    fn accept(&mut self, kubelet: Option<Pid>, epoll: &Fd) {
        let Ok((connection, process)) = net::accept(&self.listener) else { return };
        if kubelet.is_some_and(|kubelet| u32::try_from(kubelet.as_raw_nonzero().get()) == Ok(process)) {
            watch(epoll, &connection, Source::Peer);
            self.peer = Some((connection, Peer::new()));
            self.tell_at = Millis::MAX;
        }
    }

    /// Takes what the peer says, and answers. None where the connection is to end.
    fn serve(&mut self, epoll: &Fd) -> Option<()> {
        let (connection, peer) = self.peer.as_mut()?;
        match read(&*connection, peer.room()) {
            Ok(0) => return None,
            Ok(count) => peer.received(count),
            Err(Errno::AGAIN | Errno::INTR) => return Some(()),
            Err(_) => return None,
        }
        loop {
            match peer.proceed() {
                Next::Wait => return Some(()),
                Next::Close => return None,
                Next::Send => net::send(connection, peer.answer(), None).ok()?,
                Next::SendLock => {
                    let (ours, theirs) = file::pipe().ok()?;
                    net::send(connection, peer.answer(), Some(rustix::fd::AsFd::as_fd(&theirs))).ok()?;
                    watch(epoll, &ours, Source::Lock);
                    self.lock = Some(ours);
                }
            }
        }
    }
}

fn watch(epoll: &Fd, descriptor: &Fd, source: Source) {
    let added = epoll::add(epoll, descriptor, Token::Bus(source).data(), epoll::EventFlags::IN);
    if let Err(error) = added.during(c"watch bus") {
        report::degraded(&error);
    }
}
