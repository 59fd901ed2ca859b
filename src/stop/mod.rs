//! The end of the machine: services, then everything else, then the disks, then reboot(2). Nothing here waits without a
//! limit, so whatever happens the machine ends within the sum of the plan's limits.

mod mounts;

use rustix::fs::sync;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::system::{RebootCommand, reboot};

use crate::boot::Machine;
use crate::error::{During, Error, Result};
use crate::log;
use crate::plan::{self, Millis};
use crate::report;
use crate::run::{self, Ending, Left, Request, Supervisor, now};
use crate::state;
use crate::sys::text::{Text, t};
use crate::sys::{process, signal, stdio, watchdog};

/// Stops the machine in order, once its pods have ended or were given up.
pub fn stop(mut machine: Machine, services: &Supervisor, ending: Ending) -> ! {
    let end = ending.since.saturating_add(plan::STOP_SUM);
    run::let_fork();
    if let Some(device) = &machine.watchdog {
        watchdog::set_timeout(device, plan::WATCHDOG_STOP);
    }
    for (index, service) in plan::SERVICES.iter().enumerate().rev() {
        if let Some(pid) = services.pid(index) {
            stop_service(service, pid);
        }
    }
    // What is said from here on is not in init's log: the writer ends too.
    log::close();
    end_processes();
    run_child(t(c"save"), plan::SAVE_LIMIT, state::save);
    // What the phases before did not take is the disks'. A watchdog that refused the longer time-out is fed once for each:
    // that is still an end.
    feed(&machine);
    run_child(t(c"unmount"), end.saturating_sub(now()).saturating_sub(plan::SYNC_LIMIT), mounts::unmount_all);
    feed(&machine);
    run_child(t(c"sync"), end.saturating_sub(now()), sync);
    report::line().text(ending.request.name()).send();
    leave(match ending.request {
        Request::PowerOff => RebootCommand::PowerOff,
        Request::Reboot => RebootCommand::Restart,
        Request::Halt => {
            // Nobody feeds a halted machine's watchdog. V lets the device stop once it is closed.
            if let Some(device) = machine.watchdog.take() {
                watchdog::release(&device);
            }
            RebootCommand::Halt
        }
    })
}

fn feed(machine: &Machine) {
    if let Some(device) = &machine.watchdog {
        watchdog::feed(device);
    }
}

/// Restarts after the plan's pause, in which the line that says why can be read.
pub fn restart_after_pause() -> ! {
    report::line().text(c"restarting in ").number(plan::FATAL_PAUSE / 1_000).text(c"s").send();
    let end = now().saturating_add(plan::FATAL_PAUSE);
    run_child(t(c"sync"), plan::SYNC_LIMIT, sync);
    // A signal ends one wait, not the pause.
    while now() < end {
        signal::wait(end.saturating_sub(now()));
    }
    restart_now()
}

/// Restarts the machine at once.
pub fn restart_now() -> ! {
    leave(RebootCommand::Restart)
}

fn leave(command: RebootCommand) -> ! {
    if let Err(error) = reboot(command).during(c"reboot") {
        report::line().error(&error).send();
    }
    // Only where the kernel refuses. PID 1 must not return, and must not spin.
    loop {
        signal::wait(Millis::MAX);
    }
}

fn stop_service(service: &plan::Service, pid: Pid) {
    let began = now();
    if kill_process(pid, Signal::TERM).is_err() {
        // Reaped already, with another's end.
        return;
    }
    let in_time = wait(plan::STOP_LIMIT, Some(pid));
    if !in_time {
        let _ = kill_process(pid, Signal::KILL);
        wait(plan::STOP_KILL_LIMIT, Some(pid));
    }
    let mut line = report::line();
    line.text(c"stopped ").text(service.name).text(if in_time { c"" } else { c" by SIGKILL" }).took(began);
}

/// Ends what is left: containers whose kubelet could not, shims, strays. The kernel goes through the list of all processes
/// while none can be added, so that SIGKILL gets a fork bomb whole, in whichever cgroups it is (kill(2), pid -1).
fn end_processes() {
    let began = now();
    let mut ended = false;
    for (signal, name, limit) in [(Signal::TERM, c"TERM", plan::TERM_LIMIT), (Signal::KILL, c"KILL", plan::KILL_LIMIT)]
    {
        // Process group 1 stands for every process but this one.
        let _ = kill_process_group(Pid::INIT, signal);
        // One that was stopped is to end too.
        let _ = kill_process_group(Pid::INIT, Signal::CONT);
        ended = wait(limit, None);
        if ended {
            break;
        }
        report::line().text(c"some processes did not end on SIG").text(name).send();
    }
    report::phase(t(c"processes"), began, ended);
}

/// Reaps until `pid`, or every child, has ended; false when the limit came first. Requests are not looked at: the machine
/// is ending.
fn wait(limit: Millis, pid: Option<Pid>) -> bool {
    let end = now().saturating_add(limit);
    loop {
        let mut seen = false;
        let left = run::reap(|reaped, _| seen |= Some(reaped) == pid);
        if seen || left == Left::None {
            return true;
        }
        let rest = end.saturating_sub(now());
        if rest == 0 {
            return false;
        }
        if left == Left::Running {
            signal::wait(rest);
        }
    }
}

/// Does in a child what the kernel may hold up for ever, and goes on after `limit` without it.
fn run_child(name: Text, limit: Millis, act: impl FnOnce()) {
    let began = now();
    match fork(act) {
        Ok(pid) => report::phase(name, began, wait(limit, Some(pid))),
        Err(error) => report::degraded(&Error::new(name, error.errno)),
    }
}

/// A child that does `act`, and ends. Errors: of clone3(2).
fn fork(act: impl FnOnce()) -> Result<Pid> {
    match process::fork().during(c"fork")? {
        Some(pid) => Ok(pid),
        None => {
            // One that hangs must not keep a halted machine's watchdog open.
            stdio::close_others();
            act();
            process::exit(0)
        }
    }
}
