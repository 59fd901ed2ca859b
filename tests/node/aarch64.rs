//! The same on the other kind of processor, emulated: from power-on to the pods, and off by the power button.

use crate::gate::scenario;
use crate::lines::{check_boot, power_off};
use crate::vm::boot;

#[test]
fn aarch64_from_power_on_to_pods_to_off() {
    scenario("aarch64_from_power_on_to_pods_to_off", 1, |scenario| {
        let mut vm = boot(scenario).option("--arch", "aarch64").start();
        vm.wait_up();
        vm.wait_for("container-a: hello 1");
        vm.wait_for("dhcpcd: bound eth0 10.0.2.15/24");
        check_boot(scenario, &vm.lines(), &[]);
        assert!(!vm.lines().iter().any(|line| line.contains("exited with")));
        power_off(scenario, &mut vm);
    });
}
