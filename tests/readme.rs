//! README says what plan.rs does: each list there is the plan's, in the plan's order.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use kios_init::sys::text::Text;
use kios_init::{boot, plan};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

fn text(text: Text) -> &'static str {
    text.get().to_str().unwrap()
}

/// The words between `<!-- name -->` and `<!-- end -->`.
fn list(name: &str) -> Vec<String> {
    let readme = readme();
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->")).unwrap_or_else(|| panic!("no list {name}"));
    let (list, _) = rest.split_once("<!-- end -->").unwrap();
    list.split_whitespace().map(String::from).collect()
}

#[test]
fn steps_are_the_boots() {
    let readme = readme();
    let mut told = Vec::new();
    for line in readme.lines() {
        if let Some((number, rest)) = line.split_once(". `")
            && number.parse::<usize>().is_ok_and(|number| number == told.len() + 1)
        {
            told.push(rest.split_once('`').unwrap().0.to_owned());
        }
    }
    let done: Vec<_> = boot::step_names().map(|name| name.to_str().unwrap().to_owned()).collect();
    assert_eq!(told, done);
    assert!(readme.contains(&format!("n/{} name", done.len())));
}

#[test]
fn mounts_are_the_plans() {
    let done: Vec<_> =
        plan::MOUNTS.iter().map(|mount| format!("{} on {}", text(mount.kind), text(mount.target))).collect();
    assert_eq!(list("mounts").join(" "), done.join(", "));
}

#[test]
fn kernel_settings_are_the_plans() {
    let settings = [plan::SYSCTLS, plan::LATE_SYSCTLS].concat();
    let done: Vec<_> = settings.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let done: Vec<_> = done.into_iter().map(String::from_utf8_lossy).collect();
    assert_eq!(list("sysctls"), done);
}

#[test]
fn command_lines_and_limits_are_the_plans() {
    let readme = readme();
    for service in &plan::SERVICES {
        let words: Vec<_> = service.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        assert!(readme.contains(&format!("    {}\n", words.join(" "))), "{words:?}");
    }
    assert!(readme.contains(&format!("not ready in {} s", plan::START_LIMIT / 1_000)));
    let (first, last, stable) = (plan::BACK_OFF_FIRST, plan::BACK_OFF_LAST / 1_000, plan::STABLE / 1_000);
    assert!(readme.contains(&format!("again after {first} ms, doubling to {last} s, for ever; after {stable} s")));
    assert!(readme.contains(&format!("restarts after {} s", plan::FATAL_PAUSE / 1_000)));
    assert!(readme.contains(&format!("Given up after {} s,", plan::PODS_LIMIT / 1_000)));
    assert!(readme.contains(&format!("SIGTERM, and after {} s SIGKILL", plan::STOP_LIMIT / 1_000)));
    assert!(readme.contains(&format!("SIGTERM, and after {} s by SIGKILL", plan::TERM_LIMIT / 1_000)));
    assert!(readme.contains(&format!("limits together are {} s", plan::STOP_SUM / 1_000)));
    assert!(readme.contains(&format!("device's time-out: {} s,", plan::WATCHDOG_RUN)));
    assert_eq!((plan::WATCHDOG_FEEDS, plan::LOG_FILES, plan::LOG_BYTES), (4, 3, 8 << 20));
    assert!(readme.contains(&format!("no sign of life for {} s", plan::SILENCE_LIMIT / 1_000)));
    assert!(readme.contains(&format!("asks it every {} s", plan::ASK_PAUSE / 1_000)));
    assert!(readme.contains(&format!("with a line every {} s", plan::START_TELL / 1_000)));
    assert!(readme.contains(&format!("into their log), killed {} s\nlater", plan::ABORT_LIMIT / 1_000)));
    assert!(readme.contains(&format!("time-out is then\n{} s", plan::WATCHDOG_STOP)));
    let host = std::str::from_utf8(plan::HOSTNAME).unwrap();
    assert!(readme.contains(&format!("host name `{host}` with 8 digits by that id")));
    assert!(readme.contains(&format!(
        "it is waited for until {} s after power-on, or {} s;",
        plan::DATA_BY / 1_000,
        plan::DATA_WITHIN / 1_000
    )));
    let text = |text: kios_init::sys::text::Text| text.get().to_str().unwrap();
    for (name, argument) in [
        (plan::ADDRESSES_INPUT, plan::ADDRESSES_ARGUMENT),
        (plan::LABELS_INPUT, plan::LABELS_ARGUMENT),
        (plan::NAME_INPUT, plan::NAME_ARGUMENT),
    ] {
        let argument = std::str::from_utf8(argument).unwrap().trim_end_matches('=');
        assert!(readme.contains(&format!("| `{}` | `{argument}` |", text(name))), "{argument}");
    }
    for input in plan::KUBECONFIGS {
        let argument = input.arguments.first().unwrap().to_str().unwrap().split('=').next().unwrap();
        assert!(readme.contains(&format!("| `{}` | `{argument}` |", text(input.name))), "{argument}");
    }
    let label = std::str::from_utf8(plan::DATA_LABEL).unwrap();
    assert!(readme.contains(&format!("mkfs.ext4 -L {label} ")));
}
