//! Looking into process 1 and kubelet, and taking hold of them.

use super::{Attack, Target, Verdict};

/// Ways by which nothing is changed: their success is no more than a look.
const LOOKS: &[&str] = &[
    "environ",
    "maps",
    "auxv",
    "stack",
    "syscall",
    "io",
    "smaps",
    "pagemap",
    "personality",
    "root",
    "cwd",
    "exe",
    "fd/0",
    "ns/mnt",
    "ns/pid",
    "fdinfo",
    "map_files",
    "exe bytes",
    "mem for reading",
    "process_vm_readv",
    "kcmp",
    "perf_event_open",
    "get_robust_list",
];

/// All of `intruder into`, for both.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    let kubelet = target.sh("pidof kubelet");
    let mut attacks = Vec::new();
    for (whom, pid) in [("process 1", "1"), ("kubelet", &kubelet)] {
        let said = target.sh(&format!("/tmp/intruder into {pid}"));
        attacks.extend(answers(&said, |name| format!("{name} of {whom}")));
    }
    let walk = target.sh("/tmp/intruder walk $(pidof containerd)");
    attacks.extend(answers(&walk, |name| format!("mount namespaces from containerd's: {name}")));
    attacks.extend(sweep(target));
    attacks
}

/// What the intruder's lines mean.
pub fn answers(said: &str, name: impl Fn(&str) -> String) -> Vec<Attack> {
    let lines = said.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("name: answer: {line}")));
    lines
        .map(|(way, answer)| {
            let verdict = match answer.split_once(' ') {
                Some(("held", errno)) => Verdict::Held(errno.into()),
                _ if answer == "open" && LOOKS.contains(&way) => Verdict::Seen(String::new()),
                _ if answer == "open" => Verdict::Broken("open".into()),
                _ => panic!("{way} could not be tried: {answer}"),
            };
            Attack::new(name(way), verdict)
        })
        .collect()
}

/// What of process 1's files in /proc may be written: none that it, or what it starts, goes by.
const HARMLESS: &[&str] = &[
    // Its threads' memory statistics, and what a dump of its memory would hold.
    "clear_refs",
    "coredump_filter",
    // How the kernel schedules it and picks whom to kill: what it starts has its own (`inherit`).
    "autogroup",
    "oom_adj",
    "oom_score_adj",
    "timerslack_ns",
    // Statistics, reset by a write.
    "sched",
    "latency",
    // Opened by anybody; writing is for the process itself, or refused once set.
    "comm",
    "loginuid",
    "uid_map",
    "gid_map",
    "projid_map",
    "setgroups",
    "attr/current",
    "attr/exec",
    "attr/fscreate",
    "attr/keycreate",
    "attr/sockcreate",
    "attr/apparmor/current",
    "attr/apparmor/exec",
    "attr/smack/current",
    "make-it-fail",
    "fail-nth",
    "timens_offsets",
    "ksm_merging_pages",
];

/// Opens every file of process 1's in /proc for writing.
fn sweep(target: &mut Target) -> Vec<Attack> {
    let found = target.sh(
        "cd /proc/1 && for file in $(find . -maxdepth 3 -type f -perm -200 ! -path './task/*' ! -path './net/*' 2>/dev/null); do \
         file=${file#./}; if ( : >>$file ) 2>/dev/null; then echo $file; fi; done",
    );
    let open: Vec<_> = found.lines().filter(|file| !HARMLESS.contains(file)).collect();
    let verdict = if open.is_empty() {
        Verdict::Seen(format!("{} files open, none that it goes by", found.lines().count()))
    } else {
        Verdict::Broken(open.join(" "))
    };
    vec![Attack::new("files of /proc/1 for writing", verdict)]
}
