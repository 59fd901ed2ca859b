//! What pods have mounted is unmounted at the end (design §6).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use kios_init::plan::{self, CONTAINERD};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::common::log::Line;
use crate::common::machine::as_owner;
use crate::common::namespace::Namespace;
use crate::common::setup::{Setup, text};
use crate::stop::{assert_all_ended, assert_in_order, end};

fn tmpfs(place: &Path) {
    fs::create_dir_all(place).unwrap();
    // Each can be told from the others.
    fs::write(place.join("beneath"), "").unwrap();
    mount(Some("pod"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(place.join("file"), "").unwrap();
}

fn bind(from: &Path, to: &Path) {
    match from.is_dir() {
        true => fs::create_dir_all(to).unwrap(),
        false => fs::write(to, "").unwrap(),
    }
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).unwrap();
}

/// Boots a machine whose containerd mounts as its script says, has a pod in that one's namespace mount more, then ends the
/// machine: how many of their mounts init saw, and its last lines. Of all that is mounted below init's root, only
/// the boot's own API file systems are left.
fn stop_after(script: &str, pod: impl FnOnce() + Send) -> (usize, Vec<Line>) {
    let mut machine = Setup::new(&format!("{script}ready"), "ready").boot().ready();
    let init = Namespace::of(machine.init);
    Namespace::of(machine.service(CONTAINERD).unwrap()).inside(|| as_owner(pod));
    let pods = machine.init.mounts().iter().filter(|mounted| mounted.source == "pod").count();
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_in_order(&lines, &["processes ", "save ", "unmount ", "sync ", "power-off"]);
    let left: BTreeSet<_> = init.mounts().into_iter().map(|mounted| mounted.point).collect();
    let expected: BTreeSet<_> =
        ["/"].into_iter().chain(plan::MOUNTS.iter().map(|mount| text(mount.target))).map(str::to_owned).collect();
    assert!(
        left.contains("/") && left.is_subset(&expected),
        "left: {:?}",
        left.difference(&expected).collect::<Vec<_>>()
    );
    (pods, lines)
}

/// How long the phase took, which must have ended.
fn took(lines: &[Line]) -> u64 {
    assert_all_ended(lines);
    let line = lines.iter().find(|line| line.text.starts_with("unmount ")).unwrap();
    line.number("unmount ", "ms")
}

/// Every kind of mount that pods leave: on each other, below each other, of the same file system, of a file, with names
/// that a list of mounts has to escape.
#[test]
fn whatever_pods_mounted_is_unmounted() {
    let (pods, lines) = stop_after("", || {
        for base in ["/run", "/var/lib/kubelet"].map(Path::new) {
            tmpfs(&base.join("one"));
            tmpfs(&base.join("one/below/deeper"));
            (0..5).for_each(|_| tmpfs(&base.join("stack")));
            bind(&base.join("one"), &base.join("again"));
            bind(&base.join("one/file"), &base.join("file"));
            bind(&base.join("again/below"), &base.join("again/below"));
            for name in ["with blank", "with\nnewline", "with\ttab", "with\\backslash", "\\040", "#", "ü", " "] {
                tmpfs(&base.join(name));
            }
            let long: PathBuf = (0..15).map(|_| "x".repeat(200)).collect();
            tmpfs(&base.join(long));
        }
        // On what the boot mounted.
        tmpfs(Path::new("/run"));
        tmpfs(Path::new("/run/on-top"));
        tmpfs(Path::new("/var"));
    });
    println!("{pods} mounts of every kind: {} ms", took(&lines));
    assert!(pods > 40);
}

/// Who holds a file system open holds the mount, not the disk: it is made read-only, so that nothing is lost.
#[test]
fn what_is_held_open_is_made_read_only() {
    let mut machine = Setup::new("tmpfs /var/held\nready", "ready").boot().ready();
    let held = ["/var/held", "/var/log"].map(|path| File::open(machine.init.sees(path)).unwrap());
    let write = |directory: &File| {
        let path = format!("/proc/self/fd/{}/new", directory.as_raw_fd());
        let mut result = Ok(());
        as_owner(|| result = fs::write(&path, ""));
        result.map_err(|error| error.kind())
    };
    assert_eq!(held.each_ref().map(write), [Ok(()), Ok(())]);
    let (lines, ended) = end(&mut machine);
    assert_eq!(ended, Signal::SIGINT);
    assert_all_ended(&lines);
    let refused = Err(ErrorKind::ReadOnlyFilesystem);
    assert_eq!(held.each_ref().map(write), [refused, refused]);
}

/// The phase stays within its limit however many there are.
#[test]
fn many_mounts_are_unmounted_in_time() {
    for number in [0, 20, 200] {
        let place = |at: usize| format!("tmpfs {}/{at}\n", ["/run/pods", "/var/lib/kubelet/pods"][at % 2]);
        let (pods, lines) = stop_after(&(0..number).map(place).collect::<String>(), || {});
        assert_eq!(pods, number);
        println!("{number} mounts of pods: {} ms", took(&lines));
        assert!(took(&lines) < plan::UNMOUNT_LIMIT);
    }
}
