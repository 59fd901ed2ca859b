//! The real binary as process 1 of its own user, pid, mount, network, host name, cgroup and IPC namespaces, over a root
//! directory whose containerd and kubelet are stand-ins. What needs a machine's own root degrades there; the rest is what
//! a node does. Each test says which claim of the design it proves.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod boot;
mod bus;
mod console;
mod hang;
mod layout;
mod logs;
mod outsider;
mod pods;
mod pressure;
mod reaping;
mod seed;
mod services;
mod stop;
mod supervision;
mod unmount;
