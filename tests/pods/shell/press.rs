//! What the pod `shell` uses to press a node: what PID 1 and the services need is used up, stopped, or held. Where no
//! program can be started meanwhile, this one does all there is to do by itself.
//!
//!     press pids              no process id is free; kills kubelet; until init said of some starts that they failed
//!     press mark SECONDS PATH…  opens and reads on these file systems and mounts, below /host and in containerd's mount
//!                             namespace, wait for an answer that never comes; kills both services; for that long
//!     press hog               takes memory until it is killed
//!     press flow DEVICE HOW   `stop`: stops a terminal's output, and fills what waits for it; `start`: starts it again
//!     press flood SOCKET SECONDS  keeps a socket's queue of datagrams full for that long

use std::ffi::{CString, c_char, c_int, c_uint};
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};
use std::{env, process, thread};

const SIGKILL: c_int = 9;
const O_NONBLOCK: c_int = 0o4000;
const CLONE_NEWNS: c_int = 0x2_0000;
const CLOCK_BOOTTIME: c_int = 7;
const TCXONC: u64 = 0x540a;
const TCOOFF: c_int = 0;
const TCOON: c_int = 1;
const AT_FDCWD: c_int = -100;
/// A class whose marks may ask for permission, and what they ask it for (linux/fanotify.h).
const FAN_CLASS_CONTENT: c_uint = 4;
const FAN_MARK_ADD: c_uint = 1;
const FAN_MARK_MOUNT: c_uint = 0x10;
const FAN_MARK_FILESYSTEM: c_uint = 0x100;
const FAN_OPEN_PERM: u64 = 0x1_0000;
const FAN_ACCESS_PERM: u64 = 0x2_0000;
const FAN_OPEN_EXEC_PERM: u64 = 0x4_0000;
const FAN_ONDIR: u64 = 0x4000_0000;

const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// As low as the kernel takes it (kernel/pid.c): below that nearly all ids are the kernel's own threads'.
const PID_MAX_LEAST: &str = "301";
/// Failed starts that are waited for.
const FAILURES: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;

/// `struct timespec`.
#[repr(C)]
struct Time {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn ioctl(descriptor: c_int, request: u64, ...) -> c_int;
    fn setns(descriptor: c_int, kind: c_int) -> c_int;
    fn fanotify_init(flags: c_uint, event_flags: c_uint) -> c_int;
    fn fanotify_mark(group: c_int, flags: c_uint, mask: u64, directory: c_int, path: *const c_char) -> c_int;
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let time = |seconds: &str| Duration::from_secs(seconds.parse().expect("seconds"));
    match words[..] {
        ["pids"] => pids(),
        ["mark", seconds, ref paths @ ..] => mark(time(seconds), paths),
        ["hog"] => hog(),
        ["flow", device, "stop"] => stop(device),
        ["flow", device, "start"] => flow(&terminal(device)?, TCOON),
        ["flood", socket, seconds] => flood(socket, time(seconds)),
        _ => process::exit(2),
    }
}

/// The kernel's log: to say lines on the node's console, as errors of the kernel's, and to read init's.
struct Log(File);

impl Log {
    /// From its end on.
    fn open() -> Result<Log> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open("/dev/kmsg")?;
        let mut log = Log(file);
        while log.next()?.is_some() {}
        Ok(log)
    }

    /// Says a line, with the time on the clock of init's lines.
    fn say(&mut self, text: &str) -> Result<()> {
        let mut now = Time { seconds: 0, nanos: 0 };
        // SAFETY: `now` is a timespec.
        answer(unsafe { clock_gettime(CLOCK_BOOTTIME, &raw mut now) })?;
        let line = format!("<3>press: [{}.{:03}] {text}\n", now.seconds, now.nanos / 1_000_000);
        self.0.write_all(line.as_bytes())
    }

    /// The next record; none where there is none yet.
    fn next(&mut self) -> Result<Option<String>> {
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => return Ok(Some(String::from_utf8_lossy(&record[..length]).into_owned())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // EPIPE: some were lost.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn answer(value: c_int) -> Result<c_int> {
    if value < 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

fn signal(pid: c_int, number: c_int) -> Result<()> {
    // SAFETY: no memory is passed.
    answer(unsafe { kill(pid, number) }).map(drop)
}

/// The child of process 1 that has this name.
fn service(name: &str) -> c_int {
    let name = format!(" ({name}) ");
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let is = |stat: &String| {
        stat.contains(&name) && stat.rsplit_once(") ").is_some_and(|(_, rest)| rest[2..].starts_with("1 "))
    };
    let stat = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok()).find(is).expect("a service");
    stat.split(' ').next().expect("a pid").parse().expect("a pid")
}

fn pids() -> Result<()> {
    let mut log = Log::open()?;
    let (before, kubelet) = (fs::read_to_string(PID_MAX)?, service("kubelet"));
    fs::write(PID_MAX, PID_MAX_LEAST)?;
    // What is free even so.
    while thread::Builder::new().spawn(|| thread::park()).is_ok() {}
    log.say("no process ids; killing kubelet")?;
    signal(kubelet, SIGKILL)?;
    let (mut failures, end) = (0, Instant::now() + LIMIT);
    while failures < FAILURES && Instant::now() < end {
        match log.next()? {
            Some(text) => failures += usize::from(text.contains("start kubelet: fork: EAGAIN, next try in ")),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
    fs::write(PID_MAX, before)?;
    log.say("process ids again")
}

fn mark(time: Duration, paths: &[&str]) -> Result<()> {
    let mut log = Log::open()?;
    let services = ["containerd", "kubelet"].map(service);
    // Opened before anything is marked: that could wait for ever too.
    let namespace = File::open(format!("/proc/{}/ns/mnt", services[0]))?;
    // SAFETY: no memory is passed.
    let group = answer(unsafe { fanotify_init(FAN_CLASS_CONTENT, 0) })?;
    let mark = |path: String| -> Result<()> {
        let mask = FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM | FAN_ONDIR;
        let path = CString::new(path)?;
        for kind in [FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM] {
            // SAFETY: the path is a C string.
            answer(unsafe { fanotify_mark(group, FAN_MARK_ADD | kind, mask, AT_FDCWD, path.as_ptr()) })?;
        }
        Ok(())
    };
    paths.iter().try_for_each(|path| mark(format!("/host{path}")))?;
    // SAFETY: no memory is passed.
    answer(unsafe { setns(namespace.as_raw_fd(), CLONE_NEWNS) })?;
    paths.iter().try_for_each(|path| mark((*path).into()))?;
    log.say(&format!("marked {}; killing containerd, kubelet", paths.join(" ")))?;
    services.iter().try_for_each(|pid| signal(*pid, SIGKILL))?;
    thread::sleep(time);
    // The group's end lets all go that wait.
    log.say("not marked")
}

fn hog() -> Result<()> {
    let mut held = Vec::new();
    loop {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        held.push(black_box(block));
    }
}

fn terminal(device: &str) -> Result<File> {
    OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(device)
}

fn flow(terminal: &File, how: c_int) -> Result<()> {
    // SAFETY: the argument of this request is a number.
    answer(unsafe { ioctl(terminal.as_raw_fd(), TCXONC, how) }).map(drop)
}

fn stop(device: &str) -> Result<()> {
    let mut terminal = terminal(device)?;
    flow(&terminal, TCOOFF)?;
    while terminal.write(b"\n").is_ok() {}
    Ok(())
}

fn flood(path: &str, time: Duration) -> Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let (mut sent, mut full, end) = (0u64, 0u64, Instant::now() + time);
    let mut last = socket.connect(path);
    while last.is_ok() && Instant::now() < end {
        match socket.send(b"X=1") {
            Ok(_) => sent += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => full += 1,
            Err(error) => last = Err(error),
        }
    }
    println!("{sent} sent, {full} times full, {last:?}");
    Ok(())
}
