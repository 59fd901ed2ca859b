//! What runs on a node, seen from a pod in its process namespace.

use crate::gate::Scenario;
use crate::vm::Vm;

/// Init's resident memory, KiB.
const INIT_MEMORY: u64 = 128;

/// Checks what each process of the node is given: cgroup, session, OOM score, arguments, limits.
pub fn check(scenario: &Scenario, vm: &mut Vm) {
    let memory: u64 = vm.sh("awk '/VmRSS/ { print $2 }' /proc/1/status").parse().unwrap();
    scenario.note(&format!("init's VmRSS {memory} KiB"));
    assert!(memory <= INIT_MEMORY);
    assert_eq!(vm.sh("cat /proc/1/cgroup"), "0::/init");
    for (service, plan) in ["containerd", "kubelet"].iter().zip(&kios_init::plan::SERVICES) {
        let pid = vm.sh(&format!("pidof {service}"));
        let cgroup = vm.sh(&format!("cat /proc/{pid}/cgroup"));
        assert_eq!(cgroup, format!("0::/{}", plan.cgroup.get().to_str().unwrap()));
        assert_eq!(vm.sh(&format!("cat /proc/{pid}/oom_score_adj")), "-999");
        // Parent, process group, session.
        assert_eq!(vm.sh(&format!("awk '{{ print $4, $5, $6 }}' /proc/{pid}/stat")), format!("1 {pid} {pid}"));
        let arguments = vm.sh(&format!("tr '\\0' ' ' </proc/{pid}/cmdline"));
        let mut planned: Vec<_> = plan.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        let name = format!("--hostname-override={}", vm.sh("hostname"));
        if *service == "kubelet" {
            planned.push(&name);
        }
        assert_eq!(arguments.trim(), planned.join(" "));
        scenario.note(&format!("{service}: {arguments}, {}", vm.sh(&format!("grep VmRSS /proc/{pid}/status"))));
    }
    let shims = vm.sh("for pid in $(pidof containerd-shim-runc-v2); do cat /proc/$pid/cgroup; done | sort | uniq -c");
    let fields: Vec<_> = shims.split_whitespace().collect();
    assert_eq!(fields, ["3", "0::/podruntime/shims"], "one shim a pod, all of them there");
    // Beside pods and shims there are three programs, init with a drain for each service's output and the logs' writer:
    // nothing else runs outside the kernel.
    let strangers = "for pid in /proc/[0-9]*; do [ -n \"$(tr -d '\\0' <$pid/cmdline 2>/dev/null)\" ] || continue; \
                     case $(cat $pid/cgroup 2>/dev/null) in *kubepods*|*/podruntime/shims|'') ;; \
                     *) echo \"$(cat $pid/comm)\" ;; esac; done | sort | tr '\\n' ' '";
    assert_eq!(vm.sh(strangers).trim(), "containerd init init init init kubelet");
    let settings = "cd /host/sys/kernel/security && cat lockdown lsm";
    let settings = vm.sh(settings);
    assert!(settings.contains("[integrity]"), "{settings}");
    scenario.note(&format!("kernel: {}", settings.replace('\n', ", ")));
}

/// Checks that no ended process waits for its parent for long, anywhere on the machine.
pub fn no_zombies(vm: &mut Vm) {
    let script = "for n in $(seq 50); do left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep ') Z '); [ -n \"$left\" ] || break; sleep 0.1; \
        done; echo \"$left\"";
    assert_eq!(vm.sh(script), "");
}
