//! What services print, and init's lines, in files that grow to a limit; and what holds them up, which holds up nobody else.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use kios_init::plan::{self, CONTAINERD, KUBELET, LOG_BYTES, LOG_DIRECTORY, LOGS, OWN_LOG};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::log::Line;
use crate::common::machine::{Machine, as_owner};
use crate::common::process::Process;
use crate::common::setup::{Setup, text};
use crate::common::wait_for;
use crate::stop::without_late_modules;

/// Half of what a pipe holds (pipe(7)).
const HALF: usize = 32 << 10;
/// Bytes of a line that a stand-in prints.
const LINE: usize = 64;

/// The path of a log's file: 0 is the newest.
fn path(log: usize, age: usize) -> String {
    format!("{}/{}", LOG_DIRECTORY.to_str().unwrap(), text(LOGS[log][age]))
}

fn read(machine: &Machine, log: usize, age: usize) -> Option<String> {
    fs::read_to_string(machine.init.sees(&path(log, age))).ok()
}

/// All of a log, oldest first.
fn all(machine: &Machine, log: usize) -> String {
    (0..plan::LOG_FILES).rev().filter_map(|age| read(machine, log, age)).collect()
}

/// Waits until the newest file of a log ends with `end`; all of the log.
fn ends_with(machine: &Machine, log: usize, end: &str) -> String {
    wait_for(end, || read(machine, log, 0)?.ends_with(end).then_some(()));
    all(machine, log)
}

/// The writer: the one child of init's that no service and no drain is, which have a pipe at their standard input.
fn writer(machine: &Machine) -> Process {
    let is_writer = |child: &Process| {
        child.strings("cmdline") == machine.init.strings("cmdline")
            && fs::read_link(child.file("fd/0")).is_ok_and(|target| target.ends_with("null"))
            // The child that asks containerd has init's own.
            && child.descriptors().len() < machine.init.descriptors().len()
    };
    wait_for("the logs' writer", || machine.init.children().into_iter().find(is_writer))
}

fn send(process: Process, signal: Signal) {
    kill(Pid::from_raw(process.0), signal).unwrap();
}

/// Bytes that init says are lost of a log.
fn lost(lines: &[Line], log: usize) -> u64 {
    let begin = format!("{}: ", text(LOGS[log][0]));
    let said =
        lines.iter().filter(|line| line.text.starts_with(&begin) && line.text.ends_with(" bytes lost (degraded)"));
    said.map(|line| line.number(&begin, " bytes")).sum()
}

/// Design §4: each has a log of its own, for root's eyes only; init's has its lines from the first on, as the console has.
#[test]
fn each_has_its_log() {
    let machine = Setup::new("print one\nready", "print two\nready\nprint three").boot().ready();
    assert_eq!(ends_with(&machine, CONTAINERD, "one\n"), "one\n");
    assert_eq!(ends_with(&machine, KUBELET, "three\n"), "two\nthree\n");
    // Children's lines come between init's here and there, and not at the same place in both.
    let upto = |lines: &[Line]| {
        let own: Vec<_> = without_late_modules(lines).cloned().collect();
        let end = own.iter().position(|line| line.text == "kubelet ready")?;
        let mut texts: Vec<_> = own[..=end].iter().map(|line| line.text.clone()).collect();
        texts.sort();
        Some(texts)
    };
    let own = wait_for("init's log", || {
        let log = read(&machine, OWN_LOG, 0)?;
        upto(&log.lines().map(|line| Line::parse(line).expect("a line of init's")).collect::<Vec<_>>())
    });
    assert_eq!(own, upto(&machine.log.lines()).unwrap());
    let data = fs::metadata(machine.init.sees(&path(KUBELET, 0))).unwrap();
    assert_eq!(data.mode() & 0o7777, 0o600);
}

/// Issue 5: a log is begun anew before it would be over its limit, and two older ones are kept. Nothing is missing but what
/// init says is lost.
#[test]
fn a_log_rotates() {
    let lines = 3 * usize::try_from(LOG_BYTES).unwrap() / LINE - 10_000;
    let script = format!("ready\nwait /run/go\nprint-lines {lines}\nmark /run/printed");
    let machine = Setup::new("ready", &script).boot().ready();
    machine.go("/run/go");
    machine.marked("/run/printed");
    // What was lost is said at the latest when the service ends; its next start prints nothing.
    fs::remove_file(machine.init.sees("/run/go")).unwrap();
    send(machine.service(KUBELET).unwrap(), Signal::SIGKILL);
    let sizes = || {
        (0..plan::LOG_FILES)
            .map(|age| fs::metadata(machine.init.sees(&path(KUBELET, age))).map_or(0, |data| data.len()))
    };
    let printed = (lines * LINE) as u64;
    wait_for("every line", || {
        let known = sizes().sum::<u64>() + lost(&machine.log.lines(), KUBELET);
        (known == printed).then_some(())
    });
    let sizes: Vec<_> = sizes().collect();
    println!("sizes {sizes:?}, lost {}", lost(&machine.log.lines(), KUBELET));
    assert!(sizes.iter().all(|size| (1..=LOG_BYTES).contains(size)));
}

/// Issue 5: whatever becomes of the disk, the service prints on, and what is lost is counted and told.
#[test]
fn a_disk_that_hangs_holds_up_nobody() {
    let lines = 100_000;
    let script = format!(
        "ready\nmark /run/up\nwait /run/go\nprint-lines {lines}\nmark /run/printed\nwait /run/more\nprint last"
    );
    let machine = Setup::new("ready", &script).boot();
    machine.marked("/run/up");
    let writer = writer(&machine);
    send(writer, Signal::SIGSTOP);
    let began = Instant::now();
    machine.go("/run/go");
    machine.marked("/run/printed");
    println!("{} bytes printed in {:?} while nobody wrote", lines * LINE, began.elapsed());
    // It waits for room once, and no longer than this.
    assert!(began.elapsed() < 2 * Duration::from_millis(plan::LOG_WAIT));
    machine.log.expect("kubelet.log: ");
    // Init goes on, and what it says is on the console.
    crate::bus::restart(&machine, CONTAINERD);
    send(writer, Signal::SIGCONT);
    // What the pipe held, and so there is room again.
    wait_for("what was not lost", || (read(&machine, KUBELET, 0)?.len() > HALF).then_some(()));
    machine.go("/run/more");
    let log = ends_with(&machine, KUBELET, "last\n");
    // The rest is told when the service ends, whose next start prints nothing.
    fs::remove_file(machine.init.sees("/run/go")).unwrap();
    send(machine.service(KUBELET).unwrap(), Signal::SIGKILL);
    let missing = (lines * LINE + 5 - log.len()) as u64;
    wait_for("all that is lost", || (lost(&machine.log.lines(), KUBELET) == missing).then_some(()));
    println!("{missing} bytes lost and told");
    assert!(missing > 0);
}

/// Issue 5: what cannot be written is counted and told, and no more often than the plan has it.
#[test]
fn what_is_in_the_way_of_a_log_is_told() {
    let script = "ready\nmark /run/up\nwait /run/go\nprint one\nprint two\nmark /run/printed";
    let machine = Setup::new("ready", script).boot();
    machine.marked("/run/up");
    // Nothing was printed, so there is no file yet.
    as_owner(|| fs::create_dir(machine.init.sees(&path(KUBELET, 0))).unwrap());
    machine.go("/run/go");
    machine.marked("/run/printed");
    let line = machine.log.expect("kubelet.log: ");
    assert!(
        line.text == "kubelet.log: 4 bytes lost (degraded)" || line.text == "kubelet.log: 8 bytes lost (degraded)",
        "{line:?}"
    );
    assert!(!machine.log.begins("kubelet (pid "));
}

/// A link in place of a log leads nowhere.
#[test]
fn a_log_follows_no_link() {
    let machine = Setup::new("ready", "ready\nmark /run/up\nwait /run/go\nprint one").boot();
    machine.marked("/run/up");
    as_owner(|| {
        fs::write(machine.init.sees("/run/target"), "whole").unwrap();
        symlink("/run/target", machine.init.sees(&path(KUBELET, 0))).unwrap();
    });
    machine.go("/run/go");
    machine.log.expect("kubelet.log: 4 bytes lost (degraded)");
    assert_eq!(fs::read_to_string(machine.init.sees("/run/target")).unwrap(), "whole");
}

/// The writer is kept alive too, whatever it was about to write when it ended; services do not notice.
#[test]
fn the_writer_is_started_again() {
    // More than it comes to.
    let machine = Setup::new("ready", "ready\nmark /run/up\nwait /run/go\nprint-lines 1000000000").boot();
    machine.marked("/run/up");
    machine.go("/run/go");
    let written = || {
        let size = || fs::metadata(machine.init.sees(&path(KUBELET, 0))).map_or(0, |data| data.len());
        let before = size();
        wait_for("more in the log", || (size() != before).then_some(()));
    };
    let mut place = 0;
    for _ in 0..2 {
        let first = writer(&machine);
        written();
        send(first, Signal::SIGKILL);
        (place, _) = machine.log.expect_after(place, "logs' writer (pid ");
        place += 1;
        wait_for("another writer", || (writer(&machine) != first).then_some(()));
    }
    written();
    let log = read(&machine, KUBELET, 0).unwrap();
    let odd = log.lines().rev().skip(1).filter(|line| !line.starts_with("line ")).count();
    println!("{} bytes, {odd} lines that were cut", log.len());
    assert!(!machine.log.begins("kubelet (pid "));
}

/// So is a drain: its service prints on, and does not notice.
#[test]
fn a_drain_is_started_again() {
    let machine = Setup::new("ready", "ready\nprint one\nmark /run/up\nwait /run/go\nprint two").boot();
    machine.marked("/run/up");
    ends_with(&machine, KUBELET, "one\n");
    let output = fs::read_link(machine.service(KUBELET).unwrap().file("fd/1")).unwrap();
    let drain = || {
        let mut children = machine.init.children().into_iter();
        children.find(|child| fs::read_link(child.file("fd/0")).is_ok_and(|target| target == output))
    };
    let first = drain().expect("a drain");
    send(first, Signal::SIGKILL);
    wait_for("another drain", || drain().filter(|second| *second != first));
    machine.go("/run/go");
    assert_eq!(ends_with(&machine, KUBELET, "two\n"), "one\ntwo\n");
    assert!(!machine.log.begins("kubelet (pid "));
}

/// What cannot be put aside is given up: a log never grows beyond its limit.
#[test]
fn a_log_that_cannot_rotate_is_begun_anew() {
    let lines = 2 * usize::try_from(LOG_BYTES).unwrap() / LINE;
    let script = format!("ready\nmark /run/up\nwait /run/go\nprint-lines {lines}\nmark /run/printed");
    let machine = Setup::new("ready", &script).boot();
    machine.marked("/run/up");
    as_owner(|| {
        fs::create_dir(machine.init.sees(&path(KUBELET, 1))).unwrap();
        fs::write(machine.init.sees(&path(KUBELET, 2)), "in the way").unwrap();
    });
    machine.go("/run/go");
    machine.marked("/run/printed");
    machine.log.expect("kubelet.log: ");
    let size = fs::metadata(machine.init.sees(&path(KUBELET, 0))).unwrap().len();
    println!("{size} bytes, {} lost", lost(&machine.log.lines(), KUBELET));
    assert!(size <= LOG_BYTES && lost(&machine.log.lines(), KUBELET) > LOG_BYTES / 2);
}

/// A log that is full when its writer comes to it is put aside.
#[test]
fn a_full_log_rotates_at_the_first_line() {
    for left in [0, 1] {
        let machine = Setup::new("ready", "ready\nmark /run/up\nwait /run/go\nprint one").boot();
        machine.marked("/run/up");
        as_owner(|| {
            fs::File::create(machine.init.sees(&path(KUBELET, 0))).unwrap().set_len(LOG_BYTES - left).unwrap();
        });
        machine.go("/run/go");
        let older = || fs::metadata(machine.init.sees(&path(KUBELET, 1))).ok().map(|older| older.len());
        assert_eq!(wait_for("an older log", older), LOG_BYTES - left);
        wait_for("a new one", || (read(&machine, KUBELET, 0)? == "one\n").then_some(()));
        assert_eq!(lost(&machine.log.lines(), KUBELET), 0);
    }
}
