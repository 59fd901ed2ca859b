//! Kernel modules, in the order written when the image was built: nothing looks for dependencies at run time.

use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, OFlags, unlinkat};
use rustix::io::{Errno, read};
use rustix::system::finit_module;

use super::formats::module_names;
use super::{Step, kernel};
use crate::error::{During, Error, Result};
use crate::plan::{self, Modules};
use crate::report;
use crate::sys::fd::Fd;
use crate::sys::text::Path;
use crate::sys::{file, process, signal, watchdog};

/// What became of a list.
#[derive(Default)]
struct Count {
    loaded: u32,
    /// Of the first module that failed.
    errno: Option<Errno>,
}

/// Loads what mounting the root image needs. A root in the initramfs' own files may come with no list.
pub fn load_root(step: &mut Step) {
    match load_list(&plan::ROOT_MODULES) {
        Err(error) if error.errno == Errno::NOENT => {}
        result => finish(step, result),
    }
}

/// Loads what the next steps and containerd's start need, and beside that the drivers of other disks, which have found
/// theirs by the end; opens the hardware watchdog whose driver is among it. Errors: of pipe2(2), fork(2).
pub fn load(step: &mut Step, watchdog: &mut Option<Fd>) -> Result<()> {
    let others = load_beside()?;
    finish(step, load_list(&plan::EARLY_MODULES));
    // A machine without one says nothing of it.
    let mut path = Path::new();
    *watchdog = (b'0'..=b'9').find_map(|digit| {
        path.set(&[plan::WATCHDOG, &[digit]]);
        file::open(CWD, path.get(), OFlags::WRONLY).ok()
    });
    if let Some(device) = watchdog {
        watchdog::set_timeout(device, plan::WATCHDOG_BOOT);
    }
    if !file::ready(others.as_fd(), PollFlags::IN, plan::STORAGE_LIMIT) {
        step.degrade(Error::new(c"disk drivers", Errno::TIMEDOUT));
    }
    Ok(())
}

/// Loads drivers of disks, then the rest, in a child, which ends when it is done. It stays outside init's cgroup, which
/// goes before the services'; what it does must not. Returns what hangs up once the drivers are loaded. Errors: of
/// pipe2(2), fork(2).
fn load_beside() -> Result<Fd> {
    let (loaded, loading) = file::pipe().during(c"pipe")?;
    if process::fork().during(c"fork")?.is_some() {
        return Ok(loaded);
    }
    // A stop ends it by SIGTERM; nobody reads its signals.
    let _ = signal::unblock_all();
    // Those that failed have lines of their own, here and below.
    let _ = load_list(&plan::STORAGE_MODULES);
    drop(loading);
    let result = load_list(&plan::LATE_MODULES);
    let mut line = report::line();
    line.text(c"late modules: ");
    match &result {
        Ok(count) => line.number(count.loaded.into()).text(c" loaded"),
        Err(error) => line.error(error).text(c" (degraded)"),
    }
    .send();
    // What fails is said there.
    let _ = kernel::write_settings(plan::LATE_SYSCTLS);
    process::exit(0)
}

fn finish(step: &mut Step, result: Result<Count>) {
    if let Some(Count { errno: Some(errno), .. }) = step.check(result) {
        step.degrade(Error::new(c"load modules", errno));
    }
}

/// Loads the modules of a list; each that fails gets a line. Errors: no list.
fn load_list(modules: &Modules) -> Result<Count> {
    let directory = file::open(CWD, modules.directory, OFlags::PATH | OFlags::DIRECTORY).during(c"modules")?;
    let directory = directory.as_fd();
    let list = file::open(directory, modules.list, OFlags::RDONLY).during(c"module list")?;
    let mut bytes = [0; plan::MODULE_LIST_BYTES];
    let got = read(&list, &mut bytes).during(c"module list")?;
    let mut count = Count::default();
    let mut path = Path::new();
    for name in module_names(bytes.get(..got).unwrap_or(&[])) {
        path.set(&[name]);
        let module = file::open(directory, path.get(), OFlags::RDONLY);
        match module.and_then(|file| finit_module(&file, c"", 0)) {
            // Loaded before, or built in.
            Ok(()) | Err(Errno::EXIST) => count.loaded += 1,
            // A driver that found none of its devices.
            Err(Errno::NODEV) => {}
            Err(errno) => {
                count.errno.get_or_insert(errno);
                report::failed(name, errno);
            }
        }
        if modules.once {
            let _ = unlinkat(directory, path.get(), AtFlags::empty());
        }
    }
    Ok(count)
}
