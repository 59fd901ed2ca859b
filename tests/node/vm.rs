//! A node in QEMU, booted as a person does it: scripts/boot.sh, its standard output, its exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::arch;
use crate::gate::{FLAKE, Scenario};
use crate::shell::Shell;

/// Far more than anything takes on an emulated machine that shares its processors.
pub const LONG: Duration = Duration::from_secs(240);

/// How long a wait goes on after the emulator's [`FLAKE`].
const SHORT: Duration = Duration::from_secs(30);

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A path for files of these tests.
pub fn scratch(path: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(path)
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The QEMU that a boot.sh runs, once it is there.
pub fn qemu_of(boot: Pid) -> Option<Pid> {
    let parent = boot.to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut numbers = processes.filter_map(|name| name.parse::<i32>().ok());
    let found = numbers.find(|number| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(name, rest)| {
            name.contains("(qemu-system-") && rest.split(' ').nth(1) == Some(parent.as_str())
        })
    });
    found.map(Pid::from_raw)
}

/// What a machine printed so far, and when.
#[derive(Default)]
pub struct Console {
    lines: Mutex<(Vec<(Duration, String)>, usize)>,
    news: Condvar,
}

impl Console {
    fn read(self: &Arc<Console>, began: Instant, source: impl Read + Send + 'static) {
        let console = self.clone();
        console.lines.lock().unwrap().1 += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                console.lines.lock().unwrap().0.push((began.elapsed(), line));
                console.news.notify_all();
            }
            console.lines.lock().unwrap().1 -= 1;
            console.news.notify_all();
        });
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().0.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Whether a line so far has `text` in it.
    pub fn has(&self, text: &str) -> bool {
        self.lines.lock().unwrap().0.iter().any(|(_, line)| line.contains(text))
    }

    fn show(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines.0.iter().map(|(at, line)| format!("{:8.3} {line}\n", at.as_secs_f64())).collect()
    }
}

/// How to boot.
pub struct Boot<'a> {
    scenario: &'a Scenario,
    arguments: Vec<String>,
    qemu: Vec<String>,
    shell: Option<PathBuf>,
    limit: Duration,
}

/// The longest a machine runs, unless it is told otherwise.
const LIMIT: Duration = Duration::from_secs(900);

/// Boots; without more, what `scripts/boot.sh` alone does.
pub fn boot(scenario: &Scenario) -> Boot<'_> {
    Boot { scenario, arguments: Vec::new(), qemu: Vec::new(), shell: None, limit: LIMIT }
}

impl Boot<'_> {
    /// With an option of boot.sh.
    pub fn option(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.arguments.extend([name.to_owned(), value.as_ref().display().to_string()]);
        self
    }

    /// With arguments for QEMU.
    pub fn qemu(mut self, arguments: &[&str]) -> Self {
        self.qemu.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// With another time for the machine to run in.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With another initramfs.
    pub fn initramfs(self, path: &Path) -> Self {
        self.qemu(&["-initrd", path.to_str().unwrap()])
    }

    /// With the pod `shell` beside the two of the demonstration, and a way to it.
    pub fn shell(self) -> Self {
        self.option("--manifests", crate::image::manifests()).port()
    }

    /// With a way to the pod `shell`, which is on the data disk.
    pub fn port(self) -> Self {
        self.port_with(crate::image::tools())
    }

    /// The same with other programs for it: a tar archive.
    pub fn port_with(mut self, tools: &Path) -> Self {
        let socket = scratch(&format!("shell.{}", number()));
        let chardev = format!("socket,id=shell,server=on,wait=off,path={}", socket.display());
        let drive = format!("if=none,id=tools,format=raw,readonly=on,file={}", tools.display());
        self.shell = Some(socket);
        self.qemu(&["-device", "virtio-serial-pci", "-chardev", &chardev, "-device", "virtserialport,chardev=shell"])
            .qemu(&["-drive", &drive, "-device", "virtio-blk-pci,drive=tools"])
    }

    /// Starts the machine.
    pub fn start(self) -> Vm {
        let qmp = scratch(&format!("qmp.{}", number()));
        let _ = fs::remove_file(&qmp);
        let console = Arc::new(Console::default());
        let mut command = Command::new(repository("scripts/boot.sh"));
        let limit = self.limit.as_secs().to_string();
        command
            .args(arch::options(&self.qemu))
            .args(&self.arguments)
            .args(["--timeout", &limit, "--qmp"])
            .arg(&qmp)
            .arg("--")
            .args(&self.qemu);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("scripts/boot.sh");
        console.read(began, child.stdout.take().unwrap());
        console.read(began, child.stderr.take().unwrap());
        self.scenario.watch(console.clone());
        Vm { child, console, began, qmp, shell: self.shell.map(Shell::new) }
    }
}

/// A number that no other machine of this run has.
fn number() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A machine that runs, or has run. Dropping it ends it.
pub struct Vm {
    child: Child,
    console: Arc<Console>,
    began: Instant,
    qmp: PathBuf,
    shell: Option<Shell>,
}

impl Vm {
    /// What it printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.console.lines()
    }

    /// Whether it printed a line with `text` in it.
    pub fn has(&self, text: &str) -> bool {
        self.console.has(text)
    }

    /// Waits for a line with `text` in it.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_after(0, text).1
    }

    /// Waits until all that init starts is up, and all that it loads is loaded.
    pub fn wait_up(&self) {
        self.wait_for("kubelet ready");
        self.wait_for("late modules: ");
    }

    /// Waits for a line with `text` in it, at `from` or later; its place and itself.
    pub fn wait_after(&self, from: usize, text: &str) -> (usize, String) {
        let mut end = Instant::now() + LONG;
        let mut lines = self.console.lines.lock().unwrap();
        loop {
            // Most often nothing comes after that.
            if lines.0.iter().any(|(_, line)| line.contains(FLAKE)) {
                end = end.min(Instant::now() + SHORT);
            }
            if let Some(at) = lines.0.iter().skip(from).position(|(_, line)| line.contains(text)) {
                return (from + at, lines.0[from + at].1.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 == 0 {
                drop(lines);
                panic!("no line {text:?} after line {from} in time");
            }
            lines = self.console.news.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// How many lines it printed so far: where a later wait begins.
    pub fn here(&self) -> usize {
        self.console.lines.lock().unwrap().0.len()
    }

    /// How long after its start a line with `text` in it came.
    pub fn when(&self, text: &str) -> Duration {
        let lines = self.console.lines.lock().unwrap();
        let found = lines.0.iter().find(|(_, line)| line.contains(text)).map(|(at, _)| *at);
        drop(lines);
        found.unwrap_or_else(|| panic!("no line {text:?}"))
    }

    /// Runs a script in the pod `shell`: its status and output.
    pub fn attempt(&mut self, script: &str) -> (i32, String) {
        self.shell.as_mut().expect("booted with a shell").run(script)
    }

    /// MemTotal - MemAvailable, thrice in ten seconds, in bytes: what its programs needed to start they give back.
    pub fn used(&mut self) -> Vec<u64> {
        let said = self.sh("for n in 1 2 3; do sleep 5; \
             awk '/^MemTotal:/ { t = $2 } /^MemAvailable:/ { print (t - $2) * 1024 }' /proc/meminfo; done");
        said.lines().map(|line| line.parse().expect(line)).collect()
    }

    /// Runs a script in the pod `shell`, which must succeed; its output.
    pub fn sh(&mut self, script: &str) -> String {
        let (status, output) = self.attempt(script);
        assert_eq!(status, 0, "script failed: {script}\n{output}");
        output.trim_end().to_owned()
    }

    /// Sends a command to QEMU; its answer.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.qmp).expect("QMP socket");
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.expect("QMP"));
        let mut answer = String::new();
        for request in [r#"{"execute":"qmp_capabilities"}"#, command] {
            stream.write_all(request.as_bytes()).unwrap();
            // The greeting and events come between.
            let answers = |line: &String| !line.contains("\"QMP\"") && !line.contains("\"event\"");
            answer = lines.find(answers).expect("an answer of QEMU's");
            assert!(answer.contains("\"return\""), "{request}: {answer}");
        }
        answer
    }

    /// Asks, again and again, until the answer is yes.
    pub fn poll(&self, what: &str, mut is: impl FnMut(&Vm) -> bool) {
        until(what, || is(self).then_some(()));
    }

    /// Presses the power button.
    pub fn press_power(&self) {
        self.ask(r#"{"execute":"system_powerdown"}"#);
    }

    /// Presses Ctrl-Alt-Del.
    pub fn press_ctrl_alt_del(&self) {
        let keys = ["ctrl", "alt", "delete"].map(|key| format!(r#"{{"type":"qcode","data":"{key}"}}"#)).join(",");
        self.ask(&format!(r#"{{"execute":"send-key","arguments":{{"keys":[{keys}]}}}}"#));
    }

    /// The process of QEMU.
    pub fn qemu(&self) -> Pid {
        let boot = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let end = Instant::now() + LONG;
        loop {
            if let Some(qemu) = qemu_of(boot) {
                return qemu;
            }
            assert!(Instant::now() < end, "no QEMU within {LONG:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the machine ends by itself within this time.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut lines = self.console.lines.lock().unwrap();
        while lines.1 > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lines = self.console.news.wait_timeout(lines, left).unwrap().0;
        }
        true
    }

    /// Waits for the machine's end: boot.sh's exit status, and how long after its start that was.
    pub fn end(&mut self) -> (i32, Duration) {
        assert!(self.ends_within(LONG), "the machine did not end within {LONG:?}");
        let status = self.child.wait().expect("boot.sh");
        (status.code().expect("boot.sh exits"), self.began.elapsed())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            // It ends QEMU before itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.qmp);
        if std::thread::panicking() {
            eprintln!("---- console\n{}----", self.console.show());
        }
    }
}
