//! What scripts/bench.sh runs. Prints a Markdown table; what it is doing goes to standard error.

mod boot;
mod calls;
mod cgroup;
mod child;
mod elf;
mod growth;
mod init;
mod launch;
#[path = "../../common/layout.rs"]
mod layout;
mod node;
mod orphans;
mod peers;
mod plot;
mod process;
mod root;
mod table;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    if let Err(error) = bench() {
        eprintln!("bench: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn bench() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["init", debian, programs, work, rounds] => {
            let places = root::Places { debian: debian.into(), programs: programs.into(), work: work.into() };
            init::run(&places, rounds.parse().context("number of rounds")?)
        }
        ["growth", script, programs, work, rounds] => {
            let places = root::Places { debian: "".into(), programs: programs.into(), work: work.into() };
            growth::run(&places, script.as_ref(), rounds.parse().context("number of rounds")?)
        }
        ["node", script, work, rounds, counted, plot] => {
            let clock = if counted.is_empty() { boot::Clock::Host } else { boot::Clock::Instructions };
            node::run(script.as_ref(), work.as_ref(), rounds.parse().context("number of rounds")?, clock, plot)
        }
        _ => bail!(
            "usage: bench init DEBIAN PROGRAMS WORK ROUNDS | growth SCRIPT PROGRAMS WORK ROUNDS | node SCRIPT WORK ROUNDS COUNTED PLOT; scripts/bench.sh gives these"
        ),
    }
}
