//! From the kernel's hand-over to "containerd started": an ordered list of steps, one concern a file.
//!
//! A step that returns an error ends the boot; whatever else fails makes the machine do with less and is told to
//! [`Step`]. Each step's line has its place, its name and its time: that log is the boot-time benchmark.

mod cgroups;
mod console;
mod data;
mod devices;
pub mod formats;
pub mod gpt;
mod identity;
pub mod inputs;
mod isolation;
mod kernel;
pub mod kubeconfig;
mod modules;
mod mounts;
mod partition;
mod programs;
mod root;
mod seed;

use core::ffi::CStr;
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use rustix::io::write;
use rustix::process::{Pid, Signal, getpid, kill_process};

pub use cgroups::Cgroups;
pub use data::Disk;
pub use identity::Identity;
pub use isolation::Isolation;
pub use kernel::put as kernel_put;
pub use mounts::detached;
pub use programs::Programs;

use crate::error::{During, Error, Result};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::stdio::{self, Fixed};
use crate::sys::text::{Text, t};
use crate::sys::{clock, file, process};

/// What boot leaves to the main loop: descriptors opened before anything else ran.
pub struct Machine {
    /// Where the services' programs and configuration are.
    pub programs: Programs,
    /// The services' cgroups.
    pub cgroups: Cgroups,
    /// How PID 1 is kept apart from what it starts.
    pub isolation: Isolation,
    /// The hardware watchdog, where there is one.
    pub watchdog: Option<Fd>,
    /// The disk that /var is on, where there is one.
    pub disk: Option<Disk>,
    /// Who it is.
    pub identity: Identity,
}

/// A running step: collects what it had to do without.
pub struct Step {
    first: Option<Error>,
}

impl Step {
    /// Keeps `result`'s value; notes its error as something the machine does without. The first goes into the step's
    /// line, the others get lines of their own.
    pub fn check<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.degrade(error);
                None
            }
        }
    }

    /// Notes something the machine does without.
    pub fn degrade(&mut self, error: Error) {
        match self.first {
            None => self.first = Some(error),
            Some(_) => report::degraded(&error),
        }
    }
}

type Run = fn(&mut Step, &mut Machine) -> Result<()>;

/// The boot, in order.
const STEPS: [(Text, Run); 12] = [
    (t(c"console"), |step, _| console::open(step)),
    (t(c"root"), |step, machine| root::take(step, &mut machine.programs)),
    (t(c"kernel-root"), |step, _| root::confine_kernel(step)),
    (t(c"namespace"), |step, _| mounts::make_private(step)),
    (t(c"mounts"), |step, _| mounts::mount_all(step).map(|()| console::leave_redirection())),
    (t(c"programs"), |step, machine| programs::check(step, &mut machine.programs)),
    (t(c"modules"), |step, machine| modules::load(step, &mut machine.watchdog)),
    (t(c"kernel"), |step, _| kernel::set(step)),
    (t(c"data"), |step, machine| data::mount(step, &mut machine.disk)),
    (t(c"identity"), |step, machine| identity::set(step, machine)),
    (t(c"cgroups"), |step, machine| cgroups::make(step, &mut machine.cgroups)),
    (t(c"isolation"), |step, machine| isolation::decide(step, &mut machine.isolation)),
];

/// Opens the directory `path`. Errors: of open(2).
fn directory(at: BorrowedFd<'_>, path: Text) -> Result<Fd> {
    file::open(at, path.get(), OFlags::RDONLY | OFlags::DIRECTORY).during(path)
}

/// Names of the boot steps, in order: README lists them.
pub fn step_names() -> impl Iterator<Item = &'static CStr> {
    STEPS.iter().map(|(name, _)| name.get())
}

/// Ends the process where it is not process 1. As poweroff or reboot, which the kernel runs (orderly_poweroff), it asks
/// process 1 for that by signal, as anybody may who has the right to. By any other name it says so and touches nothing.
pub fn refuse_unless_first() {
    if getpid().is_init() {
        return;
    }
    let signal = match &process::name() {
        b"poweroff" => Signal::TERM,
        b"reboot\0\0" => Signal::INT,
        _ => refuse(b"kios: init does nothing unless it is process 1\n"),
    };
    match kill_process(Pid::INIT, signal) {
        Ok(()) => process::exit(0),
        Err(_) => refuse(b"kios: process 1 takes no signal from you\n"),
    }
}

fn refuse(why: &[u8]) -> ! {
    let _ = write(stdio::get(Fixed::Error), why);
    process::exit(1)
}

/// Runs the steps. None after one without which the machine cannot go on; its line says why.
pub fn boot() -> Option<Machine> {
    let mut machine = Machine {
        programs: Programs::default(),
        cgroups: Cgroups::default(),
        isolation: Isolation::default(),
        watchdog: None,
        disk: None,
        identity: Identity::default(),
    };
    for (at, (name, run)) in (1u64..).zip(STEPS) {
        let began = clock::since_power_on();
        let mut step = Step { first: None };
        let result = run(&mut step, &mut machine);
        let ended = clock::since_power_on();
        let mut line = report::at(ended);
        line.number(at).text(c"/").number(STEPS.len() as u64).text(c" ").text(name);
        if let Err(error) = result {
            line.text(c": ").error(&error).text(c" (fatal)").send();
            return None;
        }
        line.text(c" ").number(ended.saturating_sub(began)).text(c"us");
        if let Some(error) = &step.first {
            line.text(c" (degraded: ").error(error).text(c")");
        }
        line.send();
    }
    Some(machine)
}
