//! The seed of random numbers that a stop leaves for the next boot (design §6).

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use kios_init::plan;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::log::Line;
use crate::common::machine::as_owner;
use crate::common::setup::Setup;
use crate::stop::{assert_all_ended, assert_in_order, end, without_late_modules};

/// The directory of the seed, which outlives the machine.
struct Kept(File);

impl Kept {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    /// The seed, which must be one.
    fn seed(&self) -> Vec<u8> {
        let (path, seed) = (self.path("seed"), fs::read(self.path("seed")).unwrap());
        let data = fs::symlink_metadata(&path).unwrap();
        assert_eq!((data.mode(), data.len()), (0o100_600, plan::SEED_BYTES as u64));
        assert_ne!(seed, [0; plan::SEED_BYTES]);
        seed
    }
}

/// Ends a machine, on which `prepare` has been in the seed's directory; its last lines.
fn stop_after(prepare: impl FnOnce(&Path) + Send) -> (Kept, Vec<Line>) {
    let mut machine = Setup::new("ready", "ready").boot().ready();
    let kept = Kept(File::open(machine.init.sees(plan::STATE.to_str().unwrap())).unwrap());
    as_owner(|| prepare(&kept.path("")));
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(&lines, &["processes ", "save ", "unmount ", "sync ", "power-off"]);
    assert_all_ended(&lines);
    (kept, lines)
}

/// Each stop leaves another one, for root alone; over the one before, too.
#[test]
fn every_stop_leaves_another_seed() {
    let first = stop_after(|_| {}).0.seed();
    let (kept, lines) = stop_after(|directory| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(directory.join("seed"));
        std::io::Write::write_all(&mut file.unwrap(), &first).unwrap();
    });
    assert_ne!(kept.seed(), first);
    assert!(!lines.iter().any(|line| line.text.starts_with("/var")), "{lines:?}");
}

/// What pods put in its place, or in that of the file which is to become it, makes room for it.
#[test]
fn what_lies_in_the_seeds_place_makes_room() {
    type Prepare = fn(&Path);
    let cases: [Prepare; 5] = [
        |directory| symlink("victim", directory.join("seed")).unwrap(),
        |directory| symlink("nothing", directory.join("seed")).unwrap(),
        |directory| mkfifo(&directory.join("seed"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        |directory| symlink("victim", directory.join("new")).unwrap(),
        |directory| fs::write(directory.join("new"), "half a se").unwrap(),
    ];
    for prepare in cases {
        let (kept, lines) = stop_after(|directory| {
            fs::write(directory.join("victim"), "untouched").unwrap();
            prepare(directory);
        });
        assert_eq!(degraded(&lines), [""; 0]);
        kept.seed();
        assert_eq!(fs::read_to_string(kept.path("victim")).unwrap(), "untouched");
        assert!(!kept.path("nothing").exists() && !kept.path("new").exists());
    }
}

/// A directory does not: it costs the seed, with one line that says so, and nothing else.
#[test]
fn a_directory_in_the_seeds_place_is_left_alone() {
    for (errno, name) in [("EISDIR", "seed"), ("EEXIST", "new")] {
        let (kept, lines) = stop_after(|directory| fs::create_dir(directory.join(name)).unwrap());
        assert_eq!(degraded(&lines), [format!("{}: {errno} (degraded)", plan::STATE.to_str().unwrap())]);
        assert!(kept.path(name).is_dir());
    }
}

fn degraded(lines: &[Line]) -> Vec<&str> {
    without_late_modules(lines).map(|line| &*line.text).filter(|text| text.contains("(degraded)")).collect()
}
