//! Children of this program, which is single-threaded.

use std::io::{PipeReader, Read, Write, pipe};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid};

/// A copy of this process.
pub fn fork() -> Result<ForkResult> {
    // SAFETY: this program has one thread, so that no other one holds a lock.
    #[allow(unsafe_code)]
    unsafe { nix::unistd::fork() }.context("fork")
}

/// Ends this process without what its parent registered to be run at the end.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::_exit(status)
    }
}

/// A child that says what it did, or why it failed.
pub struct Child {
    /// Its process id.
    pub pid: Pid,
    said: PipeReader,
}

impl Child {
    /// Starts a child that dies with this process, does `act`, says what that returns, and ends.
    pub fn start(act: impl FnOnce() -> Result<String>) -> Result<Child> {
        let (said, mut say) = pipe().context("pipe")?;
        match fork()? {
            ForkResult::Child => {
                drop(said);
                let acted = set_pdeathsig(Signal::SIGKILL).context("die with the parent").and_then(|()| act());
                let told = match &acted {
                    Ok(text) => write!(say, "{text}"),
                    Err(error) => write!(say, "{error:#}"),
                };
                leave(i32::from(acted.is_err() || told.is_err()))
            }
            ForkResult::Parent { child } => Ok(Child { pid: child, said }),
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        matches!(
            waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT),
            Ok(WaitStatus::StillAlive)
        )
    }

    /// Waits for its end; what it said. Fails where it did, by its own words.
    pub fn end(mut self) -> Result<String> {
        let mut said = String::new();
        self.said.read_to_string(&mut said).context("read from child")?;
        match waitpid(self.pid, None).context("wait for child")? {
            WaitStatus::Exited(_, 0) => Ok(said),
            WaitStatus::Exited(..) => bail!(said),
            status => bail!("child: {status:?}"),
        }
    }
}
