//! The main loop: one epoll on signals, notify sockets, kubelet's bus, the power button and a timer, and the only place that feeds
//! the watchdog while the machine runs.

pub mod bus;
pub mod dbus;
pub mod liveness;
pub mod logs;
pub mod power;
pub mod records;
pub mod service;
pub mod signals;
pub mod sockets;
pub mod spawn;
mod supervisor;
mod trouble;
mod unit;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use bus::Source;
pub use signals::Request;
pub use spawn::let_fork;
pub use supervisor::Supervisor;

use crate::boot::Machine;
use crate::error::{During, Error, Result};
use crate::plan::{self, Millis};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::t;
use crate::sys::{clock, file, signal, watchdog};

/// What an event of the loop is about.
#[derive(Clone, Copy)]
pub enum Token {
    /// Signals are pending.
    Signals,
    /// A service says something; by index.
    Notify(usize),
    /// The bus has something to do.
    Bus(Source),
    /// A deadline has come.
    Timer,
    /// The kernel found an error in the data disk's file system.
    Disk,
    /// An input device has events; by index.
    Input(usize),
}

const SIGNALS: u64 = 0;
/// Numbers of input devices in epoll's data begin here; of the bus's descriptors, there; of services one above zero.
const INPUT_BASE: usize = 16;
const DISK: usize = 15;
const TIMER: usize = 14;
const BUS_BASE: usize = 8;

impl Token {
    /// As epoll's data.
    pub fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Signals => SIGNALS,
            Token::Notify(index) => index as u64 + 1,
            Token::Bus(source) => BUS_BASE as u64 + source as u64,
            Token::Timer => TIMER as u64,
            Token::Disk => DISK as u64,
            Token::Input(index) => (INPUT_BASE + index) as u64,
        })
    }

    fn from_data(data: epoll::EventData) -> Token {
        match usize::try_from(data.u64()).unwrap_or(0) {
            0 => Token::Signals,
            number if number < BUS_BASE => Token::Notify(number - 1),
            BUS_BASE => Token::Bus(Source::Listener),
            number if number == BUS_BASE + 1 => Token::Bus(Source::Peer),
            number if number < TIMER => Token::Bus(Source::Lock),
            TIMER => Token::Timer,
            DISK => Token::Disk,
            number => Token::Input(number - INPUT_BASE),
        }
    }
}

/// Closes a descriptor that is watched. Closing alone would not do: a forked child of init may still hold a copy.
fn forget(epoll: &Fd, descriptor: &mut Option<Fd>) {
    if let Some(descriptor) = descriptor.take() {
        let _ = epoll::delete(epoll, &descriptor);
    }
}

/// Milliseconds since power-on.
pub fn now() -> Millis {
    clock::since_power_on() / 1_000
}

/// An end that was asked for.
#[derive(Clone, Copy)]
pub struct Ending {
    /// Which.
    pub request: Request,
    /// When, in milliseconds since power-on.
    pub since: Millis,
}

impl Ending {
    fn begin(request: Request) -> Ending {
        report::line().text(c"stopping for ").text(request.name()).send();
        Ending { request, since: now() }
    }

    /// Says whether its pods ended or were given up.
    fn without_pods(self, ended: bool) -> Ending {
        report::phase(t(c"pods"), self.since, ended);
        self
    }

    /// When its pods are given up.
    fn deadline(&self) -> Millis {
        self.since.saturating_add(plan::PODS_LIMIT)
    }
}

/// Starts the services and keeps them alive until an end is asked for and the pods have ended: a second request, or the
/// plan's limit, gives them up. None where the loop cannot run; a line says why.
pub fn run(machine: &Machine) -> Option<(Supervisor, Ending)> {
    let mut services = Supervisor::new(machine.disk.is_some());
    match watch(machine, &mut services) {
        Ok(ending) => Some((services, ending)),
        Err(error) => {
            report::line().error(&error).text(c" (fatal)").send();
            None
        }
    }
}

fn watch(machine: &Machine, services: &mut Supervisor) -> Result<Ending> {
    let epoll = file::epoll().during(c"epoll")?;
    let inputs = power::open();
    let signals = signal::descriptor(signals::HEARD).during(c"signalfd")?;
    epoll::add(&epoll, &signals, Token::Signals.data(), epoll::EventFlags::IN).during(c"watch signals")?;
    for (index, input) in inputs.iter().enumerate() {
        let Some(input) = input else { continue };
        let added = epoll::add(&epoll, input, Token::Input(index).data(), epoll::EventFlags::IN);
        if let Err(error) = added.during(c"watch input") {
            report::degraded(&error);
        }
    }
    let disk = machine.disk.as_ref().and_then(|disk| disk.errors.as_ref());
    if let Some(errors) = disk
        && let Err(error) = epoll::add(&epoll, errors, Token::Disk.data(), epoll::EventFlags::IN).during(c"watch disk")
    {
        report::degraded(&error);
    }
    let timer = clock::timer().during(c"timer")?;
    epoll::add(&epoll, &timer, Token::Timer.data(), epoll::EventFlags::IN).during(c"watch timer")?;
    let mut feeding = machine.watchdog.as_ref().map(Feeding::begin);
    services.tend(machine, &epoll, now());
    let (mut more_to_reap, mut ending): (bool, Option<Ending>) = (false, None);
    // One time for each round: what stands still within it is seen at the next. A round that only reaps orphans has that of the
    // one before: what is due comes as an event.
    let (mut woke, mut armed) = (now(), Millis::MAX);
    loop {
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; 8];
        let pods = ending.map_or(Millis::MAX, |ending| ending.deadline().min(services.pods_deadline()));
        let mut deadline = services.deadline().min(pods);
        if let Some(feeding) = &mut feeding {
            deadline = deadline.min(feeding.feed(woke));
        }
        if deadline != armed {
            clock::set_timer(&timer, deadline);
            armed = deadline;
        }
        let planned = deadline.max(woke);
        let got = match file::wait(&epoll, &mut events, more_to_reap) {
            Ok(got) => got,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(Error::new(c"epoll", errno)),
        };
        let events = events.get(..got).unwrap_or(&[]);
        if events.iter().any(|event| event.data.u64() != SIGNALS) {
            woke = now();
        }
        let mut asked = None;
        for event in events {
            match Token::from_data(event.data) {
                Token::Signals => {
                    signal::read(&signals, |number| asked = asked.or(signals::request(number)));
                    // Whichever it was: a flood of one must not hide that a child ended.
                    more_to_reap = true;
                }
                Token::Notify(index) => services.hear(index, &epoll, woke),
                Token::Bus(source) => services.serve(source, &epoll, woke),
                Token::Timer => {}
                Token::Disk => {
                    // The first says it all: from then on nothing is written.
                    let _ = disk.map(|errors| epoll::delete(&epoll, errors));
                    report::line().text(c"data disk has an error, and is written no more (degraded)").send();
                }
                Token::Input(index) => {
                    let Some(Some(input)) = inputs.get(index) else { continue };
                    match power::pressed(input) {
                        Ok(true) => asked = asked.or(Some(Request::PowerOff)),
                        Ok(false) | Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(_) => {
                            let _ = epoll::delete(&epoll, input);
                        }
                    }
                }
            }
        }
        if asked.is_some() {
            woke = now();
        }
        if more_to_reap {
            let left = reap(|pid, status| {
                if services.knows(pid) {
                    woke = now();
                    services.reaped(pid, status, &epoll, woke);
                }
            });
            more_to_reap = left == Left::Ended;
        }
        if woke > planned.saturating_add(plan::OVERSLEPT) {
            // The machine slept, or stood still: what services said meanwhile is yet to be read.
            services.excuse(woke);
        }
        services.tend(machine, &epoll, woke);
        match (ending, asked) {
            (None, Some(request)) => {
                ending = Some(Ending::begin(request));
                services.resume();
            }
            (Some(ending), Some(_)) if woke >= ending.since.saturating_add(plan::AGAIN_AFTER) => {
                return Ok(ending.without_pods(false));
            }
            _ => {}
        }
        if let Some(ending) = ending {
            services.hurry(woke);
            if services.end_pods(woke) {
                return Ok(ending.without_pods(true));
            }
            if woke >= ending.deadline() {
                return Ok(ending.without_pods(false));
            }
        }
    }
}

/// The hardware watchdog while the machine runs. What is fed is a loop that came by: not one that is stuck.
struct Feeding<'a> {
    device: &'a Fd,
    every: Millis,
    due: Millis,
}

impl Feeding<'_> {
    fn begin(device: &Fd) -> Feeding<'_> {
        let seconds = watchdog::set_timeout(device, plan::WATCHDOG_RUN);
        report::line().text(c"watchdog ").number(seconds).text(c"s").send();
        Feeding { device, every: feed_every(seconds), due: 0 }
    }

    /// Feeds it if that is due; when it is due again.
    fn feed(&mut self, now: Millis) -> Millis {
        if now >= self.due {
            watchdog::feed(self.device);
            self.due = now.saturating_add(self.every);
        }
        self.due
    }
}

/// How often a watchdog is fed that acts after that many seconds, in milliseconds. One that does not say so is taken for the
/// shortest there are.
fn feed_every(seconds: u64) -> Millis {
    seconds.max(1).saturating_mul(1_000) / plan::WATCHDOG_FEEDS
}

/// What is left after a batch of reaping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Perhaps more that have ended.
    Ended,
    /// Children that run.
    Running,
    /// No child at all.
    None,
}

/// Reaps up to a batch of children with one wait4 each.
pub fn reap(mut each: impl FnMut(Pid, WaitStatus)) -> Left {
    for _ in 0..plan::REAP_BATCH {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => each(pid, status),
            Ok(None) => return Left::Running,
            // ECHILD.
            Err(_) => return Left::None,
        }
    }
    Left::Ended
}

#[cfg(test)]
mod tests {
    use super::feed_every;

    #[test]
    fn a_watchdog_is_fed_in_time_whatever_its_own() {
        assert_eq!(feed_every(60), 15_000);
        assert_eq!((feed_every(2), feed_every(1), feed_every(0)), (500, 250, 250));
    }
}
