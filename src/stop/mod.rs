//! The end of the machine: services, then everything else, then the disks, then reboot(2). Nothing here waits without a
//! limit, so whatever happens the machine ends within the sum of the plan's limits.

use rustix::event::epoll;
use rustix::fd::AsFd;
use rustix::fs::sync;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::system::{RebootCommand, reboot};

use crate::boot::{Machine, kernel_put};
use crate::error::{During, Error, Result};
use crate::plan::{self, Millis};
use crate::report;
use crate::run::{self, Left, Request, now};
use crate::sys::fd::Fd;
use crate::sys::text::{Text, t};
use crate::sys::{file, process, signal};

/// Stops the machine in order.
pub fn stop(machine: &Machine, request: Request) -> ! {
    report::line().text(c"stopping for ").text(request.name()).send();
    let reaper = Reaper::new();
    for (index, service) in plan::SERVICES.iter().enumerate().rev() {
        if let Some(pid) = machine.supervisor.pid(index) {
            stop_service(&reaper, service, pid);
        }
    }
    let _ = kill_process_group(Pid::INIT, Signal::TERM);
    if !reaper.wait(plan::TERM_LIMIT, None) {
        report::line().text(c"some processes did not end on SIGTERM").send();
    }
    kill_rest(machine);
    if !reaper.wait(plan::KILL_LIMIT, None) {
        report::line().text(c"some processes did not end on SIGKILL (degraded)").send();
    }
    reaper.run_child(t(c"unmount"), plan::UNMOUNT_LIMIT, || {
        for &path in plan::UNMOUNTS {
            if let Err(error) = unmount(path.get(), UnmountFlags::DETACH).during(path) {
                report::degraded(&error);
            }
        }
    });
    reaper.run_child(t(c"sync"), plan::SYNC_LIMIT, sync);
    report::line().text(request.name()).send();
    leave(match request {
        Request::PowerOff => RebootCommand::PowerOff,
        Request::Reboot => RebootCommand::Restart,
        Request::Halt => RebootCommand::Halt,
    })
}

/// Says what the machine cannot go on without, then restarts it after a pause.
pub fn fatal(error: Error) -> ! {
    report::line().error(&error).text(c" (fatal)").send();
    restart_after_pause()
}

/// Restarts after the plan's pause, in which the last line can be read.
pub fn restart_after_pause() -> ! {
    report::line().text(c"restarting in ").number(plan::FATAL_PAUSE / 1_000).text(c"s").send();
    let reaper = Reaper::new();
    let began = now();
    reaper.run_child(t(c"sync"), plan::SYNC_LIMIT, sync);
    // A signal ends one wait, not the pause.
    let end = began.saturating_add(plan::FATAL_PAUSE);
    while now() < end {
        reaper.pause(end.saturating_sub(now()));
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
        Reaper::new().pause(Millis::MAX);
    }
}

fn stop_service(reaper: &Reaper, service: &plan::Service, pid: Pid) {
    let began = now();
    let _ = kill_process(pid, Signal::TERM);
    let in_time = reaper.wait(service.stop_limit, Some(pid));
    if !in_time {
        let _ = kill_process(pid, Signal::KILL);
        reaper.wait(plan::KILL_LIMIT, Some(pid));
    }
    let mut line = report::line();
    line.text(c"stopped ").text(service.name).text(if in_time { c"" } else { c" by SIGKILL" });
    line.text(c" ").number(now().saturating_sub(began)).text(c"ms").send();
}

/// Kills the pods' cgroups, so that none escapes by forking, then all that is left.
fn kill_rest(machine: &Machine) {
    if let Some(root) = &machine.cgroups.root {
        for &path in plan::POD_CGROUPS {
            if let Err(error) = kill_cgroup(root, path)
                && error.errno != rustix::io::Errno::NOENT
            {
                report::degraded(&error);
            }
        }
    }
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
}

fn kill_cgroup(root: &Fd, path: Text) -> Result<()> {
    let cgroup = file::open_beneath(root.as_fd(), path.get()).during(path)?;
    kernel_put(cgroup.as_fd(), t(c"cgroup.kill"), t(c"1"))
}

/// Waits for children to end, within limits.
struct Reaper {
    epoll: Option<Fd>,
    signals: Option<Fd>,
}

impl Reaper {
    fn new() -> Reaper {
        let (epoll, signals) = (file::epoll().ok(), signal::descriptor().ok());
        if let (Some(epoll), Some(signals)) = (&epoll, &signals) {
            let _ = epoll::add(epoll, signals, epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        }
        Reaper { epoll, signals }
    }

    /// Reaps until `pid`, or every child, has ended; false when the limit came first.
    fn wait(&self, limit: Millis, pid: Option<Pid>) -> bool {
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
                self.pause(rest);
            }
        }
    }

    /// Waits for a signal, at most for `limit`. Requests are not looked at: the machine is ending.
    fn pause(&self, limit: Millis) {
        let mut event = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        if let Some(epoll) = &self.epoll {
            let _ = file::wait(epoll, &mut event, limit);
        }
        if let Some(signals) = &self.signals {
            run::read_signals(signals);
        }
    }

    /// Does in a child what the kernel may hold up for ever, and goes on after `limit` without it.
    fn run_child(&self, name: Text, limit: Millis, act: impl FnOnce()) {
        let began = now();
        let ended = match process::fork(None).during(c"fork") {
            Ok(None) => {
                act();
                process::exit(0)
            }
            Ok(Some(pid)) => self.wait(limit, Some(pid)),
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
}
