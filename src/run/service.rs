//! The state of one service, as a pure machine: events and the time go in, what is due comes out.

use crate::plan::{BACK_OFF_FIRST, BACK_OFF_LAST, Millis, STABLE, START_LIMIT};

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
        /// Whether it was killed for being late.
        killed: bool,
    },
    /// Running and ready.
    Ready {
        /// When it became ready.
        since: Millis,
    },
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

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether it is to be started now.
    pub fn is_due(&self, now: Millis) -> bool {
        matches!(self.state, State::Down { due } if due <= now)
    }

    /// It was started.
    pub fn started(&mut self, now: Millis) {
        self.state = State::Starting { since: now, killed: false };
    }

    /// It says it is ready; true the first time.
    pub fn ready(&mut self, now: Millis) -> bool {
        let first = matches!(self.state, State::Starting { .. });
        if first {
            self.state = State::Ready { since: now };
        }
        first
    }

    /// Whether its start takes too long; true once, for the caller to kill it.
    pub fn is_overdue(&mut self, now: Millis) -> bool {
        match &mut self.state {
            State::Starting { since, killed } if !*killed && now.saturating_sub(*since) >= START_LIMIT => {
                *killed = true;
                true
            }
            _ => false,
        }
    }

    /// It ended, or could not be started. Returns the wait until the next start.
    pub fn ended(&mut self, now: Millis) -> Millis {
        if matches!(self.state, State::Ready { since } if now.saturating_sub(since) >= STABLE) {
            self.back_off = BACK_OFF_FIRST;
        }
        let wait = self.back_off;
        self.back_off = wait.saturating_mul(2).min(BACK_OFF_LAST);
        self.state = State::Down { due: now.saturating_add(wait) };
        wait
    }

    /// When this service next needs the loop, if no event comes before: its next start, the end of its start's limit, or
    /// never, which is MAX.
    pub fn deadline(&self) -> Millis {
        match self.state {
            State::Down { due } => due,
            State::Starting { since, killed: false } => since.saturating_add(START_LIMIT),
            State::Starting { killed: true, .. } | State::Ready { .. } => Millis::MAX,
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

    #[test]
    fn back_off_doubles_to_its_cap() {
        let mut service = Service::new();
        let waits: Vec<_> = (0..9).map(|_| service.ended(0)).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn a_stable_service_starts_again_with_the_first_wait() {
        let mut service = Service::new();
        service.ended(0);
        service.ended(0);
        service.started(1_000);
        assert!(service.ready(2_000));
        assert_eq!(service.ended(2_000 + STABLE - 1), 1_000);
        service.started(100_000);
        assert!(service.ready(100_000));
        assert_eq!(service.ended(100_000 + STABLE), BACK_OFF_FIRST);
    }

    #[test]
    fn a_late_start_is_killed_once() {
        let mut service = Service::new();
        service.started(10);
        assert!(!service.is_overdue(START_LIMIT + 9));
        assert_eq!(service.deadline(), START_LIMIT + 10);
        assert!(service.is_overdue(START_LIMIT + 10));
        assert!(!service.is_overdue(START_LIMIT + 11));
        assert_eq!(service.deadline(), Millis::MAX);
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
        /// Whatever happens, in whatever order: a service that is down is due again within the cap, and one that runs is
        /// never due, so that it is never started twice.
        #[test]
        fn never_given_up_and_never_started_twice(events in proptest::collection::vec((0u8..4, 0u64..100_000), 0..200)) {
            let mut service = Service::new();
            let (mut now, mut running) = (0, false);
            for (event, pause) in events {
                now += pause;
                match event {
                    0 if service.is_due(now) => { prop_assert!(!running); service.started(now); running = true; }
                    1 => { prop_assert!(!service.ready(now) || running); }
                    2 if running => { let wait = service.ended(now); prop_assert!((BACK_OFF_FIRST..=BACK_OFF_LAST).contains(&wait)); running = false; }
                    _ => { let _ = service.is_overdue(now); }
                }
                prop_assert!(running || service.is_due(now + BACK_OFF_LAST));
                prop_assert!(!running || !service.is_due(Millis::MAX));
            }
        }
    }
}
