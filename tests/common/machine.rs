//! A running init in its namespaces.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use kios_init::plan;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Pid, Uid, setfsgid, setfsuid};

use super::layout::OWNER;
use super::log::Log;
use super::process::Process;
use super::{SOON, wait_for};

/// An init, which ends with this value.
pub struct Machine {
    /// Process 1.
    pub init: Process,
    /// Its lines.
    pub log: Log,
    pub(super) launcher: Child,
    // Dropped last: the directories can go once nothing runs in them.
    pub(super) cgroup: Option<Cgroup>,
    pub(super) root: Root,
}

/// The root directory of a test, removed at the end.
pub(super) struct Root(pub PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Machine {
    /// Waits until both services are ready.
    pub fn ready(self) -> Machine {
        self.log.expect("kubelet ready");
        self
    }

    /// The running process of a service, by index into the plan.
    pub fn service(&self, index: usize) -> Option<Process> {
        let name = plan::SERVICES[index].arguments[0].to_str().unwrap();
        self.init.children().into_iter().find(|child| child.strings("cmdline")[0] == name)
    }

    /// Waits until kubelet has read what there is of its configuration, and reads on: that has not ended yet.
    pub fn reads_its_configuration(&self) -> Process {
        wait_for("kubelet that reads its configuration", || {
            let kubelet = self.service(plan::KUBELET)?;
            // The call's number, then its arguments; or that it runs (proc_pid_syscall(5)).
            let call = kubelet.read("syscall");
            let file = call.split(' ').nth(1)?.strip_prefix("0x")?;
            let target = fs::read_link(kubelet.file(&format!("fd/{}", u64::from_str_radix(file, 16).ok()?)));
            let configuration = fs::read_link(kubelet.file("fd/5")).ok()?;
            (target.ok()? == configuration && configuration.to_str()?.starts_with("pipe:")).then_some(kubelet)
        })
    }

    /// The arguments that a running service must have: the plan's, and kubelet's own name as it is told of it.
    pub fn arguments(&self, index: usize) -> Vec<String> {
        let mut arguments: Vec<_> =
            plan::SERVICES[index].arguments.iter().map(|argument| argument.to_str().unwrap().to_owned()).collect();
        if index == plan::KUBELET {
            let kubelet = self.service(index).expect("kubelet");
            let id = fs::read_to_string(kubelet.sees("/kios/machine-id")).unwrap();
            assert_eq!(id.len(), 33);
            arguments.push(format!("--hostname-override={}", name_of(&id)));
        }
        arguments
    }

    /// A path as the file system of the root directory has it, not what init has mounted over it.
    pub fn beneath(&self, path: &str) -> PathBuf {
        self.root.0.join(path.trim_start_matches('/'))
    }

    /// Makes the file `path`, which a stand-in waits for.
    pub fn go(&self, path: &str) {
        as_owner(|| fs::write(self.init.sees(path), "").expect("go"));
    }

    /// Waits for the file `path`, which a stand-in makes.
    pub fn marked(&self, path: &str) {
        wait_for(path, || self.init.sees(path).exists().then_some(()));
    }

    /// Sends a signal to init.
    pub fn signal(&self, number: i32) {
        // By the system call, since the library's kill takes no real-time signals.
        // SAFETY: touches no memory.
        let result = unsafe { nix::libc::kill(self.init.0, number) };
        nix::errno::Errno::result(result).expect("signal init");
    }

    /// The cgroup of this machine's root, as its processes' cgroup files name it.
    pub fn cgroup(&self) -> Option<String> {
        let cgroup = self.cgroup.as_ref()?;
        Some(format!("/{}", cgroup.0.file_name()?.to_str()?))
    }

    /// Waits for the end of the machine: the signal that ended init, as the kernel chose it (reboot(2)).
    pub fn end(&mut self) -> Signal {
        let status = wait_for("end of init", || self.launcher.try_wait().expect("wait for launcher"));
        let code = status.code().unwrap_or_else(|| panic!("launcher: {status}"));
        Signal::try_from(code - 128).unwrap_or_else(|_| panic!("init exited with {code}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The launcher is not reaped, so its id and init's are still theirs. All of the namespace dies with init.
        if matches!(self.launcher.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.init.0), Signal::SIGKILL);
            let _ = self.launcher.wait();
        }
        let _ = self.log.end();
    }
}

/// Does in the file system what root of the namespace may: a file system that was mounted there takes no file of the
/// machine's root, whose id it does not know.
pub fn as_owner(act: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let change = || {
            // Of this thread alone.
            setfsgid(Gid::from_raw(OWNER));
            setfsuid(Uid::from_raw(OWNER));
            act();
        };
        scope.spawn(change).join().expect("as the namespace's root");
    });
}

/// Milliseconds on the clock of init's lines.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("clock");
    u64::try_from(now.tv_sec() * 1_000 + now.tv_nsec() / 1_000_000).expect("time")
}

/// A cgroup that is the root of a test's cgroup namespace, removed at the end.
pub(super) struct Cgroup(pub PathBuf);

impl Cgroup {
    /// Makes it, for the namespace's root to rule. None where there is no cgroup2 to make it in.
    pub(super) fn new(name: &str) -> Option<Cgroup> {
        let mounts = Process(i32::try_from(std::process::id()).unwrap()).read("mountinfo");
        let tree = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let path = Path::new(tree).join(name);
        if let Err(error) = fs::create_dir(&path) {
            println!("no cgroup for this test: {}: {error}", path.display());
            return None;
        }
        let cgroup = Cgroup(path);
        for file in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(cgroup.0.join(file), Some(OWNER), Some(OWNER)).expect("chown cgroup");
        }
        Some(cgroup)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup is busy until its last process is reaped.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let end = Instant::now() + SOON;
        while remove(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes a tree of cgroups: their files go by themselves.
fn remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The host name by a machine's id.
pub fn name_of(id: &str) -> String {
    let digits = kios_init::boot::inputs::digits(id.as_bytes());
    format!("kios-{}", std::str::from_utf8(&digits).unwrap())
}
