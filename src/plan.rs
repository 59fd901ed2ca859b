//! Everything a node does, as constants. To know what a node does, read this file; to change it, change this file and
//! rebuild. Nothing at run time adds to it or takes from it.

use core::ffi::CStr;
use linux_raw_sys::general::{
    RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_RTPRIO, RLIMIT_SIGPENDING, RLIMIT_STACK,
};
use rustix::mount::MountFlags;
use static_assertions::const_assert;

mod data;
mod kinds;
mod trouble;

pub use data::*;
pub use kinds::{Input, Modules, Mount, Need, Service, Watch, number};
use kinds::{degraded, fatal};
pub use trouble::*;

use crate::sys::process::STRINGS_MAX;
use crate::sys::text::{Text, t};

/// Milliseconds. Every wait of init has a limit in this unit.
pub type Millis = u64;

// ---- Reporting ------------------------------------------------------------------------------------------------------

/// Priority of init's lines in the kernel's log: daemon.notice (syslog(3): 3 << 3 | 5).
pub const KMSG_LEVEL: &CStr = c"<29>";
/// Kernel messages below this level go to the console (syslog(2)): errors and worse. Init writes its own lines there.
pub const CONSOLE_LEVEL: u8 = 4;
/// How often a line is offered to a console that does not take it, and the pause between: another writer may hold it, and wait
/// for the processor. One that took nothing all that time is offered each further line once. What is lost there is still in
/// the kernel's log.
pub const CONSOLE_TRIES: usize = 200;
/// See [`CONSOLE_TRIES`].
pub const CONSOLE_PAUSE: Millis = 1;
/// How long a fatal line stays on the console before the restart.
pub const FATAL_PAUSE: Millis = 10_000;

// ---- Root image -----------------------------------------------------------------------------------------------------

/// The root image in the initramfs, an EROFS.
pub const IMAGE: &CStr = c"/root.erofs";
/// Where the root is put together before it is moved over `/`; also in the initramfs.
pub const NEW_ROOT: &CStr = c"/newroot";
/// The root image once copied to a ramfs, where the initramfs is a tmpfs, which EROFS cannot be mounted from.
pub const IMAGE_COPY: &CStr = c"/newroot/root.erofs";
/// The root image's file once it is held and unlinked (sys/stdio.rs, Fixed::Image).
pub const IMAGE_HELD: &CStr = c"/proc/self/fd/8";
/// In an initramfs whose root image is in a partition: the table by which it is verified, `dm-verity`'s without the version and
/// the devices, behind the number of its sectors (Documentation/admin-guide/device-mapper/verity.rst).
pub const ROOT_TABLE: &CStr = c"/root.verity";
/// GPT partition label of that partition. The first that holds what the table says is taken.
pub const ROOT_LABEL: &[u8] = b"kios-root";
/// How long after power-on it may still come. A machine without it cannot go on.
pub const ROOT_BY: Millis = 30_000;
/// The root image's file there.
pub const IMAGE_FILE: &CStr = c"root.erofs";
/// Bytes of the longest table.
pub const ROOT_TABLE_BYTES: usize = 256;
/// What the partition is read through: the first mapping that there is.
pub const ROOT_DEVICE: &CStr = c"/dev/dm-0";
/// How many of [`MOUNTS`], from the first on, it takes to find it.
pub const ROOT_MOUNTS: usize = 3;
/// Bytes moved at a time while copying; what was copied is freed behind.
pub const COPY_STEP: usize = 1 << 20;
/// A directory that is there in every root: tells a root in the initramfs' own files from a missing root image.
pub const ROOT_MARK: &CStr = c"/etc/kios";
/// The root that the kernel's own helpers are confined to (core_pattern, modprobe, poweroff_cmd).
pub const KERNEL_ROOT: &CStr = c"kernel";

/// What mounting the root image needs; in the initramfs.
pub const ROOT_MODULES: Modules = Modules { directory: c"/modules", list: c"order", once: true };
/// What the next boot steps and containerd's start need, but for [`STORAGE_MODULES`].
pub const EARLY_MODULES: Modules = Modules { directory: c"/usr/lib/kios/modules", list: c"early", once: false };
/// Drivers of disks other than virtio's, loaded beside those above: they wait for what they drive.
pub const STORAGE_MODULES: Modules = Modules { directory: c"/usr/lib/kios/modules", list: c"storage", once: false };
/// How long they are waited for: disks spin up.
pub const STORAGE_LIMIT: Millis = 30_000;
/// The network, and what pods may need; loaded beside all that follows, since nothing loads modules later.
pub const LATE_MODULES: Modules = Modules { directory: c"/usr/lib/kios/modules", list: c"late", once: false };
/// Bytes of the longest module list.
pub const MODULE_LIST_BYTES: usize = 4096;

// ---- Mounts ---------------------------------------------------------------------------------------------------------

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const API: MountFlags = SAFE.union(MountFlags::NOEXEC);

/// devtmpfs: mounted in the initramfs for the first descriptors, and in the root.
pub const DEV: Mount = degraded(c"devtmpfs", c"/dev", MountFlags::NOSUID, c"mode=0755");

/// The API file systems, in order; a mount point that is missing is made where that can be done.
pub const MOUNTS: &[Mount] = &[
    fatal(c"proc", c"/proc", API, c""),
    degraded(c"sysfs", c"/sys", API, c""),
    DEV,
    degraded(c"devpts", c"/dev/pts", MountFlags::NOSUID, c"gid=5,mode=0620,ptmxmode=0666"),
    degraded(c"tmpfs", c"/dev/shm", SAFE, c"mode=1777"),
    degraded(c"mqueue", c"/dev/mqueue", API, c""),
    degraded(c"hugetlbfs", c"/dev/hugepages", SAFE, c""),
    degraded(c"securityfs", c"/sys/kernel/security", API, c""),
    degraded(c"debugfs", c"/sys/kernel/debug", API, c"mode=0700"),
    degraded(c"tracefs", c"/sys/kernel/tracing", API, c"mode=0700"),
    degraded(c"pstore", c"/sys/fs/pstore", API, c""),
    degraded(c"bpf", c"/sys/fs/bpf", API, c"mode=0700"),
    degraded(c"cgroup2", c"/sys/fs/cgroup", API, c"nsdelegate,memory_recursiveprot"),
    fatal(c"tmpfs", c"/run", SAFE, c"mode=0755"),
    degraded(c"tmpfs", c"/tmp", SAFE, c"mode=1777"),
];

/// Mounts that propagate between the services' mount namespaces and PID 1's: what pods mount there must be unmounted at
/// the end. Everything else is private.
pub const SHARED: &[Text] = &[t(c"/run"), t(c"/var")];

// ---- Kernel settings ------------------------------------------------------------------------------------------------

/// Directory of the kernel settings.
pub const SYSCTL_ROOT: &[u8] = b"/proc/sys/";

/// Kernel settings, a line each: file below /proc/sys, `=`, value. The first six are what kubelet's protectKernelDefaults
/// demands (k8s.io/component-helpers, node/util/sysctl). There is no modprobe, so the kernel need not start one. What each
/// processor keeps of freed pages for itself, which count as used, is a thousandth of all at most, together: since Linux 6.7 it
/// grows to an eighth (mm/page_alloc.c, zone_set_pageset_high_and_batch).
pub const SYSCTLS: &[u8] = b"\
vm/overcommit_memory=1\n\
vm/panic_on_oom=0\n\
kernel/panic=10\n\
kernel/panic_on_oops=1\n\
kernel/keys/root_maxkeys=1000000\n\
kernel/keys/root_maxbytes=25000000\n\
vm/percpu_pagelist_high_fraction=1000\n\
net/ipv4/ip_forward=1\n\
net/ipv6/conf/all/forwarding=1\n\
kernel/pid_max=4194304\n\
fs/inotify/max_user_instances=8192\n\
fs/inotify/max_user_watches=524288\n\
fs/protected_hardlinks=1\n\
fs/protected_symlinks=1\n\
fs/protected_fifos=1\n\
fs/protected_regular=2\n\
kernel/kexec_load_disabled=1\n\
kernel/unprivileged_bpf_disabled=1\n\
kernel/dmesg_restrict=1\n\
kernel/kptr_restrict=1\n\
kernel/printk_devkmsg=on\n\
kernel/modprobe=\n\
";

/// Kernel settings once the late modules are loaded. Then no module is loaded any more: a signed one would do to get a
/// program of a pod's run outside it (binfmt_misc).
pub const LATE_SYSCTLS: &[u8] = b"\
net/bridge/bridge-nf-call-iptables=1\n\
net/bridge/bridge-nf-call-ip6tables=1\n\
kernel/modules_disabled=1\n\
";

/// Kernel settings elsewhere: (file, value).
pub const KERNEL_FILES: &[(Text, Text)] = &[
    // With them the kernel holds back some 40 MB more (mm/khugepaged.c, set_recommended_min_free_kbytes), and what runs
    // takes more than it uses. Pods that want huge pages ask for those of hugetlbfs.
    (t(c"/sys/kernel/mm/transparent_hugepage/enabled"), t(c"never")),
];

/// Root can no longer change the running kernel (kernel_lockdown(7)).
pub const LOCKDOWN: (Text, Text) = (t(c"/sys/kernel/security/lockdown"), t(c"integrity"));

/// Yama's strictest ptrace scope, for kernels without Landlock scoping.
pub const PTRACE_SCOPE: &[u8] = b"kernel/yama/ptrace_scope=3\n";

// ---- Watchdog -------------------------------------------------------------------------------------------------------

/// Hardware watchdogs are this with a digit: the first that can be opened, once the drivers are loaded, is used.
pub const WATCHDOG: &[u8] = b"/dev/watchdog";
/// Its time-out in seconds until the main loop runs: a disk may take long to recover.
pub const WATCHDOG_BOOT: i32 = 600;
/// Its time-out in seconds while the machine runs. A device that cannot do that says what it does.
pub const WATCHDOG_RUN: i32 = 60;
/// Its time-out in seconds once the pods have ended: more than all of the limits from there on, so that it also sees to it
/// that the machine ends.
pub const WATCHDOG_STOP: i32 = 120;
/// The main loop feeds it this often within its time-out.
pub const WATCHDOG_FEEDS: u64 = 4;

// ---- cgroups --------------------------------------------------------------------------------------------------------

/// Where the cgroup tree is.
pub const CGROUP_ROOT: &CStr = c"/sys/fs/cgroup";
/// Controllers switched on for the children of the root and of [`PODRUNTIME`], as far as the kernel has them.
pub const CONTROLLERS: &[Text] = &[t(c"+cpu"), t(c"+cpuset"), t(c"+memory"), t(c"+pids"), t(c"+hugetlb"), t(c"+io")];
/// Init's own cgroup.
pub const INIT_CGROUP: &CStr = c"init";
/// Parent of the services' cgroups.
pub const PODRUNTIME: &CStr = c"podruntime";
/// Cgroups made at boot, parents first, with the memory.min of each, what reclaim leaves them, and its cpu.weight. All pods
/// together weigh some 40 for each processor (k8s.io/kubernetes, pkg/kubelet/cm/cgroup_manager_linux.go, getCPUWeight): a node whose
/// pods take all there is must still answer.
pub const CGROUPS: &[(Text, Text, Text)] = &[
    (t(INIT_CGROUP), t(c"1M"), t(c"10000")),
    (t(PODRUNTIME), t(c"160M"), t(c"1000")),
    (t(c"podruntime/runtime"), t(c"64M"), t(c"100")),
    (t(c"podruntime/kubelet"), t(c"64M"), t(c"100")),
    // The shims of all pods (containerd.toml names it).
    (t(c"podruntime/shims"), t(c"32M"), t(c"100")),
];

// ---- Services -------------------------------------------------------------------------------------------------------

/// Directory in a service's own mount namespace that holds its sockets, and who the machine is.
pub const SOCKETS: &CStr = c"/kios";
/// Name of the notify socket in [`SOCKETS`]; the services' NOTIFY_SOCKET.
pub const NOTIFY_SOCKET: &CStr = c"notify";
/// Name of the bus socket in [`SOCKETS`]; kubelet's DBUS_SYSTEM_BUS_ADDRESS.
pub const BUS_SOCKET: &CStr = c"bus";
/// The machine's id there: the root's /etc/machine-id leads to it.
pub const MACHINE_ID_FILE: &CStr = MACHINE_ID;
/// The names of its own addresses there: the root's /etc/hosts leads to it.
pub const HOSTS_FILE: &CStr = c"hosts";
/// What is there before the host name, and after it.
pub const HOSTS: (&[u8], &[u8]) = (b"127.0.0.1 localhost\n127.0.1.1 ", b"\n::1 localhost\n");
/// Options of the tmpfs that holds a service's sockets: there is room for the kubeconfig that kubelet makes, and for nothing
/// more. Only root enters.
pub const SOCKETS_OPTIONS: &[(Text, Text)] =
    &[(t(c"mode"), t(c"0700")), (t(c"nr_blocks"), t(c"24")), (t(c"nr_inodes"), t(c"6"))];

/// Index of containerd in [`SERVICES`].
pub const CONTAINERD: usize = 0;
/// Index of kubelet in [`SERVICES`].
pub const KUBELET: usize = 1;

/// Bytes that kubelet's configuration must stay below: what a pipe holds (pipe(7)) but for a page, since whether there is more
/// can be asked only where there is room for it.
pub const CONFIG_MAX: usize = 61_440;

/// The two services, in the order they start; each begins its work once the one before is ready.
pub const SERVICES: [Service; 2] = [
    Service {
        name: t(c"containerd"),
        program: t(c"usr/bin/containerd"),
        configs: [t(c"etc/kios/containerd.toml"); 2],
        arguments: &[c"containerd", c"--config=/proc/self/fd/5"],
        environment: &[c"PATH=/usr/bin", c"HOME=/", c"NOTIFY_SOCKET=/kios/notify"],
        cgroup: t(c"podruntime/runtime"),
        watch: Watch::Asked,
    },
    Service {
        name: t(c"kubelet"),
        program: t(c"usr/bin/kubelet"),
        configs: [t(c"etc/kios/kubelet.yaml"), t(c"etc/kios/kubelet-in-cluster.yaml")],
        arguments: &[c"kubelet", c"--config=/proc/self/fd/5", c"--runtime-cgroups=/podruntime/runtime"],
        environment: &[
            c"PATH=/usr/bin",
            c"HOME=/",
            c"NOTIFY_SOCKET=/kios/notify",
            // It says WATCHDOG=1 about twice in this time, which is less than the limit for silence.
            c"WATCHDOG_USEC=30000000",
            c"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/kios/bus",
        ],
        cgroup: t(c"podruntime/kubelet"),
        watch: Watch::Told,
    },
];
const_assert!(
    SERVICES[CONTAINERD].arguments.len() <= STRINGS_MAX && SERVICES[CONTAINERD].environment.len() <= STRINGS_MAX
);
// And those that Identity adds.
const_assert!(SERVICES[KUBELET].arguments.len() + 5 <= STRINGS_MAX);
const_assert!(SERVICES[KUBELET].environment.len() <= STRINGS_MAX);

/// Resource limits of a service and of what it starts: number, soft, hard (getrlimit(2)). Those that are not here are none.
/// They are all set, since a pod may change process 1's. The kernel's own, but for nofile and nproc, by which root's containers
/// would share a few thousand files and processes.
pub const LIMITS: [(u32, u64, u64); 7] = [
    (RLIMIT_NOFILE, 1_048_576, 1_048_576),
    (RLIMIT_STACK, 8 << 20, u64::MAX),
    (RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
    (RLIMIT_SIGPENDING, 65_536, 65_536),
    (RLIMIT_MSGQUEUE, 819_200, 819_200),
    (RLIMIT_NICE, 0, 0),
    (RLIMIT_RTPRIO, 0, 0),
];
/// oom_score_adj of a service (proc_pid_oom_score_adj(5)): among the last to be killed.
pub const OOM_SCORE_ADJ: Text = t(c"-999");
/// What a service's process writes about itself: as the limits, a pod may have changed it in process 1. The second is the
/// kernel's own: what a dump of memory holds (core(5)).
pub const PROCESS_FILES: [(Text, Text); 2] =
    [(t(c"/proc/self/oom_score_adj"), OOM_SCORE_ADJ), (t(c"/proc/self/coredump_filter"), t(c"0x33"))];
/// What a limit for open files must not be above, and its value: the kernel's own, which a pod may have lowered.
pub const NR_OPEN: (Text, Text) = (t(c"/proc/sys/fs/nr_open"), t(c"1048576"));
/// A start that is not ready by then is aborted. Long, since containerd first takes up the shims of every running pod.
pub const START_LIMIT: Millis = 300_000;
/// How often it is said that a start takes its time.
pub const START_TELL: Millis = 30_000;
/// A service that is ready and gives no sign of life for this long is aborted.
pub const SILENCE_LIMIT: Millis = 60_000;
/// A loop that comes by so much later than it planned was asleep itself, and blames no service.
pub const OVERSLEPT: Millis = 5_000;
/// How often one that is asked is asked; whoever does not answer at once has the limit above to do so.
pub const ASK_PAUSE: Millis = 15_000;
/// Where containerd is asked.
pub const CONTAINERD_SOCKET: &CStr = c"/run/containerd/containerd.sock";
/// From SIGABRT, on which the two print what each goroutine does, to SIGKILL.
pub const ABORT_LIMIT: Millis = 10_000;
/// First wait before a service that ended is started again.
pub const BACK_OFF_FIRST: Millis = 250;
/// Longest such wait; each is twice the one before.
pub const BACK_OFF_LAST: Millis = 30_000;
/// A service ready for this long starts again with the first wait.
pub const STABLE: Millis = 60_000;

// ---- Logs -----------------------------------------------------------------------------------------------------------

/// Directory of the logs; made on the data disk.
pub const LOG_DIRECTORY: &CStr = c"/var/log";
/// Files of a log, with the one that is written.
pub const LOG_FILES: usize = 3;
/// The logs, each newest file first: what the services print, by index into [`SERVICES`], and init's own lines.
pub const LOGS: [[Text; LOG_FILES]; SERVICES.len() + 1] = [
    [t(c"containerd.log"), t(c"containerd.log.1"), t(c"containerd.log.2")],
    [t(c"kubelet.log"), t(c"kubelet.log.1"), t(c"kubelet.log.2")],
    [t(c"init.log"), t(c"init.log.1"), t(c"init.log.2")],
];
/// Index of init's own in [`LOGS`].
pub const OWN_LOG: usize = SERVICES.len();
/// Bytes of a file of a log; before it would be longer, another one is begun.
pub const LOG_BYTES: u64 = 8 << 20;
/// For a log's writer that does not keep up with a burst; after that nobody waits for it until it does.
pub const LOG_WAIT: Millis = 1_000;
/// What a log lacks is said no more often than this.
pub const LOSS_PAUSE: Millis = 10_000;
/// The logs' writer is started no more often than this.
pub const WRITER_PAUSE: Millis = 10_000;
/// The kernel's records of crashes.
pub const PSTORE: Text = t(c"/sys/fs/pstore");
/// Where they are moved, below [`LOG_DIRECTORY`].
pub const RECORDS: &CStr = c"pstore";

// ---- Main loop ------------------------------------------------------------------------------------------------------

/// Input devices listened to are this with a digit, as far as they are there at boot: one of them is the power button.
pub const INPUT: &[u8] = b"/dev/input/event";
/// Their number; at most ten.
pub const INPUTS: usize = 8;
/// Children reaped before the loop looks at anything else.
pub const REAP_BATCH: usize = 512;

// ---- Stop -----------------------------------------------------------------------------------------------------------

/// For kubelet to end the pods: its grace periods (kubelet.yaml, shutdownGracePeriod 30 s), and time to start again first
/// where it is down at that moment.
pub const PODS_LIMIT: Millis = 35_000;
/// From kubelet's asking to hear of the end to telling it, where it has just started: what it is told at once is lost, and
/// it would refuse the pods that run until it knows them. Its loop looks for them after at most 1.6 s more.
pub const TELL_AFTER: Millis = 3_000;
/// From containerd's being ready to telling a kubelet that was there before: it looks for a runtime that was gone no less
/// often than this (k8s.io/cri-client v0.37.2, pkg/remote_runtime.go, maxBackoffDelay, and a fifth more by gRPC's jitter).
pub const RECONNECT_AFTER: Millis = 3_600;
/// Requests until then are the first one's: one press of a button may come from two devices.
pub const AGAIN_AFTER: Millis = 500;
/// From SIGTERM to SIGKILL when a service is stopped.
pub const STOP_LIMIT: Millis = 4_000;
/// From SIGKILL to going on without it.
pub const STOP_KILL_LIMIT: Millis = 1_000;
/// From SIGTERM to all that is left, to SIGKILL.
pub const TERM_LIMIT: Millis = 8_000;
/// From SIGKILL to going on without those that are stuck in the kernel.
pub const KILL_LIMIT: Millis = 4_000;
/// For saving the seed.
pub const SAVE_LIMIT: Millis = 1_000;
/// Types of file systems whose server may be gone, by their beginning: unmounted lazily.
pub const NETWORK_KINDS: &[&[u8]] = &[b"nfs", b"cifs", b"smb", b"ceph", b"fuse", b"9p", b"virtiofs"];
/// For unmounting one file system.
pub const UNMOUNT_ONE_LIMIT: Millis = 2_000;
/// A mount of the data disk that no pod can cover: made clean before all others, which may hang.
pub const UNMOUNT_FIRST: &CStr = c"/etc/kubernetes";
/// For unmounting them all; and what the phases before left of their limits.
pub const UNMOUNT_LIMIT: Millis = 9_000;
/// What is detached at the end, with all that is still mounted below.
pub const UNMOUNTS: &[Text] = &[t(c"/opt/cni/bin"), t(c"/etc/cni"), t(c"/etc/kubernetes"), t(c"/var"), t(c"/run")];
/// Most mounts on top of each other at one of these places that are detached.
pub const UNMOUNTS_MAX: usize = 64;
/// For sync(2), which a frozen disk holds for ever; and what the phases before left of their limits.
pub const SYNC_LIMIT: Millis = 8_000;
/// All of them: what a stop takes at most.
pub const STOP_SUM: Millis = PODS_LIMIT
    + SERVICES.len() as Millis * (STOP_LIMIT + STOP_KILL_LIMIT)
    + TERM_LIMIT
    + KILL_LIMIT
    + SAVE_LIMIT
    + UNMOUNT_LIMIT
    + SYNC_LIMIT;
const_assert!(STOP_SUM <= 75_000);
const_assert!(STOP_SUM < WATCHDOG_STOP.cast_unsigned() as Millis * 1_000);
