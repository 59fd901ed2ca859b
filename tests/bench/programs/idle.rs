//! The one child of an init that is measured: says that it is ready where it is told whom (sd_notify(3)), gives signs of life,
//! and stays.

#[path = "../../common/answer.rs"]
mod answer;

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use kios_init::plan;

/// Less than the silence that is taken for an end (src/plan.rs, SILENCE_LIMIT).
const EVERY: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let socket = UnixDatagram::unbound().context("socket")?;
        let is_asked = std::env::args().next().is_some_and(|name| name.ends_with("containerd"));
        if is_asked {
            answer()?;
        }
        socket.send_to(b"READY=1", &path).context("READY=1")?;
        if !is_asked {
            loop {
                thread::sleep(EVERY);
                socket.send_to(b"WATCHDOG=1", &path).context("WATCHDOG=1")?;
            }
        }
    }
    loop {
        nix::unistd::pause();
    }
}

/// Answers as containerd does when it is asked for a sign of life.
fn answer() -> Result<()> {
    let path = Path::new(plan::CONTAINERD_SOCKET.to_str().context("path")?);
    std::fs::create_dir_all(path.parent().context("directory")?).context("make directory")?;
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).context("bind")?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever asks has ended where this fails.
            let _ = stream.read(&mut [0; 512]).and_then(|_| stream.write_all(answer::ANSWER));
        }
    });
    Ok(())
}
