//! The first descriptors, the console, and which signals reach PID 1.

use core::ffi::CStr;
use rustix::fd::AsFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::read;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use super::{Step, mounts};
use crate::error::{During, Result};
use crate::sys::stdio::{self, Fixed};
use crate::sys::text::Path;
use crate::sys::{self, file};
use crate::{log, plan};

/// Opens console, kernel log and /dev/null, blocks all signals, and takes Ctrl-Alt-Del from the kernel.
///
/// Where /dev/console cannot be opened, init's lines go to the standard output it was started with, if any, and to the
/// kernel's log.
pub fn open(step: &mut Step) -> Result<()> {
    sys::signal::block_all().during(c"block signals")?;
    stdio::reserve().during(c"open /")?;
    let pipe = log::open();
    let mounted = mounts::mount(&plan::DEV);
    // Until the console is open, and instead of it where there is none.
    let inherited = stdio::install(stdio::get(Fixed::Output), Fixed::Console, false).during(c"dup");
    let kmsg = sink(c"/dev/kmsg", Fixed::Kmsg);
    let console = sink(c"/dev/console", Fixed::Console);
    // Only now is there anywhere to say it.
    step.check(pipe);
    step.check(inherited);
    let own = step.check(mounted).is_some();
    step.check(kmsg);
    step.check(console);
    step.check(null());
    // The root's own /dev is mounted later; this one would stay in the initramfs for ever.
    if own {
        step.check(unmount(plan::DEV.target.get(), UnmountFlags::DETACH).during(c"unmount /dev"));
    }
    step.check(sys::log_level(plan::CONSOLE_LEVEL).during(c"set console level"));
    step.check(reboot(RebootCommand::CadOff).during(c"take Ctrl-Alt-Del"));
    Ok(())
}

/// Opens `path` for init's lines. Non-blocking: a stopped terminal loses lines.
fn sink(path: &'static CStr, fixed: Fixed) -> Result<()> {
    install(path, fixed).during(path)
}

fn install(path: &CStr, fixed: Fixed) -> rustix::io::Result<()> {
    let opened = file::open(CWD, path, OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK)?;
    stdio::install(opened.as_fd(), fixed, false)
}

/// Goes from /dev/console to the terminal behind it, as soon as /sys tells its name. A pod can redirect /dev/console to a
/// terminal of its own (TIOCCONS), which then blocks whoever writes, non-blocking or not. Where there is no such terminal,
/// /dev/console stays.
pub fn leave_redirection() {
    let mut bytes = [0; 64];
    let Ok(list) = file::open(CWD, c"/sys/class/tty/console/active", OFlags::RDONLY) else { return };
    let got = read(&list, &mut bytes).unwrap_or(0);
    // The last is /dev/console (drivers/tty/tty_io.c, show_cons_active).
    let name = bytes.get(..got).unwrap_or(&[]).split(|byte| byte.is_ascii_whitespace()).rfind(|name| !name.is_empty());
    let mut path = Path::new();
    path.set(&[b"/dev/", name.unwrap_or(&[])]);
    let _ = install(path.get(), Fixed::Console);
}

fn null() -> Result<()> {
    let path = c"/dev/null";
    let null = file::open(CWD, path, OFlags::RDWR).during(path)?;
    for fixed in [Fixed::Input, Fixed::Output, Fixed::Error] {
        stdio::install(null.as_fd(), fixed, true).during(path)?;
    }
    Ok(())
}
