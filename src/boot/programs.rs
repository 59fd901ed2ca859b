//! The services' programs and configuration, opened before anything else runs and held for ever.
//!
//! A service starts and restarts from these descriptors: what lies at a path by then does not matter. The program's is
//! close-on-exec, so that a binfmt_misc handler gets ENOENT instead of a descriptor, and never runs in its place.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, OFlags};

use super::Step;
use crate::error::{During, Error, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::sys::text::{Text, t};

/// One service's files; each is missing where it could not be opened.
#[derive(Default)]
pub struct Files {
    /// The program.
    pub program: Option<Fd>,
    /// Its configuration file.
    pub config: Option<Fd>,
}

/// The files of all services.
#[derive(Default)]
pub struct Programs {
    /// A detached mount of the root image for each service; the root itself where there is no image.
    pub bases: [Option<Fd>; plan::SERVICES.len()],
    /// By index into [`plan::SERVICES`].
    pub files: [Files; plan::SERVICES.len()],
}

/// Opens them. A service whose program is missing is tried again and again by the main loop, which says so each time.
pub fn open(step: &mut Step, programs: &mut Programs) -> Result<()> {
    let places = programs.files.iter_mut().zip(&mut programs.bases);
    for (service, (files, base)) in plan::SERVICES.iter().zip(places) {
        // Dropped at the end: the files keep their mount.
        let base = base.take();
        let base = base.as_ref().map_or(CWD, Fd::as_fd);
        let path = OFlags::PATH | OFlags::NOFOLLOW;
        files.program = step.check(open_one(base, service.program, path));
        let read = OFlags::RDONLY | OFlags::NOFOLLOW;
        files.config = step.check(open_one(base, service.config, read));
    }
    Ok(())
}

fn open_one(base: BorrowedFd<'_>, path: Text, flags: OFlags) -> Result<Fd> {
    file::open(base, path.get(), flags).during(path)
}

impl Programs {
    /// The program and configuration of a service. Errors: ENOENT for what could not be opened at boot.
    pub fn of(&self, service: usize) -> Result<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        let missing = |object: Text| Error::new(object, rustix::io::Errno::NOENT);
        let plan = plan::SERVICES.get(service).ok_or(missing(t(c"")))?;
        let files = self.files.get(service).ok_or(missing(t(c"")))?;
        let program = files.program.as_ref().ok_or(missing(plan.program))?;
        let config = files.config.as_ref().ok_or(missing(plan.config))?;
        Ok((program.as_fd(), config.as_fd()))
    }
}
