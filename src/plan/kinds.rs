//! What the plan's entries are made of: types alone, no decision.

use core::ffi::CStr;
use rustix::mount::MountFlags;

use crate::sys::text::{Text, t};

/// A list of kernel modules: names of files in `directory`, one a line, in the order they are loaded.
pub struct Modules {
    /// Directory of the list and the modules.
    pub directory: &'static CStr,
    /// The list's name.
    pub list: &'static CStr,
    /// Whether a module's file is removed once it is loaded, to free its memory.
    pub once: bool,
}

/// A file system to mount at boot. In mountinfo its type is also its source.
pub struct Mount {
    /// Mount point.
    pub target: Text,
    /// File system type.
    pub kind: Text,
    /// Mount flags.
    pub flags: MountFlags,
    /// Options of the file system.
    pub data: Text,
    /// What a failure means.
    pub need: Need,
}

/// What the failure of a step or a mount means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The machine cannot go on: restart after a pause.
    Fatal,
    /// The machine goes on with less, and says so.
    Degraded,
}

/// A mount that the machine can do without.
pub const fn degraded(kind: &'static CStr, target: &'static CStr, flags: MountFlags, data: &'static CStr) -> Mount {
    Mount { target: t(target), kind: t(kind), flags, data: t(data), need: Need::Degraded }
}

/// A mount that it cannot do without.
pub const fn fatal(kind: &'static CStr, target: &'static CStr, flags: MountFlags, data: &'static CStr) -> Mount {
    Mount { need: Need::Fatal, ..degraded(kind, target, flags, data) }
}

/// A service: a program that init starts and keeps alive.
pub struct Service {
    /// Name in init's lines.
    pub name: Text,
    /// Program, below the root.
    pub program: Text,
    /// Configuration file, below the root; and the one where the node is in a cluster.
    pub configs: [Text; 2],
    /// Arguments.
    pub arguments: &'static [&'static CStr],
    /// Environment, whole.
    pub environment: &'static [&'static CStr],
    /// Its cgroup, below the root of the tree.
    pub cgroup: Text,
    /// How it is found to live once it is ready.
    pub watch: Watch,
}

/// How a service gives signs of life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It says so itself (sd_notify(3), WATCHDOG=1).
    Told,
    /// It answers when it is asked.
    Asked,
}

/// A file of the data disk that kubelet reads.
pub struct Input {
    /// Name in its directory.
    pub name: Text,
    /// kubelet's arguments where it is used.
    pub arguments: &'static [&'static CStr],
}

/// The number that these digits are.
pub const fn number(mut digits: &[u8]) -> u64 {
    let mut number = 0u64;
    while let [digit, rest @ ..] = digits {
        number = number.wrapping_mul(10).wrapping_add(digit.wrapping_sub(b'0') as u64);
        digits = rest;
    }
    number
}
