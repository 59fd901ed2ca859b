//! Running an init as process 1 of namespaces of its own.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, execve, setgroups, setsid};

use crate::cgroup::Cgroup;
use crate::child::{Child, fork, leave};
use crate::layout::OWNER;
use crate::orphans::become_root;
use crate::peers::Peer;
use crate::process::Process;
use crate::root::{Places, assemble, equip};

/// A running init, which ends with this value.
pub struct Machine {
    /// Process 1.
    pub init: Process,
    launcher: Option<Child>,
    // Dropped last.
    _cgroup: Cgroup,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(launcher) = self.launcher.take() else { return };
        // The launcher reaps it, and ends then.
        if launcher.is_running() {
            let _ = kill(Pid::from_raw(self.init.0), Signal::SIGKILL);
        }
        let _ = launcher.end();
    }
}

/// Starts `peer`. All of its namespaces are its own: user, pid, mount, network, host name, IPC and cgroup.
pub fn start(peer: &Peer, places: &Places) -> Result<Machine> {
    let work = places.work.file_name().and_then(|name| name.to_str()).context("name of the work directory")?;
    let cgroup = Cgroup::new(&format!("{work}-{}", peer.name))?;
    let procs = cgroup.0.join("cgroup.procs");
    let (mut unshared, tell_unshared) = pipe().context("pipe")?;
    let (mapped, mut tell_mapped) = pipe().context("pipe")?;
    let (mut told, tell) = pipe().context("pipe")?;
    let launcher = Child::start(move || launch(peer, places, procs, tell_unshared, mapped, tell))?;
    if unshared.read(&mut [0]).context("wait for the launcher")? == 1 {
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", launcher.pid);
            fs::write(&path, format!("0 {OWNER} 65536")).context(path)?;
        }
        tell_mapped.write_all(b".").context("tell the launcher")?;
    }
    // Up to where it has become the init, or failed.
    let mut text = String::new();
    told.read_to_string(&mut text).context("read from the launcher")?;
    let Some((pid, error)) = text.split_once('\n') else {
        launcher.end()?;
        bail!("the launcher said nothing");
    };
    let init = Process(pid.parse().context("process id")?);
    let machine = Machine { init, launcher: Some(launcher), _cgroup: cgroup };
    if !error.is_empty() {
        bail!("{error}");
    }
    Ok(machine)
}

/// Makes the namespaces, starts process 1, and waits for its end.
fn launch(
    peer: &Peer,
    places: &Places,
    procs: PathBuf,
    unshared: PipeWriter,
    mut mapped: PipeReader,
    mut tell: PipeWriter,
) -> Result<String> {
    unshare(CloneFlags::CLONE_NEWNS).context("make mount namespace")?;
    assemble(places, peer)?;
    let log = File::create(places.log(peer)).context("log")?;
    let procs = OpenOptions::new().write(true).open(procs).context("cgroup.procs")?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).context("make user namespace")?;
    (&unshared).write_all(b".").context("tell that ids can be mapped")?;
    mapped.read_exact(&mut [0]).context("wait for ids")?;
    match fork()? {
        ForkResult::Child => {
            let Err(error) = become_init(peer, places, procs, log);
            let _ = write!(tell, "{error:#}");
            leave(1)
        }
        ForkResult::Parent { child } => {
            writeln!(tell, "{child}").context("tell the process id")?;
            drop(tell);
            waitpid(child, None).context("wait for the init")?;
            Ok(String::new())
        }
    }
}

fn become_init(peer: &Peer, places: &Places, mut procs: File, log: File) -> Result<Infallible> {
    procs.write_all(b"0").context("enter cgroup")?;
    // Nobody's terminal is its own.
    setsid().context("make session")?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC;
    unshare(namespaces).context("make namespaces")?;
    setgroups(&[]).context("drop groups")?;
    become_root()?;
    set_pdeathsig(Signal::SIGKILL).context("die with the launcher")?;
    equip(places, peer)?;
    dup2_stdin(File::open("/dev/null").context("/dev/null")?).context("stdin")?;
    dup2_stdout(&log).context("stdout")?;
    dup2_stderr(&log).context("stderr")?;
    // The machine's /proc and /sys stay mounted outside this root: without them in sight the kernel refuses a node's.
    chdir(&places.root()).context("enter the root")?;
    chroot(".").context("chroot")?;
    forget()?;
    let strings = |list: &[&str]| list.iter().map(|&text| CString::new(text)).collect::<Result<Vec<_>, _>>();
    let program = CString::new(peer.program).context("program")?;
    execve(&program, &strings(peer.arguments).context("arguments")?, &strings(peer.environment).context("environment")?)
        .context(peer.program)
}

/// The kernel starts process 1 with no descriptors but the console's, and with no signal ignored.
fn forget() -> Result<()> {
    // SAFETY: marks descriptors, which stay open until the program is another one.
    #[allow(unsafe_code)]
    let closed = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    Errno::result(closed).context("close descriptors")?;
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: installs no handler.
        #[allow(unsafe_code)]
        unsafe { signal(number, SigHandler::SigDfl) }.context("default signals")?;
    }
    Ok(())
}
