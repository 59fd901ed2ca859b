//! The services' restarts: what they start from, whom init believes, and what keeps them from starting.

use std::time::Instant;

use super::{Attack, Target, Verdict, looking, places};
use crate::vm::LONG;

/// A pod's mark, which what it puts in a program's place leaves.
const MARK: &str = "cat /host/run/intruder/mark 2>/dev/null || true";

/// What is said of a restart that nothing came of.
pub const AS_BEFORE: &str = "ready again, as before";

/// The lowest process of a name, once there is one: the service itself, where its threads or children bear it too.
pub fn pid_of(target: &mut Target, service: &str) -> String {
    target.sh(&format!(
        "until pidof {service} >/tmp/pids; do sleep 0.1; done; tr ' ' '\\n' </tmp/pids | sort -n | head -n 1"
    ))
}

/// Kills a service, and waits for what becomes of it: ready again, or a mark of what ran in its place, or its end for a
/// configuration that is not its own, or a start that does not come about.
pub fn restart(target: &mut Target, service: &str) -> Verdict {
    let from = target.vm.here();
    let pid = pid_of(target, service);
    // What covers its files may have ended it already.
    target.sh(&format!("kill -KILL {pid} || true"));
    let (from, _) = target.vm.wait_after(from, &format!("{service} (pid {pid}) "));
    let end = Instant::now() + LONG;
    loop {
        let lines = target.vm.lines().split_off(from + 1);
        let mark = target.sh(MARK);
        if !mark.is_empty() {
            return Verdict::Broken(format!("{mark} got to run, or to hear"));
        }
        if lines.iter().any(|line| line.ends_with(&format!("] {service} ready"))) {
            return Verdict::Held(AS_BEFORE.into());
        }
        if let Some((_, why)) = lines.iter().find_map(|line| line.split_once(&format!("] start {service}: "))) {
            return Verdict::Stops(format!("{why}, for as long as it goes on"));
        }
        let ended = |line: &&String| line.contains(&format!("] {service} (pid ")) && line.contains(" exited with ");
        if let Some(line) = lines.iter().find(ended) {
            return Verdict::Broken(format!("what was planted ended it: {}", line.split_once("] ").unwrap().1));
        }
        assert!(Instant::now() < end, "{service} is neither ready nor replaced");
    }
}

/// Waits until both are ready and nothing is planted.
pub fn settle(target: &mut Target) {
    for service in ["containerd", "kubelet"] {
        target.vm.poll(&format!("{service} ready"), |vm| {
            let lines = vm.lines();
            let last = lines.iter().rev().find(|line| line.starts_with("kios: ") && line.contains(service));
            last.is_some_and(|line| line.ends_with(&format!("] {service} ready")))
        });
    }
    let mark = target.sh(&format!("{MARK}; rm -f /host/run/intruder/mark"));
    assert!(mark.is_empty() || !target.defended, "late: {mark}");
}

/// What is planted for a service's next start.
#[derive(Clone, Copy)]
struct Cover {
    name: &'static str,
    /// Done in containerd's mount namespace before the service is killed.
    plant: &'static str,
    /// Undoes that, in the next one; at once, whoever uses it.
    undo: &'static str,
    /// What the planting itself has shown, where the undefended machine stands it as well.
    control: Option<&'static str>,
}

const KUBELET: &[Cover] = &[
    Cover {
        name: "kubelet's program covered",
        plant: "mount --bind /run/intruder/program /usr/bin/kubelet",
        undo: "umount -l /usr/bin/kubelet",
        control: None,
    },
    Cover {
        name: "kubelet's program covered and bared all the time",
        plant: "mount --bind /run/intruder/program /usr/bin/kubelet; rm -f /run/intruder/over; \
            { while [ ! -e /run/intruder/over ]; do mount --bind /run/intruder/program /usr/bin/kubelet; umount /usr/bin/kubelet; done; \
            } >/dev/null 2>&1 &",
        undo: "touch /run/intruder/over; umount -l /usr/bin/kubelet",
        control: None,
    },
    Cover {
        name: "kubelet.yaml covered",
        plant: "mount --bind /run/intruder/helper /etc/kios/kubelet.yaml",
        undo: "umount -l /etc/kios/kubelet.yaml",
        control: None,
    },
    Cover {
        name: "another socket for kubelet's READY=1",
        plant: "mount -t tmpfs intruder /kios && for mark in control mark; do rm -f /kios/notify; \
            { /run/intruder/intruder squat /kios/notify /run/intruder/$mark 60 >/dev/null 2>&1 & }; \
            until [ -S /kios/notify ]; do sleep 0.1; done; [ $mark = mark ] || { \
            /run/intruder/intruder forge /kios/notify $$ READY=1 >/dev/null; until [ -s /run/intruder/control ]; do sleep 0.1; done; }; done",
        undo: "umount -l /kios",
        control: Some("others who send there are heard"),
    },
    Cover {
        name: "fanotify: opening and executing refused to init",
        plant: "{ /run/intruder/intruder refuse 90 / /run /var >/run/intruder/refuse 2>&1 & \
            until [ -s /run/intruder/refuse ]; do sleep 0.1; done; grep -q open /run/intruder/refuse; }",
        undo: "kill $(pidof intruder)",
        control: None,
    },
    // The last, since what attacks needs the first one.
    Cover {
        name: "another /proc for kubelet",
        plant: "mount -t tmpfs intruder /proc && mkdir -p /proc/self/fd && echo x >/proc/self/fd/5",
        undo: "umount -l /proc",
        control: None,
    },
];

const CONTAINERD: &[Cover] = &[
    Cover {
        name: "containerd's program covered",
        plant: "mount --bind /run/intruder/program /usr/bin/containerd",
        undo: "umount -l /usr/bin/containerd",
        control: None,
    },
    Cover {
        name: "containerd.toml covered",
        plant: "mount --bind /run/intruder/helper /etc/kios/containerd.toml",
        undo: "umount -l /etc/kios/containerd.toml",
        control: None,
    },
];

/// Older pods' shims have no /proc and no /tmp from then on.
const BARE: Cover = Cover {
    name: "containerd's root detached",
    plant: "/run/intruder/intruder bare $(pidof containerd)",
    undo: "",
    control: None,
};

/// Plants each for a restart of its own. Where the node is expected to stand it all, a restart must stand them together, since
/// those of a service are ever further apart.
fn covered(target: &mut Target, service: &str, covers: &[Cover]) -> Vec<Attack> {
    let mut verdicts = Vec::new();
    for together in covers.chunks(if target.defended { covers.len() } else { 1 }) {
        for cover in together {
            let (status, output) = target.beside_containerd(cover.plant);
            assert_eq!(status, 0, "{}: {output}", cover.name);
        }
        let verdict = restart(target, service);
        // In the namespace of a containerd that was restarted it is not there.
        for cover in together.iter().rev() {
            target.beside_containerd(cover.undo);
        }
        if verdict != Verdict::Held(AS_BEFORE.into()) {
            let from = target.vm.here();
            if target.vm.attempt(&format!("kill -KILL $(pidof {service})")).0 == 0 {
                target.vm.wait_after(from, &format!("{service} (pid "));
            }
        }
        settle(target);
        verdicts.extend(together.iter().map(|_| verdict.clone()));
    }
    let named = covers.iter().zip(verdicts);
    let attack = |cover: &Cover, verdict| Attack {
        control: cover.control,
        ..Attack::new(format!("restart: {}", cover.name), verdict)
    };
    named.map(|(cover, verdict)| attack(cover, verdict)).collect()
}

/// All of them. In the end the attacker is not of the running containerd's domain any more.
pub fn covers(target: &mut Target) -> Vec<Attack> {
    let mut attacks = covered(target, "kubelet", KUBELET);
    attacks.extend(covered(target, "containerd", CONTAINERD));
    attacks
}

/// Takes containerd's root away, with all that is mounted there.
pub fn bared(target: &mut Target) -> Vec<Attack> {
    covered(target, "containerd", &[BARE])
}

/// Name of the probe, file, as containerd's mount namespace has it.
const PROBED: [(&str, &str); 2] = [("containerd", "usr/bin/containerd"), ("kubelet", "usr/bin/kubelet")];

pub fn attacks(target: &mut Target) -> Vec<Attack> {
    probe(target);
    let mut attacks = vec![believed(target), bus(target), signals(target), frozen(target), killed(target)];
    attacks.push(removed(target));
    for (hook, control) in [
        ("cred_prepare", "refuses new credentials to a process of its own"),
        ("bprm_check_security", "refuses execve to a process of its own"),
    ] {
        attacks.push(vetoed(target, hook).with_control(control));
    }
    attacks.push(image(target));
    attacks.push(handled(target));
    attacks.extend(covers(target));
    let said = target.sh("/tmp/intruder into $(pidof containerd)");
    attacks.extend(looking::answers(&said, |name| format!("{name} of a later containerd")));
    attacks.extend(probed(target));
    attacks
}

/// READY=1 for a kubelet that is stopped before it could say so.
fn believed(target: &mut Target) -> Attack {
    let pid = target.sh("pidof kubelet");
    let from = target.vm.here();
    let said = target.sh(&format!(
        "kill -KILL {pid}; until new=$(pidof kubelet) && [ \"$new\" != {pid} ] && kill -STOP $new; do :; done; \
         nsenter -t $(pidof containerd) -m /run/intruder/intruder forge /kios/notify $new READY=1; echo $new"
    ));
    let (forged, new) = said.split_once('\n').expect("two lines");
    // It is ready only in half a second at the earliest: the forged word is the only one there is.
    target.sh("sleep 2");
    let ready = target.vm.lines()[from..].iter().any(|line| line.ends_with("] kubelet ready"));
    target.sh(&format!("kill -CONT {new}"));
    let (at, _) = target.vm.wait_after(from, "kubelet ready");
    assert!(at >= from);
    let verdict = if ready {
        Verdict::Broken("a stopped kubelet is taken for ready".into())
    } else {
        Verdict::Held(forged.into())
    };
    Attack::new("READY=1 with kubelet's credentials", verdict)
}

/// Kubelet's system bus.
fn bus(target: &mut Target) -> Attack {
    let said = target.sh("nsenter -t $(pidof containerd) -m /run/intruder/intruder call /kios/bus");
    looking::answers(&said, |_| "kubelet's system bus".into()).remove(0)
}

/// Ends what writes the logs, and waits until process 1 has seen to it.
pub fn writer_is_replaced(target: &mut Target, script: &str) {
    places::wait_for_writer(target);
    let from = target.vm.here();
    target.sh(script);
    target.vm.wait_after(from, "ended, starting another");
}

/// Every signal that does not ask for the machine's end.
fn signals(target: &mut Target) -> Attack {
    let ends = [2, 10, 12, 15, 30, 37, 38, 39];
    let numbers: Vec<_> = (1..=64).filter(|number| !ends.contains(number)).map(|number| number.to_string()).collect();
    let numbers = numbers.join(" ");
    // Those that a process of its own dies of, or stops by.
    let control = target.sh(&format!(
        "n=0; for s in {numbers}; do sleep 60 & kill -$s $!; sleep 0.02; \
         case $(cut -d' ' -f3 /proc/$!/stat 2>/dev/null) in ''|Z|T) n=$((n + 1)) ;; esac; kill -KILL $! 2>/dev/null; wait $! 2>/dev/null; \
         done; echo $n"
    ));
    assert!(control.lines().last().unwrap().parse::<u32>().unwrap() > 40, "{control}");
    let from = target.vm.here();
    target.sh(&format!("for s in {numbers}; do kill -$s 1; done"));
    let state = target.sh("cut -d' ' -f3 /proc/1/stat");
    writer_is_replaced(target, places::END_CHILDREN);
    let asked = target.vm.lines()[from..].iter().any(|line| line.contains("stopping for"));
    let verdict = if asked || !["S", "R"].contains(&&*state) {
        Verdict::Broken(format!("state {state}"))
    } else {
        Verdict::Held("process 1 goes on".into())
    };
    Attack::new("every other signal to process 1", verdict).with_control("another process ends by them")
}

/// The freezer of process 1's cgroup, and of kubelet's.
fn frozen(target: &mut Target) -> Attack {
    let mut seen = Vec::new();
    for cgroup in ["init", "podruntime/kubelet"] {
        seen.push(target.sh(&format!(
            "cd /host/sys/fs/cgroup/{cgroup} && echo 1 >cgroup.freeze && for n in $(seq 50); do \
             grep -q 'frozen 1' cgroup.events && break; sleep 0.1; done; cat cgroup.events; echo 0 >cgroup.freeze"
        )));
    }
    let verdict = if seen.iter().all(|events| events.contains("frozen 1")) {
        Verdict::Stops("until it is thawed, or the hardware watchdog acts".into())
    } else {
        Verdict::Held(seen.join(" ").replace('\n', " "))
    };
    Attack::new("cgroup.freeze of process 1 and kubelet", verdict)
}

/// cgroup.kill of process 1's cgroup.
fn killed(target: &mut Target) -> Attack {
    let control = "mkdir -p /host/sys/fs/cgroup/intruder && cd /host/sys/fs/cgroup/intruder && sh -c 'echo $$ >cgroup.procs; exec sleep 60' & \
                   sleep 1; echo 1 >/host/sys/fs/cgroup/intruder/cgroup.kill; wait $!; echo $?; rmdir /host/sys/fs/cgroup/intruder";
    assert_eq!(target.sh(control).lines().last(), Some("137"));
    writer_is_replaced(target, "echo 1 >/host/sys/fs/cgroup/init/cgroup.kill");
    let verdict = Verdict::Held("process 1 lives, and starts those that write its logs again".into());
    Attack::new("cgroup.kill of process 1's cgroup", verdict).with_control("another process ends by it")
}

/// Kubelet moved out of its cgroup, which is then removed.
fn removed(target: &mut Target) -> Attack {
    settle(target);
    let own = "cut -d: -f3 /proc/$(pidof kubelet)/cgroup";
    let before = target.sh(own);
    let control = target.sh(&format!(
        "cd /host/sys/fs/cgroup && mkdir -p intruder && echo $(pidof kubelet) >intruder/cgroup.procs && rmdir podruntime/kubelet && {own}"
    ));
    assert!(control.ends_with("/intruder"), "{control}");
    let verdict = restart(target, "kubelet");
    settle(target);
    let after = target.sh(&format!("{own}; rmdir /host/sys/fs/cgroup/intruder"));
    let verdict = if after == before { verdict } else { Verdict::Broken(format!("{after} instead of {before}")) };
    Attack::new("kubelet's cgroup removed", verdict).with_control("the running one is in another, and its own is gone")
}

/// Waits until a file system is marked.
pub const MARKED: &str = "until grep -qs 'fanotify sdev' /proc/$(pidof intruder)/fdinfo/*; do sleep 0.1; done";

/// What the root image is used by, heard by fanotify: each use brings a descriptor.
fn image(target: &mut Target) -> Attack {
    target.sh("rm -f /tmp/image; /tmp/intruder image $(pidof containerd) 60 >/tmp/image 2>&1 &");
    target.sh(MARKED);
    let verdict = restart(target, "kubelet");
    settle(target);
    assert_eq!(verdict, Verdict::Held(AS_BEFORE.into()));
    let said = target.sh("until grep -q . /tmp/image; do sleep 0.1; done; cat /tmp/image");
    looking::answers(&said, |_| "the root image, by fanotify".to_owned()).remove(0)
}

/// A handler of binfmt_misc for kubelet's program, which it is told by by its first instruction's address.
fn handled(target: &mut Target) -> Attack {
    const NAME: &str = "binfmt_misc handler (F) for kubelet";
    // `intruder kernel` tried to load it.
    let (status, output) = target.vm.attempt("mkdir -p /tmp/binfmt && mount -t binfmt_misc binfmt /tmp/binfmt");
    if status != 0 {
        assert!(output.contains("No such device"), "{output}");
        return Attack::new(NAME, Verdict::Held("there is no such file system".into()));
    }
    target.sh(
        "magic=$(dd if=/proc/$(pidof containerd)/root/usr/bin/kubelet bs=8 skip=3 count=1 2>/dev/null | hexdump -ve '1/1 \"\\\\x%02x\"') && \
         printf '%s' \":intruder:M:24:$magic::/host/run/intruder/program:F\" >/tmp/binfmt/register",
    );
    let verdict = restart(target, "kubelet");
    target.sh("echo -1 >/tmp/binfmt/intruder; umount /tmp/binfmt");
    settle(target);
    Attack::new(NAME, verdict)
}

/// A BPF program at a hook of the LSM's that keeps init's children from becoming what they are to be.
fn vetoed(target: &mut Target, hook: &str) -> Attack {
    let from = target.vm.here();
    target.sh(&format!(
        "rm -f /tmp/veto; /tmp/intruder veto {hook} 120 >/tmp/veto 2>&1 & until grep -q . /tmp/veto 2>/dev/null; do sleep 0.1; done; \
         cat /tmp/veto; grep -q 'veto: open' /tmp/veto && kill -KILL $(pidof kubelet)"
    ));
    let (_, line) = target.vm.wait_after(from, "] start kubelet: ");
    target.sh("kill $(pidof intruder)");
    settle(target);
    let said = target.sh("/tmp/intruder into $(pidof kubelet)");
    let ways = looking::answers(&said, str::to_owned);
    let open = ways.iter().filter(|way| matches!(way.verdict, Verdict::Broken(_))).count();
    let verdict = if open == 0 || !target.defended {
        Verdict::Stops(format!("{}, until the program is gone", line.split_once("] ").unwrap().1))
    } else {
        Verdict::Broken(format!("{open} ways into kubelet open"))
    };
    Attack::new(format!("BPF LSM program at {hook}"), verdict)
}

const EVENTS: &str = "/host/sys/kernel/tracing";

/// A uprobe at the first instruction of each program that containerd's mount namespace has, for the next starts.
fn probe(target: &mut Target) {
    for (name, file) in PROBED {
        target.sh(&format!(
            "cd {EVENTS}; exe=/proc/$(pidof containerd)/root/{file}; \
             echo \"p:intruder/{name} $exe:$(/tmp/intruder entry $exe)\" >>uprobe_events && echo 1 >events/intruder/{name}/enable"
        ));
    }
    target.sh(&format!("echo >{EVENTS}/trace"));
}

/// How often they were hit since.
fn probed(target: &mut Target) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, _) in PROBED {
        let hits = target
            .sh(&format!("cd {EVENTS}; grep -c ' {name}: (' trace || true; echo 0 >events/intruder/{name}/enable"));
        let verdict = match &*hits {
            "0" => Verdict::Held("the next one has another inode".into()),
            hits => Verdict::Broken(format!("{hits} hits in later ones")),
        };
        attacks.push(Attack::new(format!("uprobe on {name} over its restart"), verdict));
    }
    target.sh(&format!("echo >{EVENTS}/uprobe_events"));
    attacks
}

/// Every process but the first killed: the last attack, since the attacker is among them.
pub fn everything(target: &mut Target) -> Attack {
    let from = target.vm.here();
    target.sh("{ sleep 1; echo i >/proc/sysrq-trigger; } >/dev/null 2>&1 </dev/null &");
    let (at, _) = target.vm.wait_after(from, "containerd ready");
    let (at, _) = target.vm.wait_after(at, "kubelet ready");
    // The other one's mounts are what they are by then.
    if target.defended {
        target.vm.wait_after(at, "container-a: hello 1");
    }
    let verdict = Verdict::Stops("everything but process 1 is killed, and comes back".into());
    Attack::new("sysrq: kill all", verdict)
}
