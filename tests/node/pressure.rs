//! A node on which what PID 1 and the services need is used up, stopped, or held: by the root of a privileged pod, at the
//! worst moment, when services end. Init keeps its loop, feeds the watchdog, and the services come back.

use std::fs;
use std::time::{Duration, Instant};

use kios_init::plan::{WATCHDOG_FEEDS, WATCHDOG_RUN};

use crate::arch;
use crate::gate::{ROOM, Scenario, scenario};
use crate::lines::{Line, parse, power_off};
use crate::processes::no_zombies;
use crate::vm::{Vm, boot, repository};
use crate::watchdog;

/// Milliseconds in which init must have noticed that a service ended, and must have answered.
const NOTICED: u64 = 5_000;
/// How much later than planned the watchdog may be fed, in milliseconds, and a service started.
const LATE: u64 = 5_000;
/// For how long what is pressed stays so: longer than init waits for anything of its own but the start of a service.
const HELD: Duration = Duration::from_secs(5);
/// Seconds for which it stays so once: longer than a watchdog that is not fed.
const HELD_LONG: u64 = 65;

/// The shell's own files go to memory, so that it lives whatever becomes of the disk, and each feeding of the watchdog is
/// noted, on the clock of init's lines.
const PREPARE: &str = "mkdir /new && mount -t tmpfs new /new && cp -a /tmp/. /new && mount --move /new /tmp && \
    cd /host/sys/kernel/tracing && echo boot >trace_clock && echo 1 >events/watchdog/watchdog_ping/enable";

/// Wakes init's loop by a signal for which it looks for ended children, and waits until it has slept again: when that was
/// asked, and when it was done.
const ASK: &str = "slept() { awk '/^voluntary/ { print $2 }' /proc/1/status; }; before=$(slept); read asked rest </proc/uptime; \
    kill -CHLD 1; for try in $(seq 100); do [ $(slept) = $before ] || break; sleep 0.1; done; \
    [ $(slept) != $before ] && echo $asked $(cut -d ' ' -f 1 /proc/uptime)";

/// When init fed the watchdog, and when it is now: seconds since power-on.
const FED: &str = "awk '/watchdog_ping/ { print $4 + 0 }' /host/sys/kernel/tracing/trace; cut -d ' ' -f 1 /proc/uptime";

/// For programs in the mount namespace of the first containerd, whose /run and /var are everybody's: into that of a later
/// one the pod cannot look.
const NODE: &str =
    "shims=$(pidof containerd-shim-runc-v2); node() { nsenter -t ${shims%% *} -m /var/lib/press/\"$@\"; };";

/// A node, and what ran on it before it was pressed.
struct Node<'a> {
    scenario: &'a Scenario,
    vm: Vm,
    pod: String,
    /// From when on feeding is noted, in seconds since power-on.
    since: String,
}

impl Node<'_> {
    fn start(scenario: &Scenario) -> Node<'_> {
        let mut vm = boot(scenario).shell().qemu(watchdog::DEVICE).start();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("late modules: ");
        vm.sh(PREPARE);
        let since = vm.sh("cut -d ' ' -f 1 /proc/uptime");
        let pod = vm.sh("pidof hello");
        Node { scenario, vm, pod, since }
    }

    /// Does something to the node, and checks what must hold whatever that is.
    fn press(&mut self, name: &str, act: fn(&mut Node<'_>)) {
        let began = Instant::now();
        self.answers();
        act(self);
        self.answers();
        let fed = format!("{}\n{}", self.since, self.vm.sh(FED));
        let times: Vec<_> = fed.lines().map(|line| (line.parse::<f64>().unwrap() * 1_000.0) as u64).collect();
        let gap = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
        no_zombies(&mut self.vm);
        self.pod_runs();
        let took = began.elapsed();
        self.scenario
            .note(&format!("{name}: {took:.1?}; fed {} times so far, at least every {gap} ms", times.len() - 2));
        let every = u64::from(WATCHDOG_RUN.cast_unsigned()) * 1_000 / WATCHDOG_FEEDS;
        assert!(gap <= every + LATE, "{name}: the watchdog was not fed for {gap} ms");
    }

    /// Waits for the pod; checks that it is the one that ran before.
    fn pod_runs(&mut self) {
        let pod = self.vm.sh("for try in $(seq 300); do pidof hello && break; sleep 0.1; done");
        assert_eq!(pod, self.pod, "container-a's process");
    }

    /// Checks that init answers in time.
    fn answers(&mut self) {
        let said = self.vm.sh(ASK);
        let times: Vec<f64> = said.split(' ').map(|time| time.parse().unwrap()).collect();
        let [asked, done] = times[..] else { panic!("no answer: {said}") };
        let took = ((done - asked) * 1_000.0) as u64;
        assert!(took <= NOTICED, "init answered after {took} ms");
    }

    /// Kills these services in one moment: where a later wait for what init says of it begins, and that moment.
    fn kill(&mut self, services: &[&str]) -> (usize, u64) {
        let from = self.vm.here();
        let pids: Vec<_> = services.iter().map(|service| format!("$(pidof {service})")).collect();
        let said = self.vm.sh(&format!("pids=\"{}\"; cut -d ' ' -f 1 /proc/uptime; kill -KILL $pids", pids.join(" ")));
        (from, (said.parse::<f64>().unwrap() * 1_000.0) as u64)
    }

    /// Checks that init noticed in time that these services were killed.
    fn noticed(&self, killed: (usize, u64), services: &[&str]) {
        for service in services {
            let (_, line) = self.vm.wait_after(killed.0, &format!("] {service} (pid "));
            let line = parse(&line).expect("a line of init's");
            let took = line.at.saturating_sub(killed.1);
            self.scenario.note(&format!("{} ({took} ms after it)", line.text));
            assert!(line.text.contains(" killed by SIGKILL "), "{}", line.text);
            assert!(took <= NOTICED, "noticed after {took} ms");
        }
    }

    /// Waits until a service said that it is ready.
    fn ready(&self, from: usize, service: &str) {
        self.vm.wait_after(from, &format!("] {service} ready"));
    }

    /// The same, for as long as what is pressed stays so; says whether it was ready by then.
    fn ready_meanwhile(&self, from: usize, service: &str) -> bool {
        let end = Instant::now() + 4 * HELD;
        let text = format!("] {service} ready");
        let mut is = false;
        while !is && Instant::now() < end {
            is = self.vm.lines().iter().skip(from).any(|line| line.contains(&text));
            std::thread::sleep(Duration::from_millis(20));
        }
        is
    }

    /// Waits until both services ended and are ready again, and notes which of that came before what held them was gone,
    /// at line `gone`.
    fn back(&self, from: usize, gone: usize) {
        for service in ["containerd", "kubelet"] {
            for what in [format!("] {service} (pid "), format!("] {service} ready")] {
                let (at, line) = self.vm.wait_after(from, &what);
                let when = if at < gone { "before" } else { "after" };
                self.scenario.note(&format!("{line} ({when} what held it was gone)"));
            }
        }
    }

    /// Waits for a line of `press`; where it is, and the time it has.
    fn said(&self, from: usize, text: &str) -> (usize, u64) {
        let (place, line) = self.vm.wait_after(from, text);
        let (_, own) = line.split_once("press: ").expect("a line of press");
        (place, parse(&format!("kios: {own}")).expect("a time").at)
    }

    /// Lines of init's from `from` on that say of an end of one of these services.
    fn ends(&self, from: usize, services: &[&str]) -> Vec<String> {
        let is = |line: &String| services.iter().any(|service| line.contains(&format!("] {service} (pid ")));
        self.vm.lines().into_iter().skip(from).filter(|line| line.starts_with("kios: ") && is(line)).collect()
    }
}

/// The clock jumps by ten years, there and back and beyond: restarts take what the plan says, and nothing else ends.
fn clock(node: &mut Node<'_>) {
    const TEN_YEARS: i64 = 3_652 * 86_400;
    for (jump, back_off) in [(TEN_YEARS, 250), (-2 * TEN_YEARS, 500)] {
        let containerd = node.vm.sh("pidof containerd");
        node.vm.sh(&format!("date -s @$(($(date +%s) + {jump})) && date"));
        let killed = node.kill(&["kubelet"]);
        node.noticed(killed, &["kubelet"]);
        let (_, ended) = node.vm.wait_after(killed.0, &format!(", next try in {back_off}ms"));
        let (_, started) = node.vm.wait_after(killed.0, "] started kubelet");
        let [ended, started] = [ended, started].map(|line| parse(&line).expect("a line of init's").at);
        assert!((back_off..back_off + LATE).contains(&(started - ended + 20)), "{ended} {started}");
        node.ready(killed.0, "kubelet");
        assert_eq!(node.vm.sh("pidof containerd"), containerd);
        assert_eq!(node.ends(killed.0, &["containerd", "kubelet"]).len(), 1);
    }
    node.vm.sh(&format!("date -s @$(($(date +%s) + {TEN_YEARS}))"));
}

/// The socket by which containerd says that it is ready has as much in it as it takes, where it is still there.
fn notifications(node: &mut Node<'_>) {
    node.vm.sh("for n in 1 2 3; do (/tmp/press flood /host/kios/notify 10 >/tmp/flood$n 2>&1 &) ; done");
    let killed = node.kill(&["containerd"]);
    node.noticed(killed, &["containerd"]);
    node.answers();
    node.ready(killed.0, "containerd");
    node.vm.sh("for try in $(seq 200); do pidof press >/dev/null || break; sleep 0.1; done");
    let said = node.vm.sh("cat /tmp/flood1 /tmp/flood2 /tmp/flood3");
    node.scenario.note(&format!("notify socket: {}", said.replace('\n', "; ")));
}

/// A pod takes more memory than it may: the kernel kills it, and nothing else.
fn memory_of_a_pod(node: &mut Node<'_>) {
    let from = node.vm.here();
    let pod = fs::read_to_string(repository("tests/pods/press/hog.yaml")).unwrap();
    node.vm.sh(&format!(
        "cat >/tmp/hog.yaml <<'END'\n{pod}END\ncp /tmp/hog.yaml /host/etc/kubernetes/manifests/.hog && \
        cd /host/etc/kubernetes/manifests && mv .hog hog.yaml"
    ));
    node.vm.wait_after(from, "Memory cgroup out of memory: Killed process");
    node.vm.sh("rm /host/etc/kubernetes/manifests/hog.yaml");
    assert_eq!(node.ends(from, &["containerd", "kubelet"]), [""; 0]);
}

/// Nothing fits in /run, and, with that memory gone, a process takes what is left of the machine's: the kernel kills that
/// one. Services start again even then.
fn run_and_memory(node: &mut Node<'_>) {
    // What the last of it does not fit in says so.
    node.vm
        .sh("cd /host/run && free() { df -k . | awk 'END { print $4 }'; } && fallocate -l $(($(free) - 64))k fill && \
        ! cat /dev/zero >rest 2>/dev/null && [ $(free) = 0 ]");
    let killed = node.kill(&["containerd", "kubelet"]);
    node.noticed(killed, &["containerd", "kubelet"]);
    let meanwhile = node.ready_meanwhile(killed.0, "kubelet");
    assert_eq!(node.vm.sh("df -k /host/run | awk 'END { print $4 }'"), "0");

    // In a cgroup of its own: a pod's processes are killed together.
    let from = node.vm.here();
    let (status, _) = node.vm.attempt(
        "mkdir -p /host/sys/fs/cgroup/press && \
        sh -c 'echo $$ >/host/sys/fs/cgroup/press/cgroup.procs && exec /tmp/press hog'",
    );
    assert_eq!(status, 128 + 9);
    let (_, killed_by) = node.vm.wait_after(from, "Out of memory: Killed process");
    assert!(killed_by.contains("(press)"), "{killed_by}");
    let ends = node.ends(from, &["containerd", "kubelet"]);
    node.answers();
    node.vm.sh("rm /host/run/fill /host/run/rest");
    node.scenario.note(&format!("with /run full, kubelet ready: {meanwhile}; ended for want of memory: {ends:?}"));
    node.ready(if ends.is_empty() { killed.0 } else { from }, "kubelet");
}

/// There is no process id for a service's next start: init says so each time, waits twice as long, and starts it once
/// there is one.
fn process_ids(node: &mut Node<'_>) {
    let from = node.vm.here();
    node.vm.sh("sh -c 'echo $$ >/host/sys/fs/cgroup/press/cgroup.procs; (/tmp/press pids &) >/dev/null 2>&1'");
    let killed = node.said(from, "no process ids");
    node.noticed(killed, &["kubelet"]);
    node.said(killed.0, "process ids again");
    // The kernel's own lines overtake those that init's terminal still holds.
    let (ready, _) = node.vm.wait_after(killed.0, "] kubelet ready");
    let own: Vec<_> = node.vm.lines()[killed.0..ready].iter().filter_map(|line| parse(line)).collect();
    let wait = |text: &str| text.split_once("next try in ")?.1.trim_end_matches("ms").parse::<u64>().ok();
    let kubelet = own.iter().filter(|line| line.text.contains("kubelet"));
    let waits: Vec<_> = kubelet.filter_map(|line| Some((line.at, wait(&line.text)?))).collect();
    node.scenario.note(&format!("(said at, next try in) ms: {waits:?}"));
    let failed = |line: &&Line| line.text.starts_with("start kubelet: fork: EAGAIN, next try in ");
    assert!(own.iter().filter(failed).count() >= 2);
    for pair in waits.windows(2) {
        assert_eq!(pair[1].1, pair[0].1 * 2);
        assert!((pair[0].1..pair[0].1 + LATE).contains(&(pair[1].0 - pair[0].0 + 20)), "{pair:?}");
    }
    // Its shell cannot start anything either, and ends; kubelet starts it again.
    node.pod = node.vm.sh("for try in $(seq 300); do pidof hello && break; sleep 0.1; done");
    assert_ne!(node.pod, "");
}

/// The console takes nothing: lines are lost there, and only there; once it goes on they come again.
fn console(node: &mut Node<'_>) {
    node.vm.sh(&format!("/tmp/press flow /host/dev/{} stop", arch::console()));
    let own = |node: &Node<'_>| node.vm.lines().iter().filter(|line| line.starts_with("kios: ")).count();
    let before = own(node);
    let log = "dmesg | sed -n 's/.*] kios: /kios: /p' | grep kubelet";
    let known: usize = node.vm.sh(&format!("{log} | wc -l")).parse().unwrap();
    let killed = node.kill(&["kubelet"]);
    let said = node.vm.sh(&format!(
        "for try in $(seq 300); do log=$({log} | tail -n +{}); case $log in *'] kubelet ready') break ;; esac; \
        sleep 0.1; done; echo \"$log\"",
        known + 1
    ));
    let lines: Vec<_> = said.lines().filter_map(parse).collect();
    assert!(lines.len() == 3 && lines[2].text == "kubelet ready", "{said}");
    assert!(lines[0].text.contains(" killed by SIGKILL "), "{said}");
    let noticed = lines[0].at.saturating_sub(killed.1);
    let all = lines[1].at - lines[0].at;
    node.scenario.note(&format!("console stopped: noticed after {noticed} ms, started {all} ms later"));
    assert!(noticed <= NOTICED);
    assert_eq!(own(node), before, "the console was not stopped");
    node.answers();
    node.vm.sh(&format!("/tmp/press flow /host/dev/{} start", arch::console()));
    let killed = node.kill(&["containerd"]);
    node.noticed(killed, &["containerd"]);
    node.ready(killed.0, "containerd");
}

/// The data disk takes nothing: a service that ended before that is started, and one that has something to write then may
/// end only after it.
fn disk(node: &mut Node<'_>) {
    let killed = node.kill(&["containerd"]);
    node.vm.sh("fsfreeze --freeze /host/var");
    node.noticed(killed, &["containerd"]);
    node.kill(&["kubelet"]);
    held(node);
    node.vm.sh("fsfreeze --unfreeze /host/var");
    let thawed = node.vm.here();
    node.back(killed.0, thawed);
}

/// File systems that do not answer lie over /var/log and /run, everywhere.
fn file_systems(node: &mut Node<'_>) {
    let mounted = |point: &str| format!("grep -q ' {point} .* - fuse ' /proc/1/mountinfo");
    let before = node.vm.here();
    node.vm.sh("mkdir /host/var/lib/press && cp /tmp/stuck /bin/busybox /host/var/lib/press/");
    for point in ["/var/log", "/run"] {
        let until = mounted(point);
        node.vm.sh(&format!(
            "{NODE} (node stuck fuse {point} &) >/dev/null 2>&1; \
            for try in $(seq 100); do {until} && exit; sleep 0.1; done; exit 1"
        ));
    }
    // One whose request was read cannot be killed before its server is.
    let (from, _) = node.kill(&["containerd", "kubelet"]);
    node.vm.wait_after(before, "stuck: request ");
    held(node);
    node.vm.sh(&format!(
        "{NODE} kill -KILL $(pidof stuck); \
        for point in /run /var/log; do node busybox umount -l $point || exit 1; done"
    ));
    let gone = node.vm.here();
    let (status, _) = node.vm.attempt(&mounted(".*"));
    assert_ne!(status, 0, "still mounted in process 1's namespace");
    node.back(from, gone);
}

/// Every open and read below /var/log, /var and /run waits for somebody's permission, who does not answer: for longer than
/// the watchdog's time-out.
fn permissions(node: &mut Node<'_>) {
    let from = node.vm.here();
    node.vm.sh(&format!("(/tmp/press mark {HELD_LONG} /var/log /var /run &) >/dev/null 2>&1"));
    let killed = node.said(from, "marked ");
    node.noticed(killed, &["containerd", "kubelet"]);
    node.vm.wait_after(killed.0, "] started containerd");
    let (gone, _) = node.said(killed.0, "not marked");
    node.back(killed.0, gone);
}

/// Lets some time pass, at whose end init answers.
fn held(node: &mut Node<'_>) {
    let began = Instant::now();
    node.vm.poll("held", |_| began.elapsed() > HELD);
    node.answers();
}

#[test]
fn what_a_node_needs_is_used_up() {
    scenario("what_a_node_needs_is_used_up", ROOM, |scenario| {
        let mut node = Node::start(scenario);
        node.press("clock", clock);
        node.press("notifications", notifications);
        node.press("memory of a pod", memory_of_a_pod);
        node.press("/run and memory", run_and_memory);
        node.press("process ids", process_ids);
        // What all that did to the kernel is not init's to mend, and its disk was seen to hang then. The machine ends all the same.
        let from = node.vm.here();
        node.vm.press_power();
        let (status, _) = node.vm.end();
        let lines = node.vm.lines();
        for line in lines[from..].iter().filter(|line| line.contains("(degraded")) {
            scenario.note(line);
        }
        assert_eq!(status, 0);
    });
}

#[test]
fn what_a_node_needs_is_held() {
    scenario("what_a_node_needs_is_held", ROOM, |scenario| {
        let mut node = Node::start(scenario);
        // First: into the mount namespace of a later containerd the pod cannot look.
        node.press("permissions", permissions);
        node.press("console", console);
        node.press("disk", disk);
        node.press("file systems", file_systems);
        power_off(scenario, &mut node.vm);
    });
}
