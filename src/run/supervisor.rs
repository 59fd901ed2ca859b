//! The two services: starts what is due, hears what they say, and notes how they end.

use rustix::event::epoll;
use rustix::process::{Pid, Signal, WaitStatus, kill_process};

use super::bus::{Bus, Source};
use super::service::Service;
use super::{Token, forget, signals, sockets, spawn};
use crate::boot::Machine;
use crate::error::{During, Error};
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::t;

/// A service with its process.
struct Unit {
    service: Service,
    pid: Option<Pid>,
    notify: Option<Fd>,
    since: Millis,
}

/// All services, by index into [`plan::SERVICES`].
pub struct Supervisor {
    units: [Unit; plan::SERVICES.len()],
    /// Of kubelet's current start.
    bus: Option<Bus>,
    /// Whether kubelet ever held the inhibitor lock: before that it has no pods.
    had_pods: bool,
}

impl Supervisor {
    /// Services that were never started.
    pub const fn new() -> Supervisor {
        const UNIT: Unit = Unit { service: Service::new(), pid: None, notify: None, since: 0 };
        Supervisor { units: [UNIT; plan::SERVICES.len()], bus: None, had_pods: false }
    }

    /// The process of a service, while it runs.
    pub fn pid(&self, index: usize) -> Option<Pid> {
        self.units.get(index).and_then(|unit| unit.pid)
    }

    /// Starts each service that is due and whose predecessor is ready, and kills a start that takes too long.
    pub fn tend(&mut self, machine: &Machine, epoll: &Fd, now: Millis) {
        let mut may_start = true;
        for (index, (unit, plan)) in self.units.iter_mut().zip(&plan::SERVICES).enumerate() {
            if may_start && unit.service.is_due(now) {
                match spawn::start(index, machine) {
                    Ok(started) => {
                        if let Some(listener) = started.bus {
                            self.bus = Some(Bus::new(listener, epoll));
                        }
                        unit.started(plan, started.pid, started.notify, index, epoll, now);
                    }
                    Err(error) => unit.failed(plan, &error, now),
                }
            }
            if unit.service.is_overdue(now) {
                report::line().text(plan.name).text(c" is not ready in time, killing it").send();
                if let Some(pid) = unit.pid {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            may_start = unit.service.is_ready();
        }
    }

    /// When the services next need the loop, in milliseconds since power-on; never is MAX.
    pub fn deadline(&self) -> Millis {
        let mut may_start = true;
        let mut first = Millis::MAX;
        for unit in &self.units {
            let waits_for_other = unit.pid.is_none() && !may_start;
            if !waits_for_other {
                first = first.min(unit.service.deadline());
            }
            may_start = unit.service.is_ready();
        }
        first
    }

    /// Reads what service `index` says. One datagram: a flooded socket must not keep the loop; epoll comes back to it.
    ///
    /// Once it is ready the socket is closed: there is nothing more to hear, and a datagram can hold its reader, by a
    /// descriptor in it whose last close takes long.
    pub fn hear(&mut self, index: usize, epoll: &Fd, now: Millis) {
        let (Some(unit), Some(plan)) = (self.units.get_mut(index), plan::SERVICES.get(index)) else { return };
        let Some(socket) = &unit.notify else { return };
        if sockets::hear(socket, unit.pid).ready && unit.service.ready(now) {
            forget(epoll, &mut unit.notify);
            report::line().text(plan.name).text(c" ready").send();
        }
    }

    /// When [`Supervisor::end_pods`] next has something to do, in milliseconds since power-on; never is MAX.
    pub fn pods_deadline(&self) -> Millis {
        self.bus.as_ref().map_or(Millis::MAX, Bus::deadline)
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
        for pid in self.units.iter().filter_map(|unit| unit.pid) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Has kubelet end the pods; whether it has done so. Where it is down it starts again first: nobody else knows what its
    /// pods were promised.
    pub fn end_pods(&mut self, now: Millis) -> bool {
        !self.had_pods || self.bus.as_mut().is_some_and(|bus| bus.end_pods(now))
    }

    /// Notes the end of process `pid` if it is a service's.
    pub fn reaped(&mut self, pid: Pid, status: WaitStatus, epoll: &Fd, now: Millis) {
        for (index, (unit, plan)) in self.units.iter_mut().zip(&plan::SERVICES).enumerate() {
            if unit.pid == Some(pid) {
                unit.ended(plan, pid, status, epoll, now);
                if index == plan::KUBELET
                    && let Some(mut bus) = self.bus.take()
                {
                    bus.close(epoll);
                }
            }
        }
    }
}

impl Default for Supervisor {
    fn default() -> Supervisor {
        Supervisor::new()
    }
}

impl Unit {
    fn started(&mut self, plan: &plan::Service, pid: Pid, notify: Fd, index: usize, epoll: &Fd, now: Millis) {
        self.service.started(now);
        self.pid = Some(pid);
        self.since = now;
        let token = Token::Notify(index).data();
        if let Err(error) = epoll::add(epoll, &notify, token, epoll::EventFlags::IN).during(c"watch notify socket") {
            report::degraded(&error);
        }
        self.notify = Some(notify);
        report::line().text(c"started ").text(plan.name).process(pid).send();
    }

    fn failed(&mut self, plan: &plan::Service, error: &Error, now: Millis) {
        let mut line = report::line();
        line.text(c"start ").text(plan.name).text(c": ").error(error);
        self.try_later(&mut line, now);
    }

    fn ended(&mut self, plan: &plan::Service, pid: Pid, status: WaitStatus, epoll: &Fd, now: Millis) {
        self.pid = None;
        forget(epoll, &mut self.notify);
        let mut line = report::line();
        line.text(plan.name).process(pid).text(c" ");
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => line.text(c"exited with ").number(u64::try_from(code).unwrap_or(0)),
            (_, Some(signal)) => line.text(c"killed by ").named(t(c"SIG"), signals::name(signal), signal),
            _ => line.text(c"ended"),
        };
        line.text(c" after ").number(now.saturating_sub(self.since)).text(c"ms");
        self.try_later(&mut line, now);
    }

    /// Notes that the service is down, and sends the line that says why with when it is tried again.
    fn try_later(&mut self, line: &mut report::Line, now: Millis) {
        line.text(c", next try in ").number(self.service.ended(now)).text(c"ms").send();
    }
}
