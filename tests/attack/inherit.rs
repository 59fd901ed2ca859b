//! What the services inherit from process 1, as far as a pod may change it there.

use super::{Attack, Target, Verdict};

/// What of that can be read of a running kubelet.
fn inherited(target: &mut Target) -> String {
    target.sh(
        "cd /proc/$(pidof kubelet) && cat limits oom_score_adj coredump_filter cgroup && \
         grep -E '^(Cpus_allowed|Mems_allowed|SigIgn|NoNewPrivs|CapBnd):' status && \
         sed 's/.*) //' stat | awk '{ print \"priority\", $16, \"nice\", $17, \"policy\", $39 }' && ionice -p $(pidof kubelet) && \
         cat timerslack_ns && cd /host/sys/fs/cgroup/podruntime/kubelet && cat cpu.weight memory.max pids.max",
    )
}

/// Changes it all, and compares the next kubelet with this one.
pub fn attacks(target: &mut Target) -> Vec<Attack> {
    let before = inherited(target);
    let said = target.sh("/tmp/intruder bequeath 1");
    let refused: Vec<_> = said.lines().filter(|line| !line.ends_with(": open")).collect();
    target
        .scenario
        .note(&format!("of {} changes to what process 1 bequeaths refused: {refused:?}", said.lines().count()));
    // And its cgroup.
    target.sh("mkdir /host/sys/fs/cgroup/intruder && echo 1 >/host/sys/fs/cgroup/intruder/cgroup.procs");
    // What outlives the cgroup's processes, and what the highest limit may be.
    target.sh(
        "cd /host/sys/fs/cgroup/podruntime/kubelet && echo 7 >cpu.weight && echo 900M >memory.max && echo 5000 >pids.max && \
         echo 1000 >/proc/sys/fs/nr_open",
    );
    let from = target.vm.here();
    target.sh("kill -KILL $(pidof kubelet)");
    target.vm.wait_after(from, "kubelet ready");
    let after = inherited(target);
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    let verdict = if changed.is_empty() {
        Verdict::Held("the next kubelet starts as the first did".into())
    } else {
        Verdict::Broken(format!("{changed:?}"))
    };
    vec![Attack::new("process 1's limits, schedule and cgroup", verdict)]
}
