//! One boot of a node in QEMU, and what its pod said of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::init::last_lines;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest that a node takes until its pod has said all.
const LIMIT: Duration = Duration::from_secs(180);

/// What the emulator at times dies of, in a kernel that did nothing wrong: its threads race over a patched instruction.
const FLAKE: &str = "Oops: int3";
/// How often a node is booted until it is not by that that it ends.
const ATTEMPTS: usize = 3;

/// Each start of a program is noted in the kernel's log, on its clock: for all nodes alike. The rest is systemd's: it says
/// there what it does, and nothing on the console, where it would wait; and its udev leaves eth0 its name.
const COMMAND_LINE: &str = "trace_event=sched:sched_process_exec tp_printk printk.devkmsg=on log_buf_len=1M \
    systemd.log_target=kmsg systemd.show_status=0 net.ifnames=0";

/// What the machine's clock goes by.
#[derive(Clone, Copy)]
pub enum Clock {
    /// The host's time, on two processors.
    Host,
    /// QEMU's icount: each instruction of its one processor is a nanosecond, and where it idles the clock goes on to the next
    /// timer at once.
    Instructions,
}

impl Clock {
    /// Of the times in a table.
    pub fn unit(self) -> &'static str {
        match self {
            Clock::Host => "s",
            Clock::Instructions => "virtual s",
        }
    }

    fn options(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Clock::Host => (&[], &[]),
            Clock::Instructions => (&["--accel", "tcg", "--cpus", "1"], &["-icount", "shift=0,sleep=off"]),
        }
    }
}

/// A node: name, initramfs, and the disk where its root is.
pub struct Node {
    /// As in the table.
    pub name: String,
    /// What the kernel starts, unless it is boot.sh's.
    pub initramfs: Option<PathBuf>,
    /// The second disk.
    pub root: Option<PathBuf>,
}

impl Node {
    /// By a line: the three, with tabs between.
    pub fn parse(line: &str) -> Result<Node> {
        let mut fields = line.split('\t');
        let name = fields.next().context("name")?.into();
        let initramfs = fields.next().with_context(|| format!("initramfs in {line:?}"))?.into();
        Ok(Node { name, initramfs: Some(initramfs), root: fields.next().map(PathBuf::from) })
    }

    /// The one that boot.sh boots.
    pub fn own() -> Node {
        Node { name: "kios-init".into(), initramfs: None, root: None }
    }

    /// Bytes of what it boots from, without the kernel.
    pub fn bytes(&self) -> Result<u64> {
        let files = [&self.initramfs, &self.root];
        let size =
            |file: &PathBuf| fs::metadata(file).map(|data| data.len()).with_context(|| file.display().to_string());
        files.into_iter().flatten().map(size).sum()
    }
}

/// A machine that runs. Ends with this value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // boot.sh ends QEMU before itself.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Boots `node` by boot.sh, with the pods of `work`, and reads what its pod says.
pub fn boot(script: &Path, work: &Path, node: &Node, clock: Clock) -> Result<Report> {
    Report::parse(&said(script, work, node, clock, &["--append", COMMAND_LINE])?)
}

/// Boots `node` by boot.sh with these options, and the pods of `work`; what its pod said. Again where the emulator died.
pub fn said(script: &Path, work: &Path, node: &Node, clock: Clock, options: &[&str]) -> Result<String> {
    for _ in 1..ATTEMPTS {
        let result = attempt(script, work, node, clock, options);
        let console = fs::read(work.join("console")).context("console")?;
        if result.is_ok() || !String::from_utf8_lossy(&console).contains(FLAKE) {
            return result;
        }
        eprintln!("bench: {}: once more, since the emulator died of {FLAKE:?}", node.name);
    }
    attempt(script, work, node, clock, options)
}

fn attempt(script: &Path, work: &Path, node: &Node, clock: Clock, options: &[&str]) -> Result<String> {
    let (said, console) = (work.join("said"), work.join("console"));
    let log = fs::File::create(&console).context("console")?;
    fs::write(&said, "").context("file for what is said")?;
    // It ends with this program, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM"])
        .arg(script)
        .arg("--manifests")
        .arg(work.join("manifests"))
        .args(["--timeout", &LIMIT.as_secs().to_string()]);
    let (own, emulator) = clock.options();
    command.args(own).args(options).arg("--").args(emulator);
    if let Some(initramfs) = &node.initramfs {
        command.arg("-initrd").arg(initramfs);
    }
    command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=said", "-chardev"]);
    command.arg(format!("file,id=said,path={}", said.display()));
    if let Some(root) = &node.root {
        command.args(["-device", "virtio-blk-pci,drive=root", "-drive"]);
        command.arg(format!("if=none,id=root,format=raw,readonly=on,file={}", root.display()));
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().context("console")?).stderr(log);
    let mut machine = Machine(command.spawn().context("boot.sh")?);
    let end = Instant::now() + LIMIT;
    loop {
        let text = String::from_utf8_lossy(&fs::read(&said).context("what is said")?).into_owned();
        if text.ends_with("\nend\n") {
            return Ok(text);
        }
        if Instant::now() > end || machine.0.try_wait().context("boot.sh")?.is_some() {
            bail!("its pod did not say all; the console's {}", last_lines(&console));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What is known of a boot.
#[derive(Debug, PartialEq)]
pub struct Report {
    /// Seconds from the kernel's start of the first program.
    pub times: [f64; EVENTS.len()],
    /// MemTotal - MemAvailable when the pod ran, in KiB.
    pub memory: u64,
    /// Names of the processes that are no pod's, no service and no shim, and their Pss in KiB.
    pub processes: Vec<(String, u64)>,
}

/// What is timed.
pub const EVENTS: [&str; 4] = ["containerd exec", "containerd ready", "kubelet ready", "first pod"];

/// Programs that each of the nodes has.
const SERVICES: [&str; 3] = ["containerd", "kubelet", "containerd-shim"];

impl Report {
    /// Of what the pod bench says (tests/bench/pods).
    fn parse(text: &str) -> Result<Report> {
        let value = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
            line.trim().trim_end_matches(" kB").parse().with_context(|| name.to_owned())
        };
        let memory = value("MemTotal:")? - value("MemAvailable:")?;
        let mut processes = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("process ")) {
            let [name, pss, cgroup] = line.split(' ').collect::<Vec<_>>()[..] else { bail!("process: {line:?}") };
            let pss = pss.parse().with_context(|| line.to_owned())?;
            if !cgroup.starts_with("/kubepods") && !SERVICES.contains(&name) {
                processes.push((name.into(), pss));
            }
        }
        ensure!(text.lines().any(|line| line == "eth0"), "no network card, which the other pod needs");
        let log: Vec<_> = text.lines().filter_map(of_log).collect();
        let at = |what: &str, is: &dyn Fn(&str) -> bool| {
            log.iter()
                .find(|(_, text)| is(text))
                .map(|(at, _)| *at)
                .with_context(|| format!("no line in the log: {what}"))
        };
        let began = at("hand-over", &|text| text.starts_with("Run /init as init process"))?;
        // kios-init starts its services by descriptors.
        let by_kios = log.iter().find_map(|(_, text)| text.split_once("started containerd (pid ")?.1.split_once(')'));
        let pid = by_kios.map(|(pid, _)| format!(" pid={pid} "));
        let times = [
            at("containerd's exec", &|text| {
                let own = || pid.as_ref().is_some_and(|pid| text.contains(pid.as_str()));
                text.starts_with("sched_process_exec:") && (text.contains("/containerd ") || own())
            })?,
            at("containerd ready", &|text| {
                text.contains("containerd ready") || text.contains("Started containerd.service")
            })?,
            at("kubelet ready", &|text| text.contains("kubelet ready") || text.contains("Started kubelet.service"))?,
            at("the pod", &|text| text == "bench: pod runs")?,
        ];
        ensure!(times.iter().all(|&time| time >= began), "the log's times are not in order");
        Ok(Report { times: times.map(|time| time - began), memory, processes })
    }
}

/// Time and text of a line of the kernel's log.
fn of_log(line: &str) -> Option<(f64, &str)> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    Some((time.trim().parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     400 kB\n\
        process init 100 /init\nprocess containerd 9000 /podruntime/runtime\n\
        process udhcpc 50 /kubepods/pod1/a\neth0\n\
        [    2.000000] Run /init as init process\n\
        [    2.500000] sched_process_exec: filename=/dev/fd/4 pid=70 old_pid=70\n\
        [    3.000000] sched_process_exec: filename=/dev/fd/4 pid=77 old_pid=77\n\
        [    3.100000] kios: [3.010] started containerd (pid 77)\n\
        [    4.500000] kios: [4.400] containerd ready\n\
        [    6.000000] bench: pod runs\n\
        [    7.000000] kios: [6.900] kubelet ready\nend\n";

    #[test]
    fn a_boot_is_read() {
        let report = Report::parse(SAID).unwrap();
        assert_eq!(report, Report { times: [1.0, 2.5, 5.0, 4.0], memory: 600, processes: vec![("init".into(), 100)] });
    }

    #[test]
    fn systemd_says_it_otherwise() {
        let said = SAID
            .replace(
                "kios: [3.010] started containerd (pid 77)",
                "systemd[1]: Starting containerd.service - containerd...",
            )
            .replace("filename=/dev/fd/4 pid=77", "filename=/usr/bin/containerd pid=77")
            .replace("kios: [4.400] containerd ready", "systemd[1]: Started containerd.service - containerd.")
            .replace("kios: [6.900] kubelet ready", "systemd[1]: Started kubelet.service - kubelet.");
        assert_eq!(Report::parse(&said).unwrap().times, [1.0, 2.5, 5.0, 4.0]);
    }

    #[test]
    fn a_boot_that_lacks_something_is_refused() {
        for what in
            ["MemAvailable", "eth0", "Run /init", "containerd ready", "kubelet ready", "bench: pod runs", "pid 77"]
        {
            assert!(Report::parse(&SAID.replace(what, "")).is_err(), "{what}");
        }
    }

    #[test]
    fn a_node_is_a_line() {
        let node = Node::parse("floor, in RAM\t/a").unwrap();
        assert_eq!((node.name.as_str(), node.root), ("floor, in RAM", None));
        assert_eq!(Node::parse("x\t/a\t/b").unwrap().root, Some("/b".into()));
        assert!(Node::parse("x").is_err());
    }
}
