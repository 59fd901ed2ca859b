//! Who the machine is: host name, loopback, and what the root image's links lead to.

use rustix::fs::{CWD, Mode, OFlags, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::system::sethostname;

use super::Step;
use crate::error::{During, Error, Result};
use crate::plan;
use crate::sys::{file, net};

/// Sets them.
pub fn set(step: &mut Step) -> Result<()> {
    step.check(sethostname(plan::HOSTNAME.to_bytes()).during(c"set host name"));
    step.check(net::loopback_up().during(c"bring up lo"));
    for &(target, link) in plan::LINKS {
        match symlinkat(target.get(), CWD, link.get()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => step.degrade(Error::new(link, errno)),
        }
    }
    step.check(mkdirat(CWD, plan::RESOLV, Mode::from_raw_mode(0o755)).during(plan::RESOLV));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
    let made = file::create(CWD, plan::RESOLV_CONF, flags, Mode::from_raw_mode(0o644));
    step.check(made.during(plan::RESOLV_CONF));
    Ok(())
}
