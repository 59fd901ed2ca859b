//! Acting in a mount namespace from outside.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir};

use super::process::{Mounted, Process, mounted};

/// A process's mount namespace and its root in it. It stays after the last process in it.
pub struct Namespace {
    namespace: File,
    root: File,
}

impl Namespace {
    /// The one of `process`.
    pub fn of(process: Process) -> Namespace {
        let open = |name| File::open(process.file(name)).expect(name);
        Namespace { namespace: open("ns/mnt"), root: open("root") }
    }

    /// Runs `act` in it, as `nsenter -t PID -m -r` would.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.with_proc(|_| act())
    }

    /// As [`Namespace::inside`], with the acting thread's own directory in the /proc outside.
    fn with_proc<T: Send>(&self, act: impl FnOnce(&File) -> T + Send) -> T {
        let enter = || {
            let proc = File::open("/proc/thread-self").unwrap();
            // A thread that shares its root with others may not enter another mount namespace (setns(2)).
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
            fchdir(&self.root).unwrap();
            chroot(".").unwrap();
            act(&proc)
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// What is mounted in it below the root.
    pub fn mounts(&self) -> Vec<Mounted> {
        let read = |proc: &File| {
            let mut text = String::new();
            let file = openat(proc, "mountinfo", OFlag::O_RDONLY, Mode::empty()).unwrap();
            File::from(file).read_to_string(&mut text).unwrap();
            text
        };
        mounted(&self.with_proc(read))
    }
}
