//! The two services and what writes their logs: starts what is due, hears what they say, and notes how they end.

use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use super::bus::{Bus, Source};
use super::unit::Unit;
use super::{logs, spawn};
use crate::boot::Machine;
use crate::error::{During, Result};
use crate::plan::{self, Millis};
use crate::sys::fd::Fd;
use crate::sys::{process, stdio};
use crate::{report, state};

/// All services, by index into [`plan::SERVICES`], and the logs' writer.
pub struct Supervisor {
    units: [Unit; plan::SERVICES.len()],
    /// Of kubelet's current start.
    bus: Option<Bus>,
    /// Whether kubelet ever held the inhibitor lock: before that it has no pods.
    had_pods: bool,
    writer: Option<Pid>,
    /// When the writer may be started, in milliseconds since power-on.
    writer_due: Millis,
    /// The child that saves the seed and the time, and when the next one is due; never is MAX.
    saver: Option<Pid>,
    save_due: Millis,
}

/// What a service waits for of the one before it.
#[derive(Clone, Copy)]
struct Before {
    ready: bool,
    runs: bool,
}

impl Before {
    /// The first one waits for nothing.
    const NONE: Before = Before { ready: true, runs: false };

    fn of(unit: &Unit) -> Before {
        Before { ready: unit.is_ready(), runs: unit.pid().is_some() }
    }

    /// Whether `unit`, which comes next, may start: for the first time it loads itself beside the one before, since the
    /// machine has nothing else to do.
    fn lets_start(self, unit: &Unit) -> bool {
        self.ready || self.runs && unit.is_new()
    }
}

impl Supervisor {
    /// Services that were never started. `kept`: there is a disk to save something on.
    pub const fn new(kept: bool) -> Supervisor {
        let units = [Unit::new(plan::CONTAINERD), Unit::new(plan::KUBELET)];
        let save_due = if kept { 0 } else { Millis::MAX };
        Supervisor { units, bus: None, had_pods: false, writer: None, writer_due: 0, saver: None, save_due }
    }

    /// The process of a service, while it runs.
    pub fn pid(&self, index: usize) -> Option<Pid> {
        self.units.get(index).and_then(Unit::pid)
    }

    /// Starts the writer, and each service that is due and whose predecessor is ready, or for its first start runs; does what
    /// else is due about them.
    pub fn tend(&mut self, machine: &Machine, epoll: &Fd, now: Millis) {
        if self.writer.is_none() && now >= self.writer_due {
            self.writer_due = now.saturating_add(plan::WRITER_PAUSE);
            match logs::start(machine) {
                Ok(pid) => self.writer = Some(pid),
                Err(error) => report::degraded(&error),
            }
        }
        if self.saver.is_none() && now >= self.save_due {
            let act = if self.save_due == 0 { state::renew } else { state::save };
            self.save_due = now.saturating_add(plan::SAVE_EVERY);
            match save(machine, act) {
                Ok(pid) => self.saver = Some(pid),
                Err(error) => report::degraded(&error),
            }
        }
        let (mut before, mut silent) = (Before::NONE, false);
        for (index, unit) in self.units.iter_mut().enumerate() {
            if before.lets_start(unit) && unit.is_due(now) {
                match spawn::start(index, unit.plan(), machine, before.ready) {
                    Ok(mut started) => {
                        if let Some(listener) = started.bus.take() {
                            self.bus = Some(Bus::new(listener, epoll));
                        }
                        unit.started(started, epoll, now);
                    }
                    Err(error) => unit.failed(&error, now),
                }
            }
            if before.ready {
                unit.release(now);
            } else {
                // Whatever it does not do by then may be for want of the one before.
                unit.excuse(now);
            }
            // The last one's counts.
            silent = unit.tend(now);
            before = Before::of(unit);
        }
        if silent {
            // Kubelet's loop stands still while its runtime fails it, and the next kubelet's would without a word
            // (k8s.io/kubernetes v1.37.2, pkg/kubelet/kubelet.go, syncLoop and SyncLoopHealthCheck). Pods outlive the restart of
            // either.
            let [containerd, _] = &mut self.units;
            containerd.blame(now);
        }
    }

    /// When the services next need the loop, in milliseconds since power-on; never is MAX.
    pub fn deadline(&self) -> Millis {
        let mut before = Before::NONE;
        let mut first = if self.writer.is_none() { self.writer_due } else { Millis::MAX };
        if self.saver.is_none() {
            first = first.min(self.save_due);
        }
        for unit in &self.units {
            if unit.pid().is_some() || before.lets_start(unit) {
                first = first.min(unit.deadline());
            }
            before = Before::of(unit);
        }
        first
    }

    /// Reads what service `index` says.
    pub fn hear(&mut self, index: usize, epoll: &Fd, now: Millis) {
        if self.units.get_mut(index).is_some_and(|unit| unit.hear(epoll, now)) {
            // Those who waited for it have their time from now on.
            self.excuse(now);
        }
    }

    /// No service could give a sign of life, or nobody was there to see it.
    pub fn excuse(&mut self, now: Millis) {
        self.units.iter_mut().for_each(|unit| unit.excuse(now));
    }

    /// When [`Supervisor::end_pods`] next has something to do, in milliseconds since power-on; never is MAX.
    pub fn pods_deadline(&self) -> Millis {
        let earliest = self.earliest();
        self.bus.as_ref().map_or(Millis::MAX, |bus| bus.deadline(earliest))
    }

    /// Handles an event of kubelet's bus.
    pub fn serve(&mut self, source: Source, epoll: &Fd, now: Millis) {
        let kubelet = self.pid(plan::KUBELET);
        if let Some(bus) = &mut self.bus {
            bus.handle(source, kubelet, epoll, now);
            self.had_pods |= bus.is_locked();
        }
    }

    /// Lets services run on that somebody stopped: there is an end to come to.
    pub fn resume(&self) {
        for pid in self.units.iter().filter_map(Unit::pid) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// There is an end to come to: what is down does not wait long for its next start.
    pub fn hurry(&mut self, now: Millis) {
        self.units.iter_mut().for_each(|unit| unit.hurry(now));
    }

    /// Has kubelet end the pods; whether it has done so. Where it is down it starts again first: nobody else knows what its
    /// pods were promised.
    pub fn end_pods(&mut self, now: Millis) -> bool {
        let earliest = self.earliest();
        !self.had_pods || self.bus.as_mut().is_some_and(|bus| bus.end_pods(earliest, now))
    }

    /// When kubelet may be told, in milliseconds since power-on; never is MAX. While it does not reach containerd it fails to
    /// end its pods, and tries again only when much of their time is gone.
    fn earliest(&self) -> Millis {
        let [containerd, kubelet] = &self.units;
        let Some(ready) = containerd.ready_since() else { return Millis::MAX };
        if kubelet.released_before(ready) { ready.saturating_add(plan::RECONNECT_AFTER) } else { ready }
    }

    /// Whether the end of process `pid` is one to note: it is a service, or serves one. All others are orphans.
    pub fn knows(&self, pid: Pid) -> bool {
        [self.saver, self.writer].contains(&Some(pid)) || self.units.iter().any(|unit| unit.knows(pid))
    }

    /// Notes the end of process `pid` if it is a service's, or the writer.
    pub fn reaped(&mut self, pid: Pid, status: WaitStatus, epoll: &Fd, now: Millis) {
        let mut before_is_ready = true;
        for (index, unit) in self.units.iter_mut().enumerate() {
            if unit.reaped(pid, status, before_is_ready, epoll, now)
                && index == plan::KUBELET
                && let Some(mut bus) = self.bus.take()
            {
                bus.close(epoll);
            }
            before_is_ready = unit.is_ready();
        }
        if self.saver == Some(pid) {
            self.saver = None;
        }
        if self.writer == Some(pid) {
            self.writer = None;
            report::line().text(c"logs' writer").process(pid).text(c" ended, starting another").send();
        }
    }
}

/// A child that does `act` on the data disk, kept from process 1 as pods are, and ends. Errors: of clone3(2).
fn save(machine: &Machine, act: fn()) -> Result<Pid> {
    if let Some(pid) = process::fork().during(c"fork")? {
        return Ok(pid);
    }
    match machine.isolation.enter() {
        Ok(()) => {
            stdio::close_others();
            act();
        }
        Err(error) => report::degraded(&error),
    }
    process::exit(0)
}
