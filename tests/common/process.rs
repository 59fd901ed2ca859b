//! What /proc says about processes, seen from outside their namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A process, by its id outside all namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub i32);

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug)]
pub struct Mounted {
    /// Mount point below the process's root.
    pub point: String,
    /// Peer group, where the mount is shared.
    pub shared: Option<u32>,
    /// Whether it has a master.
    pub slave: bool,
    /// Whether it cannot be bound.
    pub unbindable: bool,
    /// What mount(2) calls source.
    pub source: String,
}

impl Process {
    /// A path below this process's /proc directory.
    pub fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// The content of a file in its /proc directory; empty for a process that is gone.
    pub fn read(self, name: &str) -> String {
        fs::read(self.file(name)).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `path` is in this process's mount namespace.
    pub fn sees(self, path: &str) -> PathBuf {
        self.file(&format!("root{path}"))
    }

    /// A list of NUL-terminated strings: cmdline, environ.
    pub fn strings(self, name: &str) -> Vec<String> {
        let text = self.read(name);
        let ended = text.strip_suffix('\0').unwrap_or(&text);
        ended.split('\0').map(str::to_owned).collect()
    }

    /// A field of status.
    pub fn status(self, field: &str) -> String {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in the status of {self:?}")).trim().to_owned()
    }

    /// A field of stat by its number in proc_pid_stat(5), from the third on.
    pub fn stat(self, number: usize) -> Option<String> {
        let stat = self.read("stat");
        stat.rsplit_once(") ")?.1.split(' ').nth(number - 3).map(str::to_owned)
    }

    /// Its user and system time in clock ticks, of which sysconf(3) has 100 a second.
    pub fn cpu_ticks(self) -> u64 {
        [14, 15].iter().map(|field| self.stat(*field).map_or(0, |ticks| ticks.parse().unwrap())).sum::<u64>()
    }

    /// Resident memory in KiB, exact: status may be off by the kernel's per-CPU counts.
    pub fn resident(self) -> u64 {
        self.rollup("Rss:")
    }

    /// What of it is no file's, in KiB.
    pub fn anonymous(self) -> u64 {
        self.rollup("Anonymous:")
    }

    fn rollup(self, field: &str) -> u64 {
        let text = self.read("smaps_rollup");
        let size = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        size.expect(field).parse().expect("number")
    }

    /// Open descriptors and what they lead to.
    pub fn descriptors(self) -> BTreeMap<i32, String> {
        let entries = fs::read_dir(self.file("fd")).expect("descriptors");
        let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let target = |number: &String| fs::read_link(self.file("fd").join(number)).unwrap_or_default();
        numbers.map(|number| (number.parse().unwrap(), target(&number).display().to_string())).collect()
    }

    /// Its mounts, in order.
    pub fn mounts(self) -> Vec<Mounted> {
        mounted(&self.read("mountinfo"))
    }

    /// What tells its mount namespace from others.
    pub fn mount_namespace(self) -> u64 {
        fs::metadata(self.file("ns/mnt")).expect("mount namespace").ino()
    }

    /// Its children, the ended ones too.
    pub fn children(self) -> Vec<Process> {
        let parent = Some(self.0.to_string());
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Process));
        all.filter(|process| process.stat(4) == parent).collect()
    }
}

/// The lines of mountinfo.
pub fn mounted(mountinfo: &str) -> Vec<Mounted> {
    mountinfo.lines().map(|line| one(line).unwrap_or_else(|| panic!("mountinfo: {line}"))).collect()
}

fn one(line: &str) -> Option<Mounted> {
    let (front, back) = line.split_once(" - ")?;
    let mut fields = front.split(' ');
    let point = fields.nth(4)?.to_owned();
    let optional: Vec<_> = fields.skip(1).collect();
    Some(Mounted {
        point,
        shared: optional.iter().find_map(|field| field.strip_prefix("shared:")?.parse().ok()),
        slave: optional.iter().any(|field| field.starts_with("master:")),
        unbindable: optional.contains(&"unbindable"),
        source: back.split(' ').nth(1)?.to_owned(),
    })
}
