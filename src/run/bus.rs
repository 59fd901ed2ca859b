//! kubelet's bus: where it takes its inhibitor lock, and hears that the machine is about to stop (contract.md §2).
//!
//! The socket is in kubelet's mount namespace alone, which no pod reaches, and only kubelet's own process is let in. What is
//! there is trusted with one thing: whoever sends a descriptor along can hold init for as long as its last close takes. The
//! lock is one end of a pipe: kubelet holds it while its pods end, and the kernel closes it with kubelet's process whatever
//! that dies of.

use rustix::event::epoll;
use rustix::fd::AsFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::process::Pid;

use super::dbus::{Next, PREPARE_FOR_SHUTDOWN, Peer};
use super::{Token, forget};
use crate::error::During;
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::{file, net, process};

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

/// The bus of one start of kubelet's.
pub struct Bus {
    listener: Option<Fd>,
    connection: Option<Fd>,
    peer: Peer,
    lock: Option<Fd>,
    told: bool,
    /// When kubelet may be told, in milliseconds since power-on; never is MAX. Once its release of the lock counts it is past.
    due: Millis,
}

impl Bus {
    /// A bus that nobody is connected to.
    pub fn new(listener: Fd, epoll: &Fd) -> Bus {
        watch(epoll, &listener, Source::Listener);
        Bus { listener: Some(listener), connection: None, peer: Peer::new(), lock: None, told: false, due: Millis::MAX }
    }

    /// Whether kubelet holds the lock.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// When [`Bus::end_pods`] next has something to do, where kubelet is not to be told before `earliest`; in milliseconds
    /// since power-on, never is MAX.
    pub fn deadline(&self, earliest: Millis) -> Millis {
        match (self.told, self.is_locked()) {
            (false, true) => self.due.max(earliest),
            // Told, it is its release that there is to see.
            (true, false) => self.due,
            _ => Millis::MAX,
        }
    }

    /// Tells kubelet, once and not before `earliest`, that the machine is about to stop, if it holds the lock and hears it.
    /// Whether it released the lock since.
    pub fn end_pods(&mut self, earliest: Millis, now: Millis) -> bool {
        let due = now >= self.deadline(earliest);
        if due
            && !self.told
            && let Some(connection) = &self.connection
        {
            self.told = true;
            // Where that fails, the lock goes with kubelet, or the limit comes.
            let _ = net::send(connection, PREPARE_FOR_SHUTDOWN, None);
            return false;
        }
        due
    }

    /// Handles one event. `kubelet` is who may connect.
    pub fn handle(&mut self, source: Source, kubelet: Option<Pid>, epoll: &Fd, now: Millis) {
        match source {
            Source::Listener => self.accept(kubelet, epoll),
            Source::Peer => {
                if self.serve(epoll).is_none() {
                    self.hang_up(epoll);
                } else if self.peer.listens() {
                    // It is deaf at first: it looks for signals only some time after it asked for them.
                    self.due = self.due.min(now.saturating_add(plan::TELL_AFTER));
                }
            }
            Source::Lock => {
                // Only the end of the pipe is readable. EAGAIN: a lock taken since.
                if let Some(lock) = &self.lock
                    && read(lock, &mut [0]).is_ok()
                {
                    forget(epoll, &mut self.lock);
                    if kubelet.is_none_or(process::is_dying) {
                        // It let go of all it had: nobody has ended its pods.
                        self.due = Millis::MAX;
                    }
                }
            }
        }
    }

    /// Closes everything.
    pub fn close(&mut self, epoll: &Fd) {
        self.hang_up(epoll);
        forget(epoll, &mut self.listener);
        forget(epoll, &mut self.lock);
    }

    fn listens(&self) -> bool {
        self.connection.is_some() && self.peer.listens()
    }

    fn hang_up(&mut self, epoll: &Fd) {
        forget(epoll, &mut self.connection);
        self.due = Millis::MAX;
    }

    /// Lets kubelet in, in place of a connection it had before, unless it listens there: kubelet connects to whatever a pod names
    /// as a plugin's socket. Anybody else's is closed at once.
    fn accept(&mut self, kubelet: Option<Pid>, epoll: &Fd) {
        let Some(Ok((connection, process))) = self.listener.as_ref().map(net::accept) else { return };
        // Its end may be there to be read.
        if self.listens() && self.serve(epoll).is_none() {
            self.hang_up(epoll);
        }
        if kubelet.is_some_and(|kubelet| u32::try_from(kubelet.as_raw_nonzero().get()) == Ok(process))
            && !self.listens()
            && watch(epoll, &connection, Source::Peer)
        {
            self.hang_up(epoll);
            self.connection = Some(connection);
            self.peer = Peer::new();
        }
    }

    /// Takes what the peer says, and answers. None where the connection is to end.
    fn serve(&mut self, epoll: &Fd) -> Option<()> {
        let (connection, peer) = (self.connection.as_ref()?, &mut self.peer);
        match read(connection, peer.room()) {
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
                    fcntl_setfl(&ours, OFlags::NONBLOCK).ok()?;
                    net::send(connection, peer.answer(), Some(theirs.as_fd())).ok()?;
                    forget(epoll, &mut self.lock);
                    watch(epoll, &ours, Source::Lock);
                    self.lock = Some(ours);
                }
            }
        }
    }
}

/// Whether it could be: a pod may have used up what root may watch.
fn watch(epoll: &Fd, descriptor: &Fd, source: Source) -> bool {
    let added = epoll::add(epoll, descriptor, Token::Bus(source).data(), epoll::EventFlags::IN).during(c"watch bus");
    added.map_err(|error| report::degraded(&error)).is_ok()
}
