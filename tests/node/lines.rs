//! What init's lines must say.

use std::time::Duration;

use crate::gate::Scenario;
use crate::vm::Vm;

/// What degraded lines a boot is allowed: parts of them.
pub type Allowed = &'static [&'static str];

/// One of init's lines: `kios: [s.mmm] text`.
pub struct Line {
    /// Milliseconds since power-on.
    pub at: u64,
    /// What follows the time.
    pub text: String,
}

/// Reads a line; none where it is not init's, or not of that form to the letter.
pub fn parse(line: &str) -> Option<Line> {
    let (time, text) = line.strip_prefix("kios: [")?.split_once("] ")?;
    let (seconds, millis) = time.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(millis) || millis.len() != 3 || text.is_empty() {
        return None;
    }
    Some(Line { at: seconds.parse::<u64>().ok()? * 1_000 + millis.parse::<u64>().ok()?, text: text.into() })
}

/// All of init's lines among `lines`. Panics at one that begins like init's and is not of its form.
pub fn of_init(lines: &[String]) -> Vec<Line> {
    let own = lines.iter().filter(|line| line.starts_with("kios:"));
    own.map(|line| parse(line).unwrap_or_else(|| panic!("not of the form of init's lines: {line}"))).collect()
}

/// Checks that every boot step has its line, in order and in form, and that nothing degraded but what is allowed. Notes
/// the times.
pub fn check_boot(scenario: &Scenario, lines: &[String], allowed: Allowed) {
    let lines = of_init(lines);
    let names: Vec<_> = kios_init::boot::step_names().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names.len(), 12);
    let mut found = lines.iter().filter(|line| line.text.split(' ').next().is_some_and(|word| word.contains("/12")));
    let mut times = String::new();
    for (at, name) in (1..).zip(&names) {
        let line = found.next().unwrap_or_else(|| panic!("no line of step {at}, {name}"));
        let rest = line.text.strip_prefix(&format!("{at}/12 {name} "));
        let rest = rest.unwrap_or_else(|| panic!("not the line of step {at}, {name}: {}", line.text));
        let (micros, rest) = rest.split_once("us").expect("a time");
        let micros: u64 = micros.parse().expect("a time in microseconds");
        assert!(rest.is_empty() || rest.starts_with(" (degraded: "), "{}", line.text);
        times += &format!(" {name} {}.{}", micros / 1_000, micros / 100 % 10);
    }
    assert!(found.next().is_none(), "more steps than there are");
    check_degraded(&lines, allowed);
    let at = |text: &str| lines.iter().find(|line| line.text.starts_with(text)).map_or(0, |line| line.at);
    scenario.note(&format!("steps in ms:{times}"));
    let (first, started) = (lines[0].at, at("started containerd"));
    let (ready, kubelet) = (at("containerd ready"), at("kubelet ready"));
    scenario.note(&format!(
        "ms since power-on: first line {first}, containerd started {started} ({} after it), ready {ready}; kubelet \
         ready {kubelet}",
        started - first
    ));
}

/// Checks that what degraded is what was allowed, all of it.
fn check_degraded(lines: &[Line], allowed: Allowed) {
    let mut degraded = lines.iter().filter(|line| line.text.contains("(degraded")).collect::<Vec<_>>();
    for part in allowed {
        let before = degraded.len();
        degraded.retain(|line| !line.text.contains(part));
        assert!(degraded.len() < before, "nothing degraded with {part:?}");
    }
    let left: Vec<_> = degraded.iter().map(|line| &line.text).collect();
    assert!(left.is_empty(), "degraded: {left:?}");
}

/// Checks that lines with these texts came in this order.
pub fn check_order(lines: &[String], texts: &[&str]) {
    let mut rest = lines.iter();
    for text in texts {
        assert!(rest.any(|line| line.contains(text)), "no line {text:?} in its place of {texts:?}");
    }
}

/// Presses the power button, and checks that the machine ends in order; how long that took.
pub fn power_off(scenario: &Scenario, vm: &mut Vm) -> Duration {
    let from = vm.here();
    vm.press_power();
    let (status, _) = vm.end();
    let took = check_stop(scenario, &vm.lines()[from..], "power-off");
    assert_eq!(status, 0);
    took
}

/// Checks the lines of an ordered end; how long it took.
pub fn check_stop(scenario: &Scenario, lines: &[String], request: &str) -> Duration {
    let stopping = format!("stopping for {request}");
    let services = ["] pods ", "stopped kubelet", "stopped containerd"];
    let rest = ["] processes ", "] save ", "] unmount ", "] sync ", request];
    check_order(lines, &[&[stopping.as_str()][..], &services, &rest].concat());
    let own = of_init(lines);
    check_degraded(&own, &[]);
    let last = own.last().unwrap();
    assert_eq!(last.text, request);
    let began = own.iter().find(|line| line.text == stopping).unwrap().at;
    assert!(!own.iter().any(|line| line.text.contains("SIGKILL")), "a service had to be killed");
    let took = Duration::from_millis(last.at - began);
    let phases: Vec<_> = own.iter().filter(|line| line.text.ends_with("ms")).map(|line| line.text.as_str()).collect();
    scenario.note(&format!("{request} took {took:?}: {}", phases.join(", ")));
    took
}
