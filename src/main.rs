//! # kios-init: No Configurable Init
//!
//! PID 1 of a machine that runs Kubernetes pods and nothing else. It mounts what must be mounted, starts containerd and
//! then kubelet with fixed command lines, keeps the two alive, reaps orphans, and shuts the machine down in order.
//!
//! What it never does: read a setting (no file, argument, environment variable, kernel parameter or socket configures
//! it), start a third service, allocate memory, block without a limit, return.
//!
//! 1. **Every decision is a const in [`plan`].** To know what a node does, read that file; to change it, rebuild.
//! 2. **Unsafe code lives in [`sys`] only.** The rest is checked by the compiler.
//! 3. **Logic is apart from system calls.** What can be decided from values is a pure function with tests on the host.
//! 4. **A step is fatal or degraded.** Degraded is said in one line, and the machine goes on with less.
//!
//! [`plan`]: kios_init::plan
//! [`sys`]: kios_init::sys
#![no_std]
#![no_main]

use kios_init::{boot, run, stop};

#[allow(unsafe_code)]
#[path = "sys/start.rs"]
mod start;

/// The life of the machine.
extern "C" fn main() -> ! {
    boot::refuse_unless_first();
    if let Some(machine) = boot::boot()
        && let Some((services, ending)) = run::run(&machine)
    {
        stop::stop(machine, &services, ending)
    }
    // What cannot go on has said why.
    stop::restart_after_pause()
}
