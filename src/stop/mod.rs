//! The end of the machine: services, then everything else, then the disks, then reboot(2). Nothing here waits without a
//! limit, so whatever happens the machine ends within the sum of the plan's limits.

use rustix::fs::sync;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::system::{RebootCommand, reboot};

use crate::boot::Machine;
use crate::error::During;
use crate::plan::{self, Millis};
use crate::report;
use crate::run::{self, Left, Request, Supervisor, now};
use crate::sys::text::{Text, t};
use crate::sys::{process, signal, watchdog};

/// Stops the machine in order.
pub fn stop(machine: &Machine, services: &Supervisor, request: Request) -> ! {
    report::line().text(c"stopping for ").text(request.name()).send();
    if let Some(device) = &machine.watchdog {
        let _ = watchdog::set_timeout(device, plan::WATCHDOG_STOP);
    }
    for (index, service) in plan::SERVICES.iter().enumerate().rev() {
        if let Some(pid) = services.pid(index) {
            stop_service(service, pid);
        }
    }
    for (signal, name, limit) in [(Signal::TERM, c"TERM", plan::TERM_LIMIT), (Signal::KILL, c"KILL", plan::KILL_LIMIT)]
    {
        // Process group 1 stands for every process but this one (kill(2), pid -1).
        let _ = kill_process_group(Pid::INIT, signal);
        if wait(limit, None) {
            break;
        }
        report::line().text(c"some processes did not end on SIG").text(name).send();
    }
    run_child(t(c"unmount"), plan::UNMOUNT_LIMIT, || plan::UNMOUNTS.iter().copied().for_each(unmount_all));
    run_child(t(c"sync"), plan::SYNC_LIMIT, sync);
    report::line().text(request.name()).send();
    leave(match request {
        Request::PowerOff => RebootCommand::PowerOff,
        Request::Reboot => RebootCommand::Restart,
        Request::Halt => RebootCommand::Halt,
    })
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
        wait(plan::KILL_LIMIT, Some(pid));
    }
    let mut line = report::line();
    line.text(c"stopped ").text(service.name).text(if in_time { c"" } else { c" by SIGKILL" });
    line.text(c" ").number(now().saturating_sub(began)).text(c"ms").send();
}

/// Unmounts `path` with all that is mounted below, and again for what is mounted on it: pods may do that. Until nothing is
/// mounted there (EINVAL), but not for ever.
fn unmount_all(path: Text) {
    for _ in 0..plan::UNMOUNTS_MAX {
        if unmount(path.get(), UnmountFlags::DETACH).is_err() {
            break;
        }
    }
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
    let ended = match process::fork(None).during(c"fork") {
        Ok(None) => {
            act();
            process::exit(0)
        }
        Ok(Some(pid)) => wait(limit, Some(pid)),
        Err(error) => {
            report::degraded(&error);
            return;
        }
    };
    let mut line = report::line();
    line.text(name);
    if !ended {
        line.text(c" did not end in time, going on without (degraded)");
    }
    line.text(c" ").number(now().saturating_sub(began)).text(c"ms").send();
}
