//! A node in a cluster, with the stock control plane.

mod away;
mod bed;
mod hardening;
mod pair;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;

use crate::ending::{change, check_clean};
use crate::gate::{ROOM, Scenario, scenario};
use crate::image::{manifests, new_disk, run};
use crate::lines::{check_boot, check_stop};
use crate::vm::{Boot, Vm, boot, scratch, until};
use bed::Bed;

/// What a node says, and what is asked of it through its cluster.
struct Member<'a> {
    scenario: &'a Scenario,
    bed: &'a Bed,
    vm: Vm,
    name: String,
}

/// A new disk with the pods of the demonstration, and `shell`.
fn disk(name: &str) -> PathBuf {
    new_disk(name, &["--manifests", manifests().to_str().unwrap()])
}

/// Boots from `disk` to join.
fn join<'a>(scenario: &'a Scenario, bed: &'a Bed, disk: &Path) -> Member<'a> {
    Member::of(scenario, bed, joins(scenario, bed, disk).start())
}

/// How it is booted for that.
fn joins<'a>(scenario: &'a Scenario, bed: &Bed, disk: &Path) -> Boot<'a> {
    boot(scenario).option("--data", disk).option("--join", bed.dir()).port()
}

impl<'a> Member<'a> {
    /// A machine that was booted so, once it is up.
    fn of(scenario: &'a Scenario, bed: &'a Bed, vm: Vm) -> Member<'a> {
        vm.wait_up();
        check_boot(scenario, &vm.lines(), &[]);
        let line = vm.lines().into_iter().find(|line| line.contains("host name ")).unwrap();
        let name = line.rsplit(' ').next().unwrap().to_owned();
        Member { scenario, bed, vm, name }
    }

    fn node(&self) -> Value {
        self.bed.get(&["node", &self.name])
    }

    fn condition(&self) -> (String, String) {
        let node = self.node();
        let all = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = all.into_iter().find(|one| one["type"] == "Ready").unwrap_or_default();
        (ready["status"].as_str().unwrap_or("").to_owned(), ready["message"].as_str().unwrap_or("").to_owned())
    }

    fn is_ready(&self) -> bool {
        let known = self.bed.attempt(&["get", "node", &self.name]).status.success();
        known && self.condition().0 == "True"
    }

    /// Waits until the cluster hears from it again, `ahead` seconds ahead of this machine's clock.
    fn comes_back(&self, ahead: u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + ahead;
        let since = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"]).arg(format!("@{now}")));
        until("word of the node", || {
            let said = self.bed.attempt(&["get", "lease", "-n", "kube-node-lease", &self.name, "-o", "json"]);
            let lease: Value = serde_json::from_slice(&said.stdout).ok()?;
            (lease["spec"]["renewTime"].as_str()? >= since.trim() && self.is_ready()).then_some(())
        });
    }

    /// The node's pod of the Deployment, once it runs.
    fn web(&self) -> Value {
        until("pod of the Deployment that runs", || {
            let all = self.bed.get(&["pods", "-l", "app=web"]);
            let found = all["items"].as_array().unwrap().iter().find(|pod| {
                let containers = pod["status"]["containerStatuses"].as_array();
                containers.is_some_and(|all| all.iter().all(|one| one["ready"] == true))
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["spec"]["nodeName"] == self.name.as_str()
            });
            found.cloned()
        })
    }

    /// Lets kubelet have the server that the API server calls.
    fn serves(&self, pod: &str) {
        self.bed.approve_server(&self.name);
        until("server of kubelet's", || {
            self.bed.attempt(&["exec", pod, "--", "sh", "-c", "true"]).status.success().then_some(())
        });
    }

    /// The Node as others see it.
    fn check_node(&mut self) {
        let node = self.node();
        let info = &node["status"]["nodeInfo"];
        assert_eq!(info["kubeletVersion"], "v1.37.2");
        assert_eq!(info["containerRuntimeVersion"], "containerd://2.4.2");
        assert_eq!((info["osImage"].as_str(), info["operatingSystem"].as_str()), (Some("kiOS"), Some("linux")));
        assert_eq!(info["machineID"], self.vm.sh("cat /host/var/lib/kios/machine-id").as_str());
        assert_eq!(info["kernelVersion"], self.vm.sh("uname -r").as_str());
        assert_eq!(info["bootID"], self.vm.sh("cat /proc/sys/kernel/random/boot_id").as_str());
        assert!(info["swap"]["capacity"].as_u64().unwrap_or(0) == 0);
        let addresses = node["status"]["addresses"].as_array().unwrap();
        let address = |kind: &str| {
            addresses
                .iter()
                .filter(|one| one["type"] == kind)
                .map(|one| one["address"].as_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!((address("InternalIP"), address("Hostname")), (vec!["10.0.2.15"], vec![self.name.as_str()]));
        let labels = &node["metadata"]["labels"];
        assert_eq!(labels["kubernetes.io/hostname"], self.name.as_str());
        assert_eq!(labels["example.com/rack"], "r-7");
        assert!(node["spec"]["podCIDR"].as_str().unwrap().starts_with("10.244."));
        assert!(node["spec"]["taints"].is_null(), "{}", node["spec"]["taints"]);
        let processors: u32 = self.vm.sh("nproc").parse().unwrap();
        assert_eq!(node["status"]["capacity"]["cpu"], processors.to_string().as_str());
        let bad: Vec<_> = ["MemoryPressure", "DiskPressure", "PIDPressure"]
            .into_iter()
            .filter(|kind| {
                let all = node["status"]["conditions"].as_array().unwrap();
                all.iter().any(|one| one["type"] == *kind && one["status"] != "False")
            })
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    /// logs, exec, port-forward, statistics, the services' logs, settings.
    fn check_server(&mut self, pod: &str) {
        let own = format!("container-a-{}", self.name);
        assert!(self.bed.kubectl(&["logs", &own]).contains("container-a: hello 1"));
        assert_eq!(self.bed.kubectl(&["exec", pod, "--", "sh", "-c", "hostname"]), pod);
        let output = self.bed.attempt(&["exec", pod, "--", "sh", "-c", "exit 7"]);
        assert_eq!(output.status.code(), Some(7));
        let forward = self.bed.beside(&["port-forward", pod, "18080:8080"]);
        let fetch = "exec 3<>/dev/tcp/127.0.0.1/18080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
        let page = until("page through port-forward", || {
            let output = self.bed.inside("bash", &["-c", fetch]);
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        });
        assert!(page.contains(pod), "{page}");
        drop(forward);
        let raw =
            |path: &str| self.bed.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{}/proxy/{path}", self.name)]);
        let summary: Value = serde_json::from_str(&raw("stats/summary")).unwrap();
        assert_eq!(summary["node"]["nodeName"], self.name.as_str());
        assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 50_000_000);
        assert!(summary["pods"].as_array().unwrap().iter().any(|one| one["podRef"]["name"] == pod));
        let names: Vec<_> = summary["node"]["systemContainers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"kubelet") && names.contains(&"runtime"), "{names:?}");
        for (service, line) in [
            ("kubelet", "Started kubelet"),
            ("containerd", "containerd successfully booted"),
            ("init", "kubelet ready"),
        ] {
            assert!(raw(&format!("logs/?query={service}")).contains(line), "{service}");
        }
        let config: Value = serde_json::from_str(&raw("configz")).unwrap();
        assert_eq!(hardening::wrong(&config["kubeletconfig"]), [""; 0]);
        assert_eq!(self.vm.sh(hardening::FILES), "600 0:0");
        // Whoever has no certificate of the cluster's gets nothing.
        let speaks = |version: &str| {
            let script = format!("openssl s_client -connect 10.0.2.15:10250 {version} </dev/null");
            self.bed.inside("bash", &["-c", &script]).status.success()
        };
        assert_eq!(["-tls1_3", "-tls1_2"].map(speaks), [true, false], "versions of TLS");
        let nobody = [
            "--kubeconfig=/dev/null",
            "--server=https://10.0.2.15:10250",
            "--insecure-skip-tls-verify",
            "--token=wrong",
        ];
        let said = self.bed.attempt(&[&nobody[..], &["get", "--raw=/pods"]].concat());
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("Unauthorized") || said.contains("must be logged in"), "{said}");
        let listens = self.vm.sh("netstat -ltn | awk '$1 ~ /^tcp/ && $4 !~ /^127/ { print $4 }'");
        assert_eq!(listens, ":::10250");
    }

    /// What a pod of the cluster's network reaches.
    fn check_network(&self, web: &Value) {
        let address = web["status"]["podIP"].as_str().unwrap();
        assert!(address.starts_with("10.244."), "{address}");
        let pod = web["metadata"]["name"].as_str().unwrap();
        let said = until("answer of the API server to a pod", || {
            let fetch = "wget -T 5 -q -O - --no-check-certificate https://10.0.2.100:6443/livez";
            let output = self.bed.attempt(&["exec", pod, "--", "sh", "-c", fetch]);
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        });
        assert_eq!(said, "ok");
    }

    /// Presses the power button, and looks through the cluster at how it ends.
    fn power_off(&mut self, pod: &str) {
        let from = self.vm.here();
        self.vm.press_power();
        until("node that says it is shutting down", || {
            let (ready, why) = self.condition();
            (ready == "False" && why.contains("node is shutting down")).then_some(())
        });
        assert_eq!(self.vm.end().0, 0);
        check_stop(self.scenario, &self.vm.lines()[from..], "power-off");
        let pod = self.bed.get(&["pod", pod]);
        self.scenario.note(&format!("the pod: {} {}", pod["status"]["phase"], pod["status"]["reason"]));
        assert!(["Failed", "Succeeded"].contains(&pod["status"]["phase"].as_str().unwrap()), "{}", pod["status"]);
    }
}

/// Who asked for a client certificate, in the order of names.
fn client_requests(bed: &Bed) -> Vec<String> {
    let all = bed.get(&["csr"]);
    let client = |csr: &&Value| csr["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet";
    let clients = all["items"].as_array().unwrap().iter().filter(client);
    let mut names: Vec<_> = clients.map(|csr| csr["spec"]["username"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn member_of_a_cluster() {
    scenario("member_of_a_cluster", ROOM, |scenario| {
        let bed = Bed::start("cluster");
        bed.apply(&["agent", "web"]);
        let (disk, labels) = (disk("member.ext4"), scratch("member-labels"));
        fs::write(&labels, "example.com/rack=r-7\n").unwrap();
        change(&disk, &[format!("write {} /etc/kubernetes/node-labels", labels.display())]);
        let mut member = join(scenario, &bed, &disk);
        until("node that is Ready", || member.is_ready().then_some(()));
        member.check_node();
        let web = member.web();
        let pod = web["metadata"]["name"].as_str().unwrap().to_owned();
        member.serves(&pod);
        member.check_network(&web);
        member.check_server(&pod);
        member.power_off(&pod);
        check_clean(&disk);

        // Again, with what it kept. Nobody answers at first: its own pods do not wait for that.
        let asked = client_requests(&bed);
        let name = member.name.clone();
        bed.freeze(true);
        let mut member = join(scenario, &bed, &disk);
        assert_eq!(member.name, name);
        member.vm.wait_for("container-a: hello 1");
        member.vm.wait_for("kubelet: the API server does not answer");
        bed.freeze(false);
        until("node that is Ready again", || member.is_ready().then_some(()));
        assert_eq!(client_requests(&bed), asked, "another certificate was asked for");
        let web = member.web();
        member.check_network(&web);
        bed.kubectl(&["drain", &name, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=120s"]);
        bed.kubectl(&["delete", "daemonset", "-n", "kube-system", "agent"]);
        // Of the cluster's pods nothing is left on the node: no container, no network, no directory.
        let left = "ls /host/var/lib/kubelet/pods | wc -l; ls /host/run/netns /host/run/cni/kios 2>/dev/null | grep -c 10.244 || true; \
            ip -o link | grep -c veth || true";
        until("node without the cluster's pods", || (member.vm.sh(left) == "3\n0\n0").then_some(()));
        bed.kubectl(&["delete", "node", &name]);
        let from = member.vm.here();
        member.vm.press_power();
        assert_eq!(member.vm.end().0, 0);
        check_stop(scenario, &member.vm.lines()[from..], "power-off");
        fs::remove_file(&disk).unwrap();
    });
}
