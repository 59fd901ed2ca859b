//! How PID 1 is kept apart from what it starts.
//!
//! Each service enters a Landlock domain that restricts nothing but scope. Everything that descends from it then lives in
//! that domain, and the kernel denies it to look into or trace what is outside: PID 1. Signals are let through: they are how
//! pods ask for the machine's end. Decided once, at boot; from then on a service that cannot enter its domain is not started.

use rustix::io::Errno;

use super::{Step, kernel};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::landlock;

/// What was decided.
#[derive(Default)]
pub enum Isolation {
    /// The kernel cannot scope: Yama's strictest ptrace scope is all there is.
    #[default]
    PtraceScope,
    /// Services enter a domain of this ruleset.
    Landlock(Fd),
}

impl Isolation {
    /// Enters the service's domain, in its process. Errors: whatever the kernel answers but plain success, since a BPF LSM
    /// program of a pod may make the call fail or answer at will.
    pub fn enter(&self) -> Result<()> {
        let Isolation::Landlock(ruleset) = self else { return Ok(()) };
        match landlock::restrict_self(rustix::fd::AsFd::as_fd(ruleset)).during(c"landlock")? {
            0 => Ok(()),
            _ => Err(Error::new(c"landlock", Errno::PROTO)),
        }
    }
}

/// Decides by whether the kernel makes a ruleset that scopes.
pub fn decide(step: &mut Step, isolation: &mut Isolation) -> Result<()> {
    match landlock::scope_ruleset() {
        Ok(ruleset) => *isolation = Isolation::Landlock(ruleset),
        Err(errno) => {
            step.degrade(Error::new(c"landlock scope, process 1 is less isolated", errno));
            step.check(kernel::write_settings(plan::PTRACE_SCOPE));
        }
    }
    Ok(())
}
