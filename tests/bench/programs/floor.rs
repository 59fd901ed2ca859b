//! The least that reaps: one child that does nothing, and waitpid(2) over and over. What an init costs above it is for
//! what it does besides.
#![no_std]
#![no_main]

use kios_init::{entry_asm, sys::process};
use rustix::event::pause;
use rustix::process::{WaitOptions, wait};

/// Where the kernel enters.
#[allow(unsafe_code)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    entry_asm!(crate::main)
}

extern "C" fn main() -> ! {
    if let Ok(None) = process::fork() {
        loop {
            pause();
        }
    }
    while wait(WaitOptions::empty()).is_ok() {}
    process::exit(1)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    process::exit(1)
}
