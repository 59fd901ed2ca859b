//! A service with its process: what is due is done to it, and said.

use rustix::event::epoll;
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use super::service::{Due, Service};
use super::spawn::Started;
use super::{Token, forget, liveness, logs, signals, sockets};
use crate::error::{During, Error};
use crate::plan::{self, Millis, Watch};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::t;

/// One of [`plan::SERVICES`].
pub struct Unit {
    index: usize,
    service: Service,
    pid: Option<Pid>,
    notify: Option<Fd>,
    /// When it was last started; 0 if it never was.
    since: Millis,
    /// What its work waits for, until that is released, and when it was.
    gate: Option<Fd>,
    released: Millis,
    /// What it prints, while it runs, and the child that drains that.
    output: Option<Fd>,
    drain: Option<Pid>,
    /// When that child may be started again; never is MAX.
    drain_at: Millis,
    /// The child that asks whether it answers, and when the next one is due.
    asks: Option<Pid>,
    ask_at: Millis,
}

impl Unit {
    /// Service `index`, which was never started.
    pub const fn new(index: usize) -> Unit {
        Unit {
            index,
            service: Service::new(),
            pid: None,
            notify: None,
            since: 0,
            gate: None,
            released: 0,
            output: None,
            drain: None,
            drain_at: Millis::MAX,
            asks: None,
            ask_at: 0,
        }
    }

    /// What the plan says of it.
    pub fn plan(&self) -> &'static plan::Service {
        let [first, second] = &plan::SERVICES;
        if self.index == 0 { first } else { second }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Whether that process is its own, or one that serves it.
    pub fn knows(&self, pid: Pid) -> bool {
        [self.pid, self.asks, self.drain].contains(&Some(pid))
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.service.is_ready()
    }

    /// Since when it is ready, in milliseconds since power-on, if it is.
    pub fn ready_since(&self) -> Option<Millis> {
        self.service.ready_since()
    }

    /// Whether it was never started.
    pub fn is_new(&self) -> bool {
        self.since == 0
    }

    /// Lets it begin its work.
    pub fn release(&mut self, now: Millis) {
        if self.gate.take().is_some() {
            self.released = now;
        }
    }

    /// Whether it began its work before that time, in milliseconds since power-on.
    pub fn released_before(&self, time: Millis) -> bool {
        self.released < time
    }

    /// When it next needs the loop, in milliseconds since power-on; never is MAX.
    pub fn deadline(&self) -> Millis {
        let ask = if self.may_ask() { self.ask_at } else { Millis::MAX };
        self.service.deadline().min(ask).min(self.drain_at)
    }

    /// Whether it is to be started.
    pub fn is_due(&mut self, now: Millis) -> bool {
        self.pid.is_none() && self.service.due(now) == Due::Start
    }

    /// Nobody could have done more in its place.
    pub fn excuse(&mut self, now: Millis) {
        self.service.excuse(now);
    }

    /// It does not wait long for its next start.
    pub fn hurry(&mut self, now: Millis) {
        self.service.hurry(now);
    }

    /// Does what is due about it while it runs. Whether that was to abort it for its silence.
    pub fn tend(&mut self, now: Millis) -> bool {
        if self.pid.is_none() {
            return false;
        }
        if now >= self.drain_at
            && let Some(output) = &self.output
        {
            match logs::drain(self.index, output) {
                Ok(pid) => (self.drain, self.drain_at) = (Some(pid), Millis::MAX),
                Err(error) => {
                    report::degraded(&error);
                    self.drain_at = now.saturating_add(plan::WRITER_PAUSE);
                }
            }
        }
        let due = self.service.due(now);
        match due {
            Due::Nothing => self.ask(now),
            _ => self.act(due, now),
        }
        due == Due::AbortSilent
    }

    /// Aborts it, if it is ready, for what another one cannot do.
    pub fn blame(&mut self, now: Millis) {
        let due = self.service.blame(now);
        self.act(due, now);
    }

    fn act(&self, due: Due, now: Millis) {
        let Some(pid) = self.pid else { return };
        let (what, signal) = match due {
            Due::Nothing | Due::Start => return,
            Due::Tell => (t(c" is not ready"), None),
            Due::AbortLate => (t(c" is not ready, aborting it"), Some(Signal::ABORT)),
            Due::AbortSilent => (t(c" gives no sign of life, aborting it"), Some(Signal::ABORT)),
            Due::AbortBlamed => (t(c" leaves kubelet silent, aborting it"), Some(Signal::ABORT)),
            Due::Kill => (t(c" does not end, killing it"), Some(Signal::KILL)),
        };
        if let Some(signal) = signal {
            let _ = kill_process(pid, signal);
        }
        let mut line = report::line();
        self.uptime(line.text(self.plan().name).process(pid).text(what), now).send();
    }

    fn may_ask(&self) -> bool {
        matches!(self.plan().watch, Watch::Asked) && self.asks.is_none() && self.is_ready()
    }

    /// Asks for a sign of life, where that is how it gives one.
    fn ask(&mut self, now: Millis) {
        if self.may_ask() && now >= self.ask_at {
            self.ask_at = now.saturating_add(plan::ASK_PAUSE);
            match liveness::ask() {
                Ok(child) => self.asks = Some(child),
                // No room for another process: that is not its fault.
                Err(_) => self.excuse(now),
            }
        }
    }

    /// Reads what it says; whether that is that it is ready. One datagram: a flooded socket must not keep the loop, which
    /// epoll brings back to it.
    ///
    /// Once there is nothing more to hear the socket is closed: a datagram can hold its reader, by a descriptor in it whose
    /// last close takes long, and pods reach containerd's socket. They do not reach kubelet's.
    pub fn hear(&mut self, epoll: &Fd, now: Millis) -> bool {
        let Some(socket) = &self.notify else { return false };
        let notice = sockets::hear(socket, self.pid);
        if notice.alive {
            self.service.heard(now);
        }
        let ready = notice.ready && self.service.ready(now);
        if ready {
            self.ask_at = now.saturating_add(plan::ASK_PAUSE);
            if matches!(self.plan().watch, Watch::Asked) {
                forget(epoll, &mut self.notify);
            }
            report::line().text(self.plan().name).text(c" ready").send();
        }
        ready
    }

    /// It was started.
    pub fn started(&mut self, started: Started, epoll: &Fd, now: Millis) {
        let Started { pid, notify, gate, output, drain, .. } = started;
        self.service.started(now);
        self.pid = Some(pid);
        self.since = now;
        self.gate = Some(gate);
        self.output = Some(output);
        self.drain = Some(drain);
        let token = Token::Notify(self.index).data();
        if let Err(error) = epoll::add(epoll, &notify, token, epoll::EventFlags::IN).during(c"watch notify socket") {
            report::degraded(&error);
        }
        self.notify = Some(notify);
        report::line().text(c"started ").text(self.plan().name).process(pid).send();
    }

    /// It could not be started.
    pub fn failed(&mut self, error: &Error, now: Millis) {
        let mut line = report::line();
        line.text(c"start ").text(self.plan().name).text(c": ").error(error);
        self.try_later(&mut line, now, true);
    }

    /// Notes the end of process `pid` if it is its own, or the one that asks; whether it was its own. `blamed` is false where
    /// what it needs is not there; one that ends before its work is to blame all the same.
    pub fn reaped(&mut self, pid: Pid, status: WaitStatus, blamed: bool, epoll: &Fd, now: Millis) -> bool {
        if self.asks == Some(pid) {
            self.asks = None;
            if status.exit_status() == Some(0) {
                self.service.heard(now);
            }
        }
        if self.drain == Some(pid) {
            self.drain = None;
            // Else its end is that of the pipe.
            if status.terminating_signal().is_some() {
                self.drain_at = now;
            }
        }
        if self.pid != Some(pid) {
            return false;
        }
        self.pid = None;
        // Till then it needed nothing of another.
        let blamed = self.gate.take().is_some() || blamed;
        self.output = None;
        (self.drain, self.drain_at) = (None, Millis::MAX);
        forget(epoll, &mut self.notify);
        if let Some(child) = self.asks.take() {
            let _ = kill_process(child, Signal::KILL);
        }
        let mut line = report::line();
        line.text(self.plan().name).process(pid).text(c" ");
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => line.text(c"exited with ").number(u64::try_from(code).unwrap_or(0)),
            (_, Some(signal)) => line.text(c"killed by ").named(t(c"SIG"), signals::name(signal), signal),
            _ => line.text(c"ended"),
        };
        self.uptime(&mut line, now);
        self.try_later(&mut line, now, blamed);
        true
    }

    fn uptime<'a>(&self, line: &'a mut report::Line, now: Millis) -> &'a mut report::Line {
        line.text(c" after ").number(now.saturating_sub(self.since)).text(c"ms")
    }

    /// Notes that the service is down, and sends the line that says why with when it is tried again.
    fn try_later(&mut self, line: &mut report::Line, now: Millis, blamed: bool) {
        let wait = self.service.ended(now, blamed);
        if blamed {
            line.text(c", next try in ").number(wait).text(c"ms").send();
        } else {
            line.text(c", next try once containerd is ready").send();
        }
    }
}
