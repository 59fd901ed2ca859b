//! The services' programs and configuration.
//!
//! The root image's file is held open, and no path leads to it. Each start takes a service's files from a mount of the image
//! for itself alone, with inodes that nobody met before: what a pod does to those of a service that runs (uprobes, whose
//! counters write to its memory; fanotify marks) is not done to the next one. What lies at a path does not matter. In the
//! service's process, since a mark on the file system of the image's file could hold the opening.
//!
//! The program's descriptor is close-on-exec, so that a binfmt_misc handler gets ENOENT instead of a descriptor, and never
//! runs in its place.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, OFlags};

use super::{Step, root};
use crate::error::{During, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::sys::text::Text;

/// Where the services' files are.
#[derive(Default)]
pub struct Programs {
    /// Whether the root image is held, at [`plan::IMAGE_HELD`].
    pub image: bool,
    /// Whether that is in a partition: then nobody may load another table into the mapping that it is read through.
    pub on_disk: bool,
    /// Where it is not, by index into [`plan::SERVICES`]: the root's own, as they were at boot.
    held: [Option<Files>; plan::SERVICES.len()],
}

/// One service's files.
pub struct Files {
    /// The program.
    pub program: Fd,
    /// Its configuration files.
    pub configs: [Fd; 2],
}

/// Looks whether they are there. A service whose program is missing is tried again and again by the main loop all the same.
pub fn check(step: &mut Step, programs: &mut Programs) -> Result<()> {
    for (service, held) in plan::SERVICES.iter().zip(&mut programs.held) {
        let files = step.check(open(programs.image, service));
        if !programs.image {
            *held = files;
        }
    }
    Ok(())
}

impl Programs {
    /// The files of service `index`, opened into `space` unless they are held. Errors: of mounting the image; of open(2).
    pub fn of<'a>(&'a self, index: usize, service: &plan::Service, space: &'a mut Option<Files>) -> Result<&'a Files> {
        match self.held.get(index) {
            Some(Some(files)) => Ok(files),
            _ => Ok(space.insert(open(self.image, service)?)),
        }
    }
}

fn open(image: bool, service: &plan::Service) -> Result<Files> {
    // Dropped at the end: the files keep their mount.
    let base = if image { Some(root::erofs(plan::IMAGE_HELD)?) } else { None };
    let base = base.as_ref().map_or(CWD, Fd::as_fd);
    let [alone, in_cluster] = service.configs.map(|config| open_one(base, config, OFlags::RDONLY));
    Ok(Files { program: open_one(base, service.program, OFlags::PATH)?, configs: [alone?, in_cluster?] })
}

fn open_one(base: BorrowedFd<'_>, path: Text, flags: OFlags) -> Result<Fd> {
    file::open(base, path.get(), flags | OFlags::NOFOLLOW).during(path)
}
