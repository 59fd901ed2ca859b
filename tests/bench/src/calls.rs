//! Counting system calls by the kernel's tracepoint. strace would stop the process at each: an init so slow finds more
//! ended children at a time, and makes fewer calls.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

use crate::process::Process;

/// The tracepoint that every system call passes.
pub struct Calls(Tracepoint);

impl Calls {
    /// Finds it. This process gets a mount namespace of its own, where tracefs is mounted below `work`.
    pub fn new(work: &Path) -> Result<Calls> {
        unshare(CloneFlags::CLONE_NEWNS).context("make mount namespace")?;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make mounts private")?;
        let place = work.join("tracing");
        fs::create_dir(&place).context("make mount point")?;
        mount(Some("tracefs"), &place, Some("tracefs"), MsFlags::empty(), None::<&str>).context("mount tracefs")?;
        let id = fs::read_to_string(place.join("events/raw_syscalls/sys_enter/id")).context("tracepoint sys_enter")?;
        Ok(Calls(Tracepoint::with_id(id.trim().parse().context("number of the tracepoint")?)))
    }

    /// System calls that `process` makes during `act`, in the threads that it has by then; and what `act` returns.
    pub fn count<T>(&self, process: Process, act: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        let counter = |thread: i32| -> std::io::Result<Counter> {
            let mut counter = Builder::new(self.0).observe_pid(thread).any_cpu().include_kernel().build()?;
            counter.enable()?;
            Ok(counter)
        };
        let threads = process.threads()?.into_iter();
        let mut counters = threads.map(counter).collect::<Result<Vec<_>, _>>().context("perf_event_open")?;
        let answer = act()?;
        let counts = counters.iter_mut().map(Counter::read).sum::<Result<u64, _>>().context("read counter")?;
        Ok((counts, answer))
    }
}
