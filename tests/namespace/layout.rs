//! Who shares which mounts with whom: design §3.4, the heart of the first tenet.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use kios_init::plan::{self, CONTAINERD, KUBELET};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::machine::{Machine, as_owner};
use crate::common::namespace::Namespace;
use crate::common::process::{Mounted, Process};
use crate::common::setup::{Setup, text};

/// Where a pod might mount in containerd's namespace to reach PID 1 or kubelet.
const ELSEWHERE: &[&str] = &["/etc/kios", "/etc/kubernetes", "/usr", "/tmp", "/sys", "/proc", "/"];
/// Where mounts are meant to be seen by all.
const SHARED: &[&str] = &["/run/pod", "/var/pod"];

/// Mounts a tmpfs on each of the places; its source says where.
fn mount_everywhere(process: Process) {
    as_owner(|| SHARED.iter().for_each(|place| fs::create_dir(process.sees(place)).unwrap()));
    Namespace::of(process).inside(|| {
        for place in SHARED.iter().chain(ELSEWHERE) {
            let source = format!("mark:{place}");
            let none: Option<&str> = None;
            mount(Some(source.as_str()), *place, Some("tmpfs"), MsFlags::empty(), none).expect(place);
        }
    });
}

/// Where that is seen.
fn marks(process: Process) -> BTreeSet<String> {
    process.mounts().iter().filter_map(|mounted| Some(mounted.source.strip_prefix("mark:")?.to_owned())).collect()
}

fn set(places: &[&str]) -> BTreeSet<String> {
    places.iter().map(|&place| place.to_owned()).collect()
}

/// Kills a service and waits for its next start to be ready.
fn restart(machine: &Machine, index: usize) -> Process {
    let name = text(plan::SERVICES[index].name);
    let last = machine.service(index).unwrap();
    let place = machine.log.lines().len();
    kill(Pid::from_raw(last.0), Signal::SIGKILL).unwrap();
    machine.log.expect_after(place, &format!("{name} ready"));
    let next = machine.service(index).unwrap();
    assert_ne!(next, last);
    next
}

/// PID 1 is alone in its mount namespace, everything in it is private but what the plan shares, and so it is in kubelet's, whose
/// sockets cannot be bound either; in containerd's everything is shared, in peer groups of its own but for those.
#[test]
fn only_run_and_var_propagate() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let [containerd, kubelet] = [CONTAINERD, KUBELET].map(|index| machine.service(index).unwrap());
    let all = [machine.init, containerd, kubelet];
    let namespaces: BTreeSet<_> = all.iter().map(|process| process.mount_namespace()).collect();
    assert_eq!(namespaces.len(), 3);

    let planned: BTreeSet<_> = plan::SHARED.iter().map(|path| text(*path).to_owned()).collect();
    let mounts = machine.init.mounts();
    let shared: BTreeSet<_> = mounts.iter().filter(|one| one.shared.is_some()).map(|one| one.point.clone()).collect();
    assert_eq!(shared, planned);
    assert!(all.iter().all(|process| process.mounts().iter().all(|one| !one.slave)), "a mount has a master");

    let groups = |process: Process, planned_only: bool| -> BTreeSet<u32> {
        let mounts = process.mounts();
        let wanted = mounts.iter().filter(|one| planned.contains(&one.point) == planned_only);
        wanted.map(|one| one.shared.unwrap_or_else(|| panic!("{one:?} is not shared"))).collect()
    };
    let common: BTreeSet<_> = mounts.iter().filter_map(|one: &Mounted| one.shared).collect();
    assert_eq!(common.len(), planned.len());
    assert!(groups(containerd, false).is_disjoint(&common));
    let shared: BTreeSet<_> =
        kubelet.mounts().into_iter().filter(|one| one.shared.is_some()).map(|one| one.point).collect();
    assert_eq!(shared, planned);
    let unbindable: Vec<_> = kubelet.mounts().into_iter().filter(|one| one.unbindable).map(|one| one.point).collect();
    assert_eq!(unbindable, ["/kios"]);
    for process in [containerd, kubelet] {
        assert_eq!(groups(process, true), common);
        let points: BTreeSet<_> = process.mounts().into_iter().map(|one| one.point).collect();
        assert!(
            set(&["/", "/proc", "/sys", "/run", "/var", "/kios", "/etc/kubernetes"]).is_subset(&points),
            "{points:?}"
        );
    }
    println!("peer groups: {} in common, {} of containerd's own", common.len(), groups(containerd, false).len());
}

/// What is mounted in containerd's namespace reaches PID 1 and the next start of either service below /run and /var only.
#[test]
fn mounts_in_a_service_do_not_reach_init() {
    let machine = Setup::new("ready", "ready").boot().ready();
    let [containerd, kubelet] = [CONTAINERD, KUBELET].map(|index| machine.service(index).unwrap());
    let before = machine.init.mounts().len();
    mount_everywhere(containerd);
    assert_eq!(marks(containerd), set(&[SHARED, ELSEWHERE].concat()));
    for process in [machine.init, kubelet] {
        assert_eq!(marks(process), set(SHARED));
    }
    assert_eq!(machine.init.mounts().len(), before + SHARED.len());
    assert!(machine.init.sees("/etc/kios/kubelet.yaml").exists());

    for (index, last) in [(KUBELET, kubelet), (CONTAINERD, containerd)] {
        // Held, so that its number is not given to the next.
        let namespace = File::open(last.file("ns/mnt")).unwrap();
        let next = restart(&machine, index);
        assert_ne!(next.mount_namespace(), namespace.metadata().unwrap().ino());
        assert_ne!(next.mount_namespace(), machine.init.mount_namespace());
        assert_eq!(marks(next), set(SHARED), "{}", text(plan::SERVICES[index].name));
        assert_eq!(next.mounts().iter().filter(|one| one.point == "/kios").count(), 1);
    }
    // The other way round, too: what the restarted one mounts below /run is seen by init.
    let containerd = machine.service(CONTAINERD).unwrap();
    as_owner(|| fs::create_dir(containerd.sees("/run/late")).unwrap());
    Namespace::of(containerd).inside(|| {
        mount(Some("mark:/run/late"), "/run/late", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    });
    assert!(marks(machine.init).contains("/run/late"));
}
