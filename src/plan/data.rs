//! The part of the plan that is about the data disk, and what is on it.

use core::ffi::CStr;
use rustix::mount::MountFlags;
use static_assertions::const_assert;

use super::kinds::{Input, number};
use super::{Millis, SAFE};
use crate::sys::text::{Text, t};

// ---- Data disk ------------------------------------------------------------------------------------------------------

/// GPT partition label, or ext4 volume label, of the data disk.
pub const DATA_LABEL: &[u8] = b"kios-data";
/// Where the disk is mounted while its directories are bound to their places.
pub const DATA: &CStr = c"/data";
/// The data disk's file system.
pub const DATA_KIND: &CStr = c"ext4";
/// The data disk's options: a damaged one stops being written.
pub const DATA_OPTIONS: &CStr = c"errors=remount-ro";
/// The data disk's mount flags.
pub const DATA_FLAGS: MountFlags = SAFE;

/// How long after power-on one may still come. A machine that has none waits until then.
pub const DATA_BY: Millis = 12_000;
/// The least time it is waited for, where the kernel took longer than that to start.
pub const DATA_WITHIN: Millis = 3_000;

/// Directories of the data disk, made when missing: (path below the disk's root, mode), parents first.
pub const DATA_DIRECTORIES: &[(Text, u16)] = &[
    (t(c"var"), 0o755),
    (t(c"var/lib"), 0o755),
    (t(c"var/lib/containerd"), 0o700),
    (t(c"var/lib/kubelet"), 0o700),
    (t(c"var/lib/kios"), 0o700),
    (t(c"var/log"), 0o755),
    (t(c"etc"), 0o755),
    (t(c"etc/kubernetes"), 0o755),
    (t(c"etc/cni"), 0o755),
    (t(c"etc/cni/net.d"), 0o755),
    (t(c"opt"), 0o755),
    (t(c"opt/cni"), 0o755),
    (t(c"opt/cni/bin"), 0o755),
];

/// Directory of network configurations.
pub const NETWORKS: &CStr = c"etc/cni/net.d";
/// The one that containerd made by the addresses that the cluster gave the node: it makes it anew, and only where there is none
/// (internal/cri/server/update_runtime_config.go), so what an earlier boot left goes.
pub const NETWORK_MADE: &CStr = c"10-containerd-net.conflist";

/// The directory of static pods, made last on a new disk.
pub const MANIFESTS: &CStr = c"etc/kubernetes/manifests";
/// The same while it is not whole; of that name in the seed, too.
pub const MANIFESTS_NEW: &CStr = c"etc/kubernetes/manifests.new";
/// What the image has for a new disk: static pods, and containerd's store with the images they need.
pub const IMAGE_SEED: &CStr = c"/usr/lib/kios/seed";
/// How deep its directories are at most.
pub const SEED_DEPTH: usize = 8;

/// What is bound from the data disk to its place: (path below [`DATA`], place).
pub const DATA_BINDS: &[(Text, Text)] = &[
    (t(c"/data/var"), t(c"/var")),
    (t(c"/data/etc/kubernetes"), t(c"/etc/kubernetes")),
    (t(c"/data/etc/cni"), t(c"/etc/cni")),
    (t(c"/data/opt/cni/bin"), t(c"/opt/cni/bin")),
];

// ---- Identity -------------------------------------------------------------------------------------------------------

/// Where init keeps what it has to know at the next boot; nobody else's.
pub const STATE: &CStr = c"/var/lib/kios";
/// A file there that is not whole yet.
pub const STATE_NEW: &CStr = c"new";
/// A seed for the next boot's random numbers; it is saved as often as the clock is to be known.
pub const SEED: &CStr = c"seed";
/// Its bytes; as many as the kernel's generator has.
pub const SEED_BYTES: usize = 32;
/// How often it is saved.
pub const SAVE_EVERY: Millis = 3_600_000;
/// The machine's id.
pub const MACHINE_ID: &CStr = c"machine-id";
/// What the machine's maker says is its id.
pub const PRODUCT_ID: &CStr = c"/sys/class/dmi/id/product_uuid";
/// The host name where none is given: this, and 8 digits by the machine's id.
pub const HOSTNAME: &[u8] = b"kios-";
/// The day init was built, in seconds since 1970: no clock shows less.
pub const CLOCK_FIRST: u64 = number(env!("KIOS_BUILD_DAY").as_bytes());
/// No clock shows more: thirty years later.
pub const CLOCK_LAST: u64 = CLOCK_FIRST + 30 * 365 * 86_400;

/// Directory of what kubelet takes from the data disk: each a file that is used as it is at boot, or left out. No program that
/// kubelet is to run is among it: those are of the image alone.
pub const INPUT_DIRECTORY: &CStr = c"/etc/kubernetes";
/// The host name, which is also the Node's.
pub const NAME_INPUT: Text = t(c"hostname");
/// kubelet is told which it is: pods may change the kernel's.
pub const NAME_ARGUMENT: &[u8] = b"--hostname-override=";
/// The node's addresses.
pub const ADDRESSES_INPUT: Text = t(c"node-ip");
/// As kubelet takes them.
pub const ADDRESSES_ARGUMENT: &[u8] = b"--node-ip=";
/// The node's labels, one a line.
pub const LABELS_INPUT: Text = t(c"node-labels");
/// As kubelet takes them.
pub const LABELS_ARGUMENT: &[u8] = b"--node-labels=";
/// Files of these three are shorter than so many bytes.
pub const INPUT_BYTES: usize = 1_000;
/// Bytes of the longest argument that is made of one, with its NUL.
pub const ARGUMENT_BYTES: usize = 1_024;
const_assert!(
    NAME_ARGUMENT.len() + INPUT_BYTES <= ARGUMENT_BYTES && LABELS_ARGUMENT.len() + INPUT_BYTES <= ARGUMENT_BYTES
);
/// The ways into a cluster: the first of these kubeconfigs that is there and good is kubelet's. It has the bytes that were
/// looked at, at descriptor 9. With the first one it makes the other for itself, anew at each start, and uses the certificate that
/// it kept while that is good.
pub const KUBECONFIGS: [Input; 2] = [
    Input {
        name: t(c"bootstrap-kubelet.conf"),
        arguments: &[c"--bootstrap-kubeconfig=/proc/self/fd/9", c"--kubeconfig=/kios/kubelet.conf"],
    },
    Input { name: t(c"kubelet.conf"), arguments: &[c"--kubeconfig=/proc/self/fd/9"] },
];
/// Bytes of the longest of them.
pub const KUBECONFIG_BYTES: usize = 65_536;

/// Links made at boot: (target, link). Those in /dev are what devtmpfs leaves out.
pub const LINKS: &[(Text, Text)] = &[
    (t(c"/proc/self/fd"), t(c"/dev/fd")),
    (t(c"/proc/self/fd/0"), t(c"/dev/stdin")),
    (t(c"/proc/self/fd/1"), t(c"/dev/stdout")),
    (t(c"/proc/self/fd/2"), t(c"/dev/stderr")),
    (t(c"/run"), t(c"/var/run")),
    (t(c"resolv/resolv.conf"), t(c"/run/resolv.conf")),
];
/// A directory for the DHCP pod to write name servers in: it needs nothing else of /run, where containerd's socket is.
pub const RESOLV: &CStr = c"/run/resolv";
/// Made empty at boot; the root's /etc/resolv.conf leads to it by /run/resolv.conf.
pub const RESOLV_CONF: &CStr = c"/run/resolv/resolv.conf";
