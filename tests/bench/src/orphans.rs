//! Orphans that come into a pid namespace from outside, so that the work of its process 1 is the same whatever that is.

use std::fs::{File, OpenOptions};
use std::io::{IoSliceMut, PipeReader, Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::sockopt::{PassCred, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg, send, setsockopt,
    socketpair,
};
use nix::sys::time::TimeVal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, setresgid, setresuid};

use crate::cgroup::Cgroup;
use crate::child::{Child, fork, leave};
use crate::process::{self, Process};

/// Between two looks at whether orphans are still there.
const PAUSE: Duration = Duration::from_micros(50);

/// So many orphans at a time, so many times, the next ones once the last ones are gone.
#[derive(Clone, Copy)]
pub struct Load {
    /// Orphans that may end at the same time.
    pub at_once: u32,
    /// Whether they have ended before their parent does, so that all come to be reaped in one moment.
    pub dead: bool,
    /// How often.
    pub times: u32,
    /// How long it goes on at most, but for its first orphans: some inits reap once a second.
    pub limit: Duration,
}

/// Has `init` reap the orphans of `load`, which are in the cgroup of its child `service`, as are those that a service
/// leaves behind. Returns how many there were, once all of them have left /proc.
pub fn run(init: Process, service: Process, load: Load) -> Result<u32> {
    let enter = || {
        let entrance = Cgroup::entrance(service)?;
        let mut entrance = OpenOptions::new().write(true).open(&entrance).context("cgroup of the service")?;
        entrance.write_all(b"0").context("enter the cgroup of the service")?;
        let namespace = |name: &str| File::open(format!("/proc/{}/ns/{name}", init.0)).context("namespace");
        let (user, pid) = (namespace("user")?, namespace("pid")?);
        setns(user, CloneFlags::CLONE_NEWUSER).context("enter user namespace")?;
        setns(pid, CloneFlags::CLONE_NEWPID).context("enter pid namespace")?;
        become_root()?;
        set_pdeathsig(Signal::SIGKILL).context("die with the parent")?;
        let began = Instant::now();
        let mut times = 0;
        while times < load.times && (times == 0 || began.elapsed() < load.limit) {
            batch(init, load)?;
            times += 1;
        }
        Ok((times * load.at_once).to_string())
    };
    Child::start(enter)?.end()?.parse().context("number of orphans")
}

/// As who entered a user namespace: becomes its root.
pub fn become_root() -> Result<()> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).context("become the namespace's root group")?;
    setresuid(user, user, user).context("become the namespace's root")
}

/// Has so many processes orphaned, lets all go together where they have not ended, and waits until none is left.
fn batch(init: Process, Load { at_once: size, dead, .. }: Load) -> Result<()> {
    let (wait, go) = pipe().context("pipe")?;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).context("socket pair")?;
    setsockopt(&ours, PassCred, &true).context("ask for credentials")?;
    setsockopt(&ours, ReceiveTimeout, &TimeVal::new(process::LIMIT.as_secs() as i64, 0)).context("limit the wait")?;
    let ForkResult::Parent { child } = fork()? else {
        drop(go);
        drop(ours);
        let wait = (!dead).then_some(&wait);
        leave(i32::from((0..size).try_for_each(|_| orphan(wait, &theirs)).is_err()))
    };
    drop(wait);
    drop(theirs);
    let mut left = (0..size).map(|_| sender(&ours)).collect::<Result<Vec<_>>>()?;
    let ended = waitpid(child, None).context("wait for the orphans' parent")?;
    ensure!(ended == WaitStatus::Exited(child, 0), "the orphans' parent: {ended:?}");
    // The dead may be reaped by now, and have no parent to look for.
    if !dead {
        for orphan in &left {
            let parent = Process(orphan.as_raw()).parent()?;
            ensure!(parent == init, "an orphan has become {parent:?}'s");
        }
    }
    drop(go);
    let end = Instant::now() + process::LIMIT;
    loop {
        left.retain(|orphan| kill(*orphan, None) != Err(Errno::ESRCH));
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{} of {size} orphans are left after {:?}", left.len(), process::LIMIT);
        }
        std::thread::sleep(PAUSE);
    }
}

/// A child that says that it is there, and ends once nobody holds the other end of `wait`; without one at once, and this
/// returns when it has.
fn orphan(wait: Option<&PipeReader>, socket: &OwnedFd) -> Result<()> {
    let ForkResult::Parent { child } = fork()? else {
        let said = send(socket.as_raw_fd(), b".", MsgFlags::MSG_NOSIGNAL);
        let waited = wait.map_or(Ok(0), |mut wait| wait.read(&mut [0]));
        leave(i32::from(said.is_err() || waited.is_err()))
    };
    if wait.is_none() {
        waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).context("wait for an orphan to be")?;
    }
    Ok(())
}

/// Who has sent the next message: the kernel says it by the ids of this process's pid namespace (unix(7),
/// SCM_CREDENTIALS).
fn sender(socket: &OwnedFd) -> Result<Pid> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
        .context("wait for an orphan")?;
    for control in message.cmsgs().context("control messages")? {
        if let ControlMessageOwned::ScmCredentials(credentials) = control {
            return Ok(Pid::from_raw(credentials.pid()));
        }
    }
    bail!("an orphan's message has no credentials")
}
