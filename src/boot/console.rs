//! The first descriptors, the console, and which signals reach PID 1.

use rustix::fd::AsFd;
use rustix::fs::{CWD, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use super::{Step, mounts};
use crate::error::{During, Result};
use crate::plan;
use crate::sys::{self, file, stdio};

/// Opens console, kernel log and /dev/null, blocks all signals, and takes Ctrl-Alt-Del from the kernel.
///
/// Where /dev/console cannot be opened, init's lines go to the standard output it was started with, if any, and to the
/// kernel's log.
pub fn open(step: &mut Step) -> Result<()> {
    sys::signal::block_all().during(c"block signals")?;
    stdio::reserve().during(c"open /")?;
    let mounted = mounts::mount(&plan::DEV);
    // Until the console is open, and instead of it where there is none.
    let inherited = stdio::install(stdio::get(1), stdio::CONSOLE, false).during(c"dup");
    let sink = |path, number| -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        let opened = file::open(CWD, path, flags).during(path)?;
        stdio::install(opened.as_fd(), number, false).during(path)
    };
    let kmsg = sink(c"/dev/kmsg", stdio::KMSG);
    let console = sink(c"/dev/console", stdio::CONSOLE);
    // Only now is there anywhere to say it.
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

fn null() -> Result<()> {
    let path = c"/dev/null";
    let null = file::open(CWD, path, OFlags::RDWR).during(path)?;
    for number in stdio::STANDARD {
        stdio::install(null.as_fd(), number, true).during(path)?;
    }
    Ok(())
}
