//! Nothing reconfigures init: attacks on a running node, and what becomes of each.
//!
//! The attacker is root in a privileged container with hostPID, hostNetwork and hostIPC, every capability, and the node's
//! file systems and devices at hand; it may use containerd's and kubelet's sockets. It may stop or crash the node. It must
//! not change init, nor what init starts: not at the restart of a service, and after a reboot only by writing the boot medium.
//! Kubelet's own inputs on the data disk (kubeconfig, static pods, CNI) are Kubernetes' configuration, and may be changed by
//! whoever may write the node's file systems; init's are not there.
//!
//! Every attack is also made on a machine whose init lacks its defences ([`undefended`]), in the initramfs' own files. There
//! it must get somewhere: else it failed by its own mistake, and counts as not tried. What the kernel alone holds off has its
//! control on an object of the attacker's own instead.

mod calls;
mod helpers;
mod inherit;
mod looking;
mod mapper;
mod mounts;
mod places;
mod poisoned;
mod services;
mod undefended;
mod works;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::arch::arch;
use crate::disk::{image, image_by};
use crate::gate::{ROOM, Scenario, attempt, scenario};
use crate::image::{initramfs, manifests_with_propagation};
use crate::processes;
use crate::vm::{Boot, Vm, boot, repository};

/// What an attack got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Held(String),
    /// It saw something, and changed nothing.
    Seen(String),
    /// It stops the node, or a part of it, for as long as it goes on.
    Stops(String),
    /// It changed init, or what init starts.
    Broken(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, how) = match self {
            Verdict::Held(how) => ("held", how),
            Verdict::Seen(how) => ("read only", how),
            Verdict::Stops(how) => ("stops the node", how),
            Verdict::Broken(how) => ("BROKEN", how),
        };
        if how.is_empty() { write!(to, "{what}") } else { write!(to, "{what}: {how}") }
    }
}

impl Verdict {
    fn is_held(&self) -> bool {
        matches!(self, Verdict::Held(_))
    }
}

/// An attack that was made.
pub struct Attack {
    pub name: String,
    pub verdict: Verdict,
    /// What it did to an object of the attacker's own, where the undefended machine is held as well.
    pub control: Option<&'static str>,
}

impl Attack {
    fn new(name: impl Into<String>, verdict: Verdict) -> Attack {
        Attack { name: name.into(), verdict, control: None }
    }

    fn with_control(self, control: &'static str) -> Attack {
        Attack { control: Some(control), ..self }
    }
}

/// A node under attack.
pub struct Target<'a> {
    pub vm: &'a mut Vm,
    pub scenario: &'a Scenario,
    /// Whether its init has its defences.
    pub defended: bool,
}

impl Target<'_> {
    /// Runs a script of the attacker's, which must succeed; its output.
    pub fn sh(&mut self, script: &str) -> String {
        self.vm.sh(script)
    }

    /// Runs it in the mount namespace of the running containerd, where all of a pod's mounts may be made.
    pub fn beside_containerd(&mut self, script: &str) -> (i32, String) {
        let quoted = script.replace('\'', "'\\''");
        self.vm.attempt(&format!("nsenter -t $(pidof containerd || echo 1) -m /run/intruder/busybox sh -c '{quoted}'"))
    }
}

/// What no init can hold off, as README says.
const LIMITS: &[&str] = &["bpf_probe_write_user, lockdown's answer changed"];

/// The longest that all of them take, each machine with its emulator.
const LIMIT: Duration = Duration::from_secs(1_800);

/// The attacks, in this order: the later ones leave less of a node.
const ATTACKS: &[fn(&mut Target) -> Vec<Attack>] = &[
    looking::attacks,
    calls::attacks,
    helpers::attacks,
    // While the volume's propagation is as it was made.
    mounts::through_volume,
    mounts::through_kubelet,
    mounts::attacks,
    places::attacks,
    services::attacks,
    inherit::attacks,
];

/// Those that have to do with the root, and those on its partition: without defences the latter's alone are made there.
const ON_DISK: &[fn(&mut Target) -> Vec<Attack>] = &[
    calls::attacks,
    helpers::attacks,
    mounts::through_volume,
    mounts::through_kubelet,
    mounts::attacks,
    mapper::attacks,
    services::covers,
];

/// Programs for others to start in the node's place: each leaves a mark.
pub const HELPER: &str = "mkdir -p /host/run/intruder && cp /bin/busybox /tmp/intruder /host/run/intruder/ && \
    cp /tmp/intruder /host/run/intruder/program && \
    printf '#!/run/intruder/busybox sh\\necho $0 $* >>/run/intruder/mark\\n' >/host/run/intruder/helper && \
    chmod 755 /host/run/intruder/helper";

#[test]
fn nothing_reconfigures_init() {
    scenario("nothing_reconfigures_init", ROOM, |scenario| {
        let manifests = &manifests_with_propagation();
        let node = || {
            attempt("attacked", |scenario| {
                attacked(scenario, boot(scenario).option("--manifests", manifests), Node::InMemory)
            })
        };
        let bare = || {
            let init = undefended::init();
            let initrd = initramfs("undefended.initramfs", &["--plain", "--init", init.to_str().unwrap()]);
            attempt("attacked without defences", |scenario| {
                let machine = boot(scenario).option("--manifests", manifests).initramfs(&initrd);
                attacked(scenario, machine, Node::Undefended)
            })
        };
        let (node, mut bare) = both(node, bare);
        judge(scenario, &node, &bare);

        let pods = manifests.to_str().unwrap();
        let options = ["--arch", arch(), "--kernel", "cloud", "--root-in", "partition", "--manifests", pods];
        let disk = image("attacked.disk", &options);
        let mut script = Command::new(repository("scripts/image.sh"));
        let bare_disk = image_by(script.env("KIOS_INIT", undefended::init()), "undefended.disk", &options);
        let node = || {
            attempt("attacked by its disk", |scenario| {
                attacked(scenario, boot(scenario).option("--image", &disk), Node::OnDisk)
            })
        };
        let tables = || {
            attempt("attacked by its disk without defences", |scenario| {
                let mut vm = started(boot(scenario).option("--image", &bare_disk));
                mapper::tables(&mut Target { vm: &mut vm, scenario, defended: false })
            })
        };
        let (node, tables) = both(node, tables);
        bare.extend(tables);
        judge(scenario, &node, &bare);
        for disk in [disk, bare_disk] {
            fs::remove_file(disk).unwrap();
        }
    });
}

/// Does both at once.
fn both<A: Send, B: Send>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B + Send) -> (A, B) {
    let (one, other) = thread::scope(|scope| {
        let (one, other) = (scope.spawn(one), scope.spawn(other));
        (one.join(), other.join())
    });
    let (Ok(one), Ok(other)) = (one, other) else { panic!("an attack could not be made") };
    (one, other)
}

/// Says what each got, on the node and on those without defences, and fails for what is not known.
fn judge(scenario: &Scenario, node: &[Attack], bare: &[Attack]) {
    let bare: BTreeMap<_, _> = bare.iter().map(|attack| (&attack.name, attack)).collect();
    let (mut broken, mut untried) = (Vec::new(), Vec::new());
    for attack in node {
        let control = match (attack.control, bare.get(&attack.name)) {
            (Some(control), _) => format!("on its own: {control}"),
            (None, Some(bare)) => {
                if bare.verdict.is_held() {
                    untried.push(&attack.name);
                }
                bare.verdict.to_string()
            }
            (None, None) => {
                untried.push(&attack.name);
                "not made".to_owned()
            }
        };
        scenario.note(&format!("{:52} {:44} without: {control}", attack.name, attack.verdict));
        if matches!(attack.verdict, Verdict::Broken(_)) {
            broken.push(&attack.name);
        }
    }
    let count = |is: fn(&Verdict) -> bool| node.iter().filter(|attack| is(&attack.verdict)).count();
    scenario.note(&format!(
        "{} attacks: {} held, {} read only, {} stop the node, {} BROKEN",
        node.len(),
        count(Verdict::is_held),
        count(|verdict| matches!(verdict, Verdict::Seen(_))),
        count(|verdict| matches!(verdict, Verdict::Stops(_))),
        broken.len()
    ));
    assert_eq!(broken, LIMITS, "BROKEN, against what is known not to hold");
    assert!(untried.is_empty(), "not tried, since they get nowhere without the defences either: {untried:?}");
    assert!(node.len() >= 40);
}

/// Attacks a node without Landlock: what does not rest on that holds.
pub fn without_landlock(scenario: &Scenario, vm: &mut Vm) {
    vm.sh(HELPER);
    let mut target = Target { vm, scenario, defended: true };
    let mut attacks = mounts::attacks(&mut target);
    attacks.extend(mounts::attacks(&mut target));
    attacks.extend(services::bared(&mut target));
    for attack in &attacks {
        scenario.note(&format!("{:52} {}", attack.name, attack.verdict));
    }
    assert!(!attacks.iter().any(|attack| matches!(attack.verdict, Verdict::Broken(_))));
    // Yama.
    let into = target.sh("/tmp/intruder into 1");
    let held = into.lines().filter(|line| line.contains(": held ")).collect::<Vec<_>>();
    scenario.note(&format!("held even without Landlock: {held:?}"));
    for way in ["ptrace attach", "ptrace seize"] {
        assert!(into.contains(&format!("{way}: held ")), "{into}");
    }
}

/// What is attacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    /// As boot.sh makes it.
    InMemory,
    /// Its root is in a partition.
    OnDisk,
    /// Its init lacks its defences, and its root is the initramfs' own files.
    Undefended,
}

/// Boots a machine for an attacker.
fn started(machine: Boot<'_>) -> Vm {
    // With one processor: probes and BPF programs change the kernel's code, where the emulator has a race between two.
    let mut vm = machine.port().option("--cpus", "1").limit(LIMIT).start();
    vm.wait_up();
    vm.wait_for("container-a: hello 1");
    vm.sh(HELPER);
    vm
}

/// Boots a node and attacks it.
fn attacked(scenario: &Scenario, machine: Boot<'_>, node: Node) -> Vec<Attack> {
    let mut vm = started(machine);
    let defended = node != Node::Undefended;
    let mut attacks = Vec::new();
    let mut target = Target { vm: &mut vm, scenario, defended };
    let pod = defended.then(|| works::before(&mut target));
    if !defended {
        works::saves(&mut target);
    }
    for group in if node == Node::OnDisk { ON_DISK } else { ATTACKS } {
        attacks.extend(group(&mut target));
    }
    if let Some(pod) = pod {
        works::after(&mut target, &pod);
        processes::no_zombies(target.vm);
    }
    // What ends the attacker too.
    let last = if node == Node::OnDisk { mapper::overwritten } else { services::everything };
    attacks.push(last(&mut target));
    if defended {
        // Whatever of its logs, or of its disk, was lost meanwhile.
        vm.press_power();
        assert_eq!(vm.end().0, 0, "the end is not in order");
    }
    attacks
}
