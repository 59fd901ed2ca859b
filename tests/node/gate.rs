//! What keeps the scenarios of one run apart, and what they report.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::vm::Console;

/// What the emulator at times dies of, in a kernel that did nothing wrong: its threads race over a patched instruction.
pub const FLAKE: &str = "Oops: int3";

/// How many small machines run at once; one big one takes all the room.
pub const ROOM: usize = 3;
static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The consoles of one scenario's machines.
pub struct Scenario {
    name: &'static str,
    consoles: Mutex<Vec<Arc<Console>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scenario {
    /// Remembers a console, to be looked at should the scenario fail.
    pub fn watch(&self, console: Arc<Console>) {
        lock(&self.consoles).push(console);
    }

    /// Says what was seen, past the test harness, which keeps the output of tests that pass to itself.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{}: {text}", self.name);
    }

    fn hit_flake(&self) -> bool {
        lock(&self.consoles).iter().any(|console| console.has(FLAKE))
    }
}

struct Slot(usize);

impl Slot {
    fn take(weight: usize) -> Slot {
        let (taken, freed) = &TAKEN;
        let mut now = lock(taken);
        while *now + weight > ROOM {
            now = freed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        *now += weight;
        Slot(weight)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *lock(&TAKEN.0) -= self.0;
        TAKEN.1.notify_all();
    }
}

/// Runs a scenario that needs `weight` of [`ROOM`], as [`attempt`] does.
pub fn scenario(name: &'static str, weight: usize, body: impl Fn(&Scenario)) {
    let _slot = Slot::take(weight);
    attempt(name, body);
}

/// How often a scenario is tried: one boot in thirty or so meets [`FLAKE`], and a run has more than a hundred.
const ATTEMPTS: usize = 3;

/// Runs a scenario in the room that the caller has; again where the one before died of [`FLAKE`], and of nothing else.
pub fn attempt<R>(name: &'static str, body: impl Fn(&Scenario) -> R) -> R {
    static RETRIES: AtomicUsize = AtomicUsize::new(0);
    let scenario = Scenario { name, consoles: Mutex::default() };
    for _ in 1..ATTEMPTS {
        match catch_unwind(AssertUnwindSafe(|| body(&scenario))) {
            Ok(result) => return result,
            Err(panic) if !scenario.hit_flake() => resume_unwind(panic),
            Err(_) => {}
        }
        let number = RETRIES.fetch_add(1, Ordering::Relaxed) + 1;
        scenario.note(&format!("once more, since the emulator died of {FLAKE:?} (retry {number} of this run)"));
        lock(&scenario.consoles).clear();
    }
    body(&scenario)
}
