//! The state of one service, as a pure machine: events and the time go in, what is due comes out.

use crate::plan::{ABORT_LIMIT, BACK_OFF_FIRST, BACK_OFF_LAST, Millis, SILENCE_LIMIT, STABLE, START_LIMIT, START_TELL};

/// Where a service is in its life. Times are milliseconds since power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running; to be started from `due` on.
    Down {
        /// When the next start is due.
        due: Millis,
    },
    /// Running, and not yet ready.
    Starting {
        /// When it was started.
        since: Millis,
        /// When it was last said that it takes its time.
        told: Millis,
    },
    /// Running and ready.
    Ready {
        /// When it became ready.
        since: Millis,
        /// When it last gave a sign of life.
        heard: Millis,
    },
    /// Running, and told to end by SIGABRT, for which Go programs print what each goroutine does.
    Aborted {
        /// When.
        since: Millis,
    },
    /// Running, and killed: it may hang in the kernel.
    Killed {
        /// When it last was.
        since: Millis,
    },
}

/// What is to be done about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Start it.
    Start,
    /// Say that it still starts.
    Tell,
    /// Abort it, since it did not become ready.
    AbortLate,
    /// Abort it, since it gave no sign of life.
    AbortSilent,
    /// Abort it, since another one cannot work with it.
    AbortBlamed,
    /// Kill it.
    Kill,
}

/// A service's state and its next back-off.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    state: State,
    back_off: Millis,
}

impl Service {
    /// A service that was never started and is due at once.
    pub const fn new() -> Service {
        Service { state: State::Down { due: 0 }, back_off: BACK_OFF_FIRST }
    }

    /// Since when it is ready, in milliseconds since power-on, if it is.
    pub fn ready_since(&self) -> Option<Millis> {
        if let State::Ready { since, .. } = self.state { Some(since) } else { None }
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    /// It was started.
    pub fn started(&mut self, now: Millis) {
        self.state = State::Starting { since: now, told: now };
    }

    /// It says it is ready; true the first time.
    pub fn ready(&mut self, now: Millis) -> bool {
        let first = matches!(self.state, State::Starting { .. });
        if first {
            self.state = State::Ready { since: now, heard: now };
        }
        first
    }

    /// It gave a sign of life.
    pub fn heard(&mut self, now: Millis) {
        if let State::Ready { heard, .. } = &mut self.state {
            *heard = now;
        }
    }

    /// It cannot be blamed for what it did not do until now.
    pub fn excuse(&mut self, now: Millis) {
        self.heard(now);
        if let State::Starting { since, told } = &mut self.state {
            (*since, *told) = (now, now);
        }
    }

    /// Another one is silent: it is to blame.
    pub fn blame(&mut self, now: Millis) -> Due {
        if !self.is_ready() {
            return Due::Nothing;
        }
        self.credit(now);
        self.state = State::Aborted { since: now };
        Due::AbortBlamed
    }

    /// What is due by now; once, but for a start.
    pub fn due(&mut self, now: Millis) -> Due {
        if now < self.deadline() {
            return Due::Nothing;
        }
        self.credit(now);
        let (due, state) = match self.state {
            State::Down { .. } => (Due::Start, self.state),
            State::Starting { since, .. } if now < since.saturating_add(START_LIMIT) => {
                (Due::Tell, State::Starting { since, told: now })
            }
            State::Starting { .. } => (Due::AbortLate, State::Aborted { since: now }),
            State::Ready { .. } => (Due::AbortSilent, State::Aborted { since: now }),
            State::Aborted { .. } | State::Killed { .. } => (Due::Kill, State::Killed { since: now }),
        };
        self.state = state;
        due
    }

    /// It ended, or could not be started. Returns the wait until the next start; none where it is not to blame.
    pub fn ended(&mut self, now: Millis, blamed: bool) -> Millis {
        self.credit(now);
        let wait = if blamed { self.back_off } else { 0 };
        if blamed {
            self.back_off = wait.saturating_mul(2).min(BACK_OFF_LAST);
        }
        self.state = State::Down { due: now.saturating_add(wait) };
        wait
    }

    /// It is no longer ready: having been so for long, it starts anew as if for the first time.
    fn credit(&mut self, now: Millis) {
        if matches!(self.state, State::Ready { since, .. } if now.saturating_sub(since) >= STABLE) {
            self.back_off = BACK_OFF_FIRST;
        }
    }

    /// Its next start is due after the first back-off at the latest.
    pub fn hurry(&mut self, now: Millis) {
        if let State::Down { due } = &mut self.state {
            *due = (*due).min(now.saturating_add(BACK_OFF_FIRST));
        }
    }

    /// When something is next due, if no event comes before; never is MAX.
    pub fn deadline(&self) -> Millis {
        match self.state {
            State::Down { due } => due,
            State::Starting { since, told } => since.saturating_add(START_LIMIT).min(told.saturating_add(START_TELL)),
            State::Ready { heard, .. } => heard.saturating_add(SILENCE_LIMIT),
            State::Aborted { since } => since.saturating_add(ABORT_LIMIT),
            State::Killed { since } => since.saturating_add(START_TELL),
        }
    }
}

impl Default for Service {
    fn default() -> Service {
        Service::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A service that is ready since `now`.
    fn ready_at(now: Millis) -> Service {
        let mut service = Service::new();
        service.started(now);
        assert!(service.ready(now));
        service
    }

    #[test]
    fn back_off_doubles_to_its_cap() {
        let mut service = Service::new();
        let waits: Vec<_> = (0..9).map(|_| service.ended(0, true)).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn a_stable_service_that_hangs_starts_again_with_the_first_wait() {
        for blamed in [false, true] {
            let mut service = Service::new();
            for _ in 0..8 {
                service.ended(0, true);
            }
            service.started(0);
            assert!(service.ready(0));
            let end = STABLE.max(SILENCE_LIMIT);
            assert_ne!(if blamed { service.blame(end) } else { service.due(end) }, Due::Nothing);
            assert_eq!(service.ended(end + ABORT_LIMIT, true), BACK_OFF_FIRST);
        }
    }

    #[test]
    fn who_hurries_waits_no_longer_than_the_first_time() {
        let mut service = Service::new();
        for _ in 0..8 {
            service.ended(0, true);
        }
        service.hurry(1_000);
        assert_eq!(service.deadline(), 1_000 + BACK_OFF_FIRST);
        // Nor does it wait again.
        service.hurry(1_100);
        assert_eq!(service.deadline(), 1_000 + BACK_OFF_FIRST);
    }

    #[test]
    fn a_stable_service_starts_again_with_the_first_wait() {
        let mut service = Service::new();
        service.ended(0, true);
        service.ended(0, true);
        service.started(1_000);
        assert!(service.ready(2_000));
        assert_eq!(service.ended(2_000 + STABLE - 1, true), 1_000);
        service.started(100_000);
        assert!(service.ready(100_000));
        assert_eq!(service.ended(100_000 + STABLE, true), BACK_OFF_FIRST);
    }

    #[test]
    fn an_end_that_is_not_its_fault_costs_nothing() {
        let mut service = Service::new();
        assert_eq!(service.ended(0, true), 250);
        service.started(300);
        assert_eq!(service.ended(400, false), 0);
        assert_eq!(service.due(400), Due::Start);
        service.started(400);
        assert_eq!(service.ended(500, true), 500);
    }

    #[test]
    fn a_late_start_is_told_then_aborted_then_killed() {
        let mut service = Service::new();
        service.started(10);
        assert_eq!(service.due(9 + START_TELL), Due::Nothing);
        for tell in 1..START_LIMIT / START_TELL {
            assert_eq!(service.due(10 + tell * START_TELL), Due::Tell);
            assert_eq!(service.due(10 + tell * START_TELL), Due::Nothing);
        }
        let late = 10 + START_LIMIT;
        assert_eq!(service.deadline(), late);
        assert_eq!(service.due(late - 1), Due::Nothing);
        assert_eq!(service.due(late), Due::AbortLate);
        assert!(!service.ready(late), "it is too late");
        assert_eq!(service.due(late + ABORT_LIMIT - 1), Due::Nothing);
        assert_eq!(service.due(late + ABORT_LIMIT), Due::Kill);
        let killed = late + ABORT_LIMIT;
        assert_eq!(service.due(killed + START_TELL - 1), Due::Nothing);
        assert_eq!(service.due(killed + START_TELL), Due::Kill, "again");
        assert_eq!(service.due(killed + START_TELL), Due::Nothing);
    }

    #[test]
    fn an_excused_start_has_its_time_anew() {
        let mut service = Service::new();
        service.started(10);
        service.excuse(START_LIMIT);
        assert_eq!(service.due(START_LIMIT + START_TELL - 1), Due::Nothing);
        assert_eq!(service.due(START_LIMIT + START_TELL), Due::Tell);
        assert_eq!(service.due(2 * START_LIMIT), Due::AbortLate);
        let mut down = Service::new();
        down.excuse(1);
        assert_eq!(down.due(1), Due::Start);
    }

    #[test]
    fn silence_counts_from_the_last_sign_of_life() {
        let mut service = ready_at(100);
        assert_eq!(service.due(99 + SILENCE_LIMIT), Due::Nothing);
        service.heard(90 + SILENCE_LIMIT);
        let last = 90 + 2 * SILENCE_LIMIT;
        assert_eq!((service.due(last - 1), service.due(last)), (Due::Nothing, Due::AbortSilent));
        assert!(!service.is_ready());
        // A sign of life that comes too late does not count.
        service.heard(last + 1);
        assert_eq!(service.due(last + ABORT_LIMIT), Due::Kill);
    }

    #[test]
    fn ready_counts_once_and_only_while_starting() {
        let mut service = Service::new();
        assert!(!service.ready(1));
        service.started(1);
        assert!(service.ready(2));
        assert!(!service.ready(3));
        assert!(service.is_ready());
    }

    proptest! {
        /// Whatever happens, in whatever order, with the clock of a loop that comes by at each deadline or later: a service
        /// that is down is due again within the cap; one that runs is never started twice; one that is neither ready nor
        /// heard of nor excused is killed within its limits; and the loop is never asked to come by at a time that has passed
        /// for nothing.
        #[test]
        fn never_given_up_never_started_twice_never_left_hanging(
            events in proptest::collection::vec((0u8..8, 0u64..100_000), 0..300)
        ) {
            let mut service = Service::new();
            let (mut now, mut running, mut quiet, mut killed) = (0, false, 0, false);
            for (event, pause) in events {
                now += pause;
                match event {
                    0 => { let ready = service.ready(now); prop_assert!(!ready || running); if ready { quiet = now; } }
                    1 if running && service.is_ready() => { service.heard(now); quiet = now; }
                    4 => { service.excuse(now); quiet = now; }
                    5 => {
                        let ready = service.is_ready();
                        prop_assert_eq!(service.blame(now), if ready { Due::AbortBlamed } else { Due::Nothing });
                    }
                    2 | 3 if running => {
                        let wait = service.ended(now, event == 2);
                        let waits = if event == 2 { BACK_OFF_FIRST..=BACK_OFF_LAST } else { 0..=0 };
                        prop_assert!(waits.contains(&wait));
                        running = false;
                    }
                    _ => {}
                }
                let before = service.deadline();
                match service.due(now) {
                    Due::Start => { prop_assert!(!running && before <= now); service.started(now); running = true; killed = false; quiet = now; }
                    Due::Kill => { prop_assert!(running && before <= now); killed = true; }
                    Due::Nothing => prop_assert!(before > now),
                    Due::Tell | Due::AbortLate | Due::AbortSilent => prop_assert!(running && before <= now),
                    Due::AbortBlamed => prop_assert!(false),
                }
                prop_assert!(service.deadline() > now);
                if running {
                    prop_assert!(killed || service.deadline() <= quiet.max(now) + START_LIMIT + ABORT_LIMIT);
                } else {
                    prop_assert!(service.deadline() <= now + BACK_OFF_LAST);
                }
            }
        }
    }
}
