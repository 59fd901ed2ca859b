//! A cgroup for each init, which is the root of its cgroup namespace.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::OWNER;
use crate::process::{Process, wait_for};

/// A cgroup with all below it, removed at the end.
pub struct Cgroup(pub PathBuf);

/// Where this machine has mounted cgroup2.
fn tree() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
    let mut lines = mounts.lines();
    // The fifth field is the mount point (proc_pid_mountinfo(5)).
    let point = lines.find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    point.map(PathBuf::from).context("no cgroup2 is mounted")
}

impl Cgroup {
    /// Makes it, for the user namespace's root to rule.
    pub fn new(name: &str) -> Result<Cgroup> {
        let cgroup = Cgroup(tree()?.join(name));
        fs::create_dir(&cgroup.0).with_context(|| cgroup.0.display().to_string())?;
        for file in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(cgroup.0.join(file), Some(OWNER), Some(OWNER)).context("chown cgroup")?;
        }
        Ok(cgroup)
    }

    /// The file by which a process enters the cgroup that `process` is in.
    pub fn entrance(process: Process) -> Result<PathBuf> {
        let text = process.read("cgroup")?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).context("not in a cgroup")?;
        Ok(tree()?.join(own).join("cgroup.procs"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup is busy until its last process is reaped.
        let _ = wait_for("end of the cgroup", || Ok(remove(&self.0).is_ok().then_some(())));
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
