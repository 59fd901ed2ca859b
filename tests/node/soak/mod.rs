//! The fault suite: services that are killed, and power that is cut, at random moments, as often as was asked for.

mod cuts;
mod disk;
mod kills;
mod pods;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::gate::Scenario;

/// How often the environment asks for something; `default` where it says nothing.
fn asked(name: &str, default: usize) -> usize {
    let Some(value) = std::env::var_os(name) else { return default };
    let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("{name}={value:?}: not a number above 0"))
}

/// Numbers that only look random: the same seed gives the same ones (splitmix64).
struct Random(u64);

impl Random {
    /// From the seed in the environment, else from the clock. Says which.
    fn new(scenario: &Scenario) -> Random {
        let clock = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
        let seed = std::env::var("KIOS_SOAK_SEED").map_or_else(
            |_| clock(),
            |value| value.parse().unwrap_or_else(|_| panic!("KIOS_SOAK_SEED={value}: not a number")),
        );
        scenario.note(&format!("KIOS_SOAK_SEED={seed}"));
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }

    /// One of 0 to `limit` - 1.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A time of less than `limit`, in whole milliseconds.
    fn within(&mut self, limit: Duration) -> Duration {
        Duration::from_millis(self.below(limit.as_millis() as u64))
    }
}
