//! Two nodes on one network, and pods of both.

use std::fs;

use serde_json::Value;

use super::{Bed, Member, disk, joins};
use crate::gate::{ROOM, scenario};
use crate::lines::power_off;
use crate::vm::{scratch, until};

/// The node's address, and the name of its disk.
const NODES: [(&str, &str); 2] = [("10.0.2.15", "first.ext4"), ("10.0.2.16", "second.ext4")];

/// The arguments that put node `own` on the network that both share.
fn shared_network(own: usize) -> [String; 4] {
    let path = |node: usize| scratch(&format!("pair.{node}")).display().to_string();
    let network = format!(
        "dgram,id=pair,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path(own),
        path(1 - own)
    );
    let card = format!("virtio-net-pci,netdev=pair,romfile=,mac=52:54:00:00:77:0{own}");
    ["-netdev".into(), network, "-device".into(), card]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The routes between them are a pod's doing.
#[test]
fn two_nodes() {
    scenario("two_nodes", ROOM, |scenario| {
        let bed = Bed::start("pair");
        bed.apply(&["routes", "web"]);
        bed.kubectl(&["scale", "deployment", "web", "--replicas=2"]);
        let machines: Vec<_> = NODES
            .iter()
            .enumerate()
            .map(|(own, (address, name))| {
                let _ = fs::remove_file(scratch(&format!("pair.{own}")));
                let network = shared_network(own);
                let boot = joins(scenario, &bed, &disk(name)).option("--address", address);
                boot.qemu(&network.each_ref().map(String::as_str)).start()
            })
            .collect();
        let mut members: Vec<_> = machines.into_iter().map(|vm| Member::of(scenario, &bed, vm)).collect();
        assert_ne!(members[0].name, members[1].name);
        for member in &members {
            until("node that is Ready", || member.is_ready().then_some(()));
        }
        let pods: Vec<_> = members.iter().map(Member::web).collect();
        let (address, name) =
            (|pod: usize| text(&pods[pod]["status"]["podIP"]), |pod: usize| text(&pods[pod]["metadata"]["name"]));
        scenario.note(&format!("pods {} and {}", address(0), address(1)));
        for (own, member) in members.iter().enumerate() {
            member.serves(name(own));
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let script = format!("ping -c 3 -w 20 {} && wget -T 5 -q -O - http://{}:8080/", address(to), address(to));
            let said = until("way from pod to pod", || {
                let output = bed.attempt(&["exec", name(from), "--", "sh", "-c", &script]);
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            });
            assert!(said.contains("3 packets received"), "{said}");
            assert_eq!(said.lines().last(), Some(name(to)));
        }
        // A node that goes takes nothing of the other with it.
        let gone = members.remove(0);
        let mut vm = gone.vm;
        power_off(scenario, &mut vm);
        members[0].comes_back(0);
        power_off(scenario, &mut members[0].vm);
        for (_, name) in NODES {
            fs::remove_file(scratch(name)).unwrap();
        }
    });
}
