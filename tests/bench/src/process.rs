//! What /proc says about processes, seen from outside their namespaces.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The longest that a condition is waited for, on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again until there is an answer, or an error. Fails, naming `what`, when there is none within
/// [`LIMIT`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("{what}: not within {LIMIT:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// A process, by its id outside all namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub i32);

/// Memory of a process in KiB, by proc_pid_smaps_rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident pages, of files too.
    pub resident: u64,
    /// Resident pages that are of no file.
    pub anonymous: u64,
}

impl Process {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// The content of a file in its /proc directory.
    pub fn read(self, name: &str) -> Result<String> {
        let path = self.file(name);
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its memory.
    pub fn memory(self) -> Result<Memory> {
        memory(&self.read("smaps_rollup")?).context("smaps_rollup")
    }

    /// The number of its open descriptors.
    pub fn descriptors(self) -> Result<u64> {
        Ok(fs::read_dir(self.file("fd")).context("descriptors")?.count() as u64)
    }

    /// The ids of its threads.
    pub fn threads(self) -> Result<Vec<i32>> {
        let entries = fs::read_dir(self.file("task")).context("threads")?.flatten();
        Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Processor time that its threads have had, in nanoseconds.
    pub fn run_time(self) -> Result<u64> {
        let mut sum = 0;
        for thread in self.threads()? {
            let text = self.read(&format!("task/{thread}/schedstat"))?;
            sum += run_time(&text).with_context(|| format!("schedstat: {text:?}"))?;
        }
        Ok(sum)
    }

    /// Waits until it has had no processor time for `window`.
    pub fn quiet(self, window: Duration) -> Result<()> {
        let mut last = (self.run_time()?, Instant::now());
        wait_for("quiet of the init", || {
            let now = self.run_time()?;
            if now != last.0 {
                last = (now, Instant::now());
            }
            Ok((last.1.elapsed() >= window).then_some(()))
        })
    }

    /// Its parent.
    pub fn parent(self) -> Result<Process> {
        let parent = parent(&self.read("stat")?).context("stat: no parent")?;
        Ok(Process(parent))
    }

    /// The other processes of its pid namespace that were started as a program called `name`.
    pub fn others(self, name: &str) -> Result<Vec<Process>> {
        let namespace = |process: Process| fs::read_link(process.file("ns/pid"));
        let own = namespace(self).context("pid namespace")?;
        let entries = fs::read_dir("/proc").context("/proc")?.flatten();
        let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Process));
        let others = all.filter(|other| *other != self && namespace(*other).is_ok_and(|theirs| theirs == own));
        Ok(others.filter(|other| other.read("cmdline").is_ok_and(|line| is_called(&line, name))).collect())
    }
}

/// Whether a command line (proc_pid_cmdline(5)) begins with the path of a program called `name`.
fn is_called(line: &str, name: &str) -> bool {
    let path = line.split('\0').next().unwrap_or_default();
    path.rsplit('/').next() == Some(name)
}

/// The first field of schedstat: nanoseconds spent on a processor (Documentation/scheduler/sched-stats.rst).
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// The fourth field of stat (proc_pid_stat(5)); the second one, in parentheses, may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn memory(smaps_rollup: &str) -> Option<Memory> {
    let field = |name: &str| {
        let mut lines = smaps_rollup.lines();
        lines.find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
    };
    Some(Memory { resident: field("Rss:")?, anonymous: field("Anonymous:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_the_first_field() {
        assert_eq!(run_time("123456789 55683 7\n"), Some(123_456_789));
        assert_eq!(run_time("0 0 0\n"), Some(0));
        assert_eq!(run_time(""), None);
        assert_eq!(run_time("x 1 2"), None);
    }

    #[test]
    fn parent_comes_after_any_name() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent("12 (a"), None);
    }

    #[test]
    fn memory_is_read_by_name() {
        let text = "00400000-7ffd000 ---p 00000000 00:00 0    [rollup]\nRss:        1868 kB\nPss:         405 kB\n\
                    Pss_Anon:    100 kB\nReferenced: 1868 kB\nAnonymous:   112 kB\nKSM:           0 kB\n";
        assert_eq!(memory(text), Some(Memory { resident: 1868, anonymous: 112 }));
        assert_eq!(memory("Rss: 1 kB\n"), None);
    }

    #[test]
    fn a_name_is_the_last_part_of_the_first_argument() {
        assert!(is_called("/idle\0", "idle"));
        assert!(is_called("containerd\0--config=/proc/self/fd/5\0", "containerd"));
        assert!(!is_called("/usr/bin/tini\0--\0/idle\0", "idle"));
        assert!(!is_called("", "idle"));
    }
}
