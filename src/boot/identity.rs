//! Who the machine is: host name, loopback, and the links and files that the root image's links lead to.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::system::sethostname;

use super::{Step, mounts};
use crate::error::{During, Result};
use crate::plan;
use crate::sys::text::Text;
use crate::sys::{file, net};

/// Sets them.
pub fn set(step: &mut Step) -> Result<()> {
    step.check(sethostname(plan::HOSTNAME.to_bytes()).during(c"set host name"));
    step.check(net::loopback_up().during(c"bring up lo"));
    for &(target, link) in plan::LINKS {
        step.check(mounts::link_once(target, link));
    }
    for &path in plan::EMPTY_FILES {
        step.check(create(path));
    }
    Ok(())
}

fn create(path: Text) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
    file::create(CWD, path.get(), flags, Mode::from_raw_mode(0o644)).during(path).map(|_| ())
}
