//! The hardware watchdog as QEMU has it: what becomes of it at the machine's end.

use std::time::{Duration, Instant};

use crate::arch::choose;
use crate::vm::Vm;

/// In a slot of its own.
pub const DEVICE: &[&str] = &["-device", "i6300esb,addr=10"];
/// Its register ESB_LOCK_REG, of PCI configuration, where the machine's memory has it (QEMU's hw/pci-host/q35.c and
/// hw/arm/virt.c, VIRT_HIGH_PCIE_ECAM): bit 1 is set while it runs (linux/drivers/watchdog/i6300esb.c).
fn lock() -> u64 {
    choose(0xb000_0000, 0x40_1000_0000) + (0x10 << 15) + 0x68
}

/// How long a halted machine must stay.
const STAYS: Duration = Duration::from_secs(3);

fn is_armed(vm: &Vm) -> bool {
    let lock = lock();
    let request =
        format!(r#"{{"execute":"human-monitor-command","arguments":{{"command-line":"xp /1xb {lock:#x}"}}}}"#);
    let answer = vm.ask(&request);
    match answer.split_once(&format!("{lock:016x}: ")).map(|(_, value)| &value[..4]) {
        Some("0x02") => true,
        Some("0x00") => false,
        _ => panic!("the watchdog's register: {answer}"),
    }
}

fn status_is(vm: &Vm, status: &str) -> bool {
    vm.ask(r#"{"execute":"query-status"}"#).contains(&format!(r#""status": "{status}""#))
}

/// Checks that it runs. That cannot be asked at the very end: then the kernel's driver stops it.
pub fn check_armed(vm: &Vm) {
    assert!(is_armed(vm), "the watchdog does not run");
}

/// Waits for a machine to halt: nothing ends it, and no watchdog will. Then ends QEMU.
pub fn check_halted(vm: &Vm) {
    vm.wait_for("System halted");
    assert!(!is_armed(vm), "the watchdog runs, and nobody feeds it");
    assert!(!vm.has("watchdog did not stop"), "it was not the kernel's driver alone that stopped it");
    let began = Instant::now();
    vm.poll("halted all the time", |vm| {
        assert!(status_is(vm, "running"));
        began.elapsed() > STAYS
    });
    vm.ask(r#"{"execute":"quit"}"#);
}
