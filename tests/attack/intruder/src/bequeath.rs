//! What the children of another process inherit, as far as root may change it there.

use std::fs;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::{errno, say};

/// Lowers all that can be.
pub fn all(pid: Pid) -> nix::Result<()> {
    for number in 0..16u32 {
        // As low as a program may still start with.
        let low = match number {
            libc::RLIMIT_STACK | libc::RLIMIT_AS | libc::RLIMIT_DATA => continue,
            _ => 1000u64,
        };
        let limit = [low, low];
        // SAFETY: the kernel reads a struct rlimit64.
        let set = unsafe { libc::syscall(libc::SYS_prlimit64, pid.as_raw(), number, limit.as_ptr(), 0usize) };
        say(&format!("limit {number}"), Errno::result(set));
    }
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads one struct.
    say("schedule", Errno::result(unsafe { libc::sched_setscheduler(pid.as_raw(), libc::SCHED_BATCH, &parameter) }));
    // SAFETY: no memory is passed.
    say("nice", Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.as_raw().cast_unsigned(), 5) }));
    // IOPRIO_WHO_PROCESS; IOPRIO_CLASS_BE, 7.
    // SAFETY: no memory is passed.
    say("I/O class", Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, pid.as_raw(), 2 << 13 | 7) }));
    let mut one = CpuSet::new();
    one.set(0)?;
    say("processors", sched_setaffinity(pid, &one));
    for (file, value) in [("oom_score_adj", "500"), ("coredump_filter", "0"), ("timerslack_ns", "70000")] {
        say(file, fs::write(format!("/proc/{pid}/{file}"), value).map_err(|error| errno(&error)));
    }
    Ok(())
}
