//! What a service is started with, and how it says that it is ready.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use kios_init::plan::{self, CONTAINERD, KUBELET};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::boot::strings;
use crate::common::machine::{Machine, name_of, now};
use crate::common::process::Process;
use crate::common::setup::{Setup, text};

/// CAP_SYS_RESOURCE (capability(7)).
const SYS_RESOURCE: u32 = 24;

/// What tells a file from all others.
fn identity(path: impl AsRef<std::path::Path>) -> (u64, u64) {
    let data = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    (data.dev(), data.ino())
}

/// Design, tenet 1 and issue 3: fixed arguments and environment, no descriptor but those of the plan, clean signals, own
/// session.
#[test]
fn a_service_starts_with_what_the_plan_says() {
    let machine = Setup::new("ready\nmark /run/1", "ready\nmark /run/2").boot();
    // By then neither has the socket open that it said ready by.
    machine.marked("/run/1");
    machine.marked("/run/2");
    for (index, service) in plan::SERVICES.iter().enumerate() {
        let process = machine.service(index).expect("running");
        assert_eq!(process.strings("cmdline"), machine.arguments(index));
        assert_eq!(process.strings("environ"), strings(service.environment));
        assert_descriptors(&machine, process, index);
        assert_eq!(process.status("SigBlk"), "0000000000000000");
        // Rust's own start-up ignores SIGPIPE; what else is ignored came to init from who runs the tests.
        let ignored = |process: Process| u64::from_str_radix(&process.status("SigIgn"), 16).unwrap();
        let own = ignored(process) & !ignored(machine.init);
        assert_eq!(own & !(1 << (Signal::SIGPIPE as u32 - 1)), 0);
        let own = process.0.to_string();
        assert_eq!(process.stat(5), Some(own.clone()), "process group");
        assert_eq!(process.stat(6), Some(own), "session");
        assert_eq!(process.stat(7).as_deref(), Some("0"), "terminal");
        assert_eq!(process.status("NoNewPrivs"), "0");
        assert_eq!(identity(process.file("cwd")), identity(process.sees("/")));
        assert_limits(&machine, process, service);
    }
}

fn assert_descriptors(machine: &Machine, process: Process, index: usize) {
    let open = process.descriptors();
    assert_eq!(open.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 5], "{open:?}");
    assert_eq!(fs::metadata(process.file("fd/0")).unwrap().rdev(), nix::sys::stat::makedev(1, 3), "/dev/null");
    let target = |number: &str| fs::read_link(process.file(number)).unwrap();
    let pipe = target("fd/1");
    assert!(pipe.to_str().unwrap().starts_with("pipe:") && pipe == target("fd/2"), "{pipe:?}");
    if index == KUBELET {
        let config = target("fd/5");
        assert!(config.to_str().unwrap().starts_with("pipe:") && config != pipe, "{config:?}");
    } else {
        let config = text(plan::SERVICES[index].configs[0]);
        assert_eq!(identity(process.file("fd/5")), identity(machine.beneath(config)));
    }
    let flags = |number| process.read(&format!("fdinfo/{number}")).lines().nth(1).unwrap().replace("flags:\t", "");
    let mode = |number| u32::from_str_radix(&flags(number), 8).unwrap() & 3;
    assert_eq!((mode(1), mode(2), mode(5)), (1, 1, 0), "logs are written only, configuration is read only");
    assert_eq!(u32::from_str_radix(&flags(1), 8).unwrap() & libc::O_NONBLOCK.cast_unsigned(), 0, "who prints may wait");
}

fn assert_limits(machine: &Machine, process: Process, service: &plan::Service) {
    match machine.cgroup() {
        None => println!("no cgroup2 here: not tested"),
        Some(root) => {
            let cgroups = process.read("cgroup");
            let wanted = format!("0::{root}/{}", text(service.cgroup));
            assert!(cgroups.lines().any(|line| line == wanted), "{wanted} {cgroups}");
            let own = machine.init.read("cgroup");
            let wanted = format!("0::{root}/{}", plan::INIT_CGROUP.to_str().unwrap());
            assert!(own.lines().any(|line| line == wanted), "{wanted} {own}");
        }
    }
    let tester = Process(i32::try_from(std::process::id()).unwrap());
    let capabilities = u64::from_str_radix(&tester.status("CapEff"), 16).unwrap();
    if capabilities & (1 << SYS_RESOURCE) == 0 {
        println!("no CAP_SYS_RESOURCE here: that init does without its limits is all that can be tested");
        machine.log.expect("/proc/self/oom_score_adj: EACCES (degraded)");
        machine.log.expect("set limits: EPERM (degraded)");
        return;
    }
    assert_eq!(process.read("oom_score_adj").trim(), text(plan::OOM_SCORE_ADJ));
    let limits = process.read("limits");
    // In the order of their numbers (fs/proc/base.c, lnames).
    let wanted = (0u32..).zip(limits.lines().skip(1)).map(|(number, line)| {
        let planned = plan::LIMITS.iter().find(|(of, ..)| *of == number);
        let said = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        let [soft, hard] = planned.map_or([u64::MAX; 2], |&(_, soft, hard)| [soft, hard]).map(said);
        let values: Vec<_> = line.get(26..).unwrap().split_whitespace().take(2).collect();
        assert_eq!(values, [soft, hard], "{line}");
    });
    assert_eq!(wanted.count(), 16);
}

/// Design §3.5: services restart from descriptors opened at boot, whatever lies at their paths by then.
#[test]
fn a_restart_runs_what_was_opened_at_boot() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let service = &plan::SERVICES[KUBELET];
    let first = machine.service(KUBELET).unwrap();
    let held = (identity(first.file("exe")), identity(machine.beneath(text(service.configs[0]))));
    for (path, content) in [(text(service.program), "#!/bin/false\n"), (text(service.configs[0]), "exit 9\n")] {
        fs::write(machine.beneath("new"), content).unwrap();
        fs::rename(machine.beneath("new"), machine.beneath(path)).unwrap();
        assert_eq!(fs::read_to_string(machine.init.sees(&format!("/{path}"))).unwrap(), content);
    }
    kill(Pid::from_raw(first.0), Signal::SIGKILL).unwrap();
    let (place, _) = machine.log.expect_after(0, "killed by SIGKILL");
    machine.log.expect_after(place, "kubelet ready");
    let second = machine.service(KUBELET).unwrap();
    assert_ne!(first, second);
    assert_eq!((identity(second.file("exe")), identity(second.file("fd/5"))), held);
}

/// Design §3.11: each notify socket, and the bus, exists beside who the machine is in its own service's mount namespace and nowhere else.
#[test]
fn sockets_are_in_their_own_namespace_only() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let [containerd, kubelet] = [CONTAINERD, KUBELET].map(|index| machine.service(index).unwrap());
    let socket = "/kios/notify";
    let files = ["hosts", "machine-id"];
    for (process, all) in [(containerd, &["notify"][..]), (kubelet, &["bus", "notify"])] {
        let mut found: Vec<_> =
            fs::read_dir(process.sees("/kios")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        found.sort();
        found.retain(|name| !files.iter().any(|file| name == file));
        assert_eq!(found, all);
        let [hosts, id] = files.map(|file| fs::read_to_string(process.sees(&format!("/kios/{file}"))).unwrap());
        let name = name_of(&id);
        assert_eq!(hosts, format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n"));
        for name in all {
            assert!(fs::metadata(process.sees(&format!("/kios/{name}"))).unwrap().file_type().is_socket());
        }
    }
    assert_ne!(identity(containerd.sees(socket)), identity(kubelet.sees(socket)));
    assert_eq!(fs::read_dir(machine.init.sees("/kios")).unwrap().count(), 0);
    for (own, other) in [(containerd, kubelet), (kubelet, containerd)] {
        let device = |process: Process| fs::metadata(process.sees("/kios")).unwrap().dev();
        let minor = format!(" {}:{} ", nix::sys::stat::major(device(own)), nix::sys::stat::minor(device(own)));
        assert!(own.read("mountinfo").contains(&minor));
        assert!(!other.read("mountinfo").contains(&minor) && !machine.init.read("mountinfo").contains(&minor));
    }
}

/// Design §3.11: only the service's own process makes it ready, though all of its namespace reaches the socket.
#[test]
fn another_process_cannot_say_ready() {
    // Each ready-from-child returns once init has read it.
    let script = "ready-from-child\nready-from-child\nmark /run/sent\nwait /run/go\nready";
    let machine = Setup::new(script, "ready").boot();
    machine.marked("/run/sent");
    let before = now();
    machine.go("/run/go");
    let ready = machine.log.expect("containerd ready");
    assert!(ready.at >= before, "{ready:?} before {before}");
    machine.log.expect("kubelet ready");
}
