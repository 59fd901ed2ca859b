//! Runs init as process 1 of new namespaces over a prepared root directory.
//!
//! `launch ROOT CGROUP HOST=PLACE… -- ARGUMENT…`: CGROUP is the cgroup.procs file to enter, or `-`; each HOST is bound to
//! PLACE below ROOT; init is ROOT/init, and gets the arguments and this process's environment. The first line printed is
//! init's process id. Ends with 128 + the signal that ended init.
//!
//! Root of the user namespace is an unprivileged user outside it. Were it the machine's root, init's kernel settings would
//! be the test machine's: the kernel asks for the owner of /proc/sys/kernel/…, not for a capability.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{Read, Write, pipe};

use kios_init::plan;
use kios_init::sys::process;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, chdir, chroot, execve, getpid, setgroups, setresgid, setresuid};

use super::{fail, fork_when_possible, leave, put};

/// User and group ids of the namespace: (first inside, first outside, number).
const IDS: &str = "0 100000 65536";

/// As the module says.
pub fn launch(arguments: &[String]) -> ! {
    let [root, cgroup, rest @ ..] = arguments else { fail("launch", "too few arguments") };
    let mut parts = rest.split(|argument| argument == "--");
    let (Some(binds), Some(init)) = (parts.next(), parts.next()) else { fail("launch", "no --") };
    check("die with the test", set_pdeathsig(Signal::SIGKILL));
    let cgroup = (cgroup != "-").then(|| check(cgroup, OpenOptions::new().write(true).open(cgroup)));
    // A service's limits and score need the machine's CAP_SYS_RESOURCE, unless they were allowed before. The score is
    // written again in the namespace, where that no longer moves its lower bound. Where this process lacks the capability
    // too, init has to do without.
    let _ = process::limit(&plan::LIMITS);
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    enter_user_namespace();

    let (mut go, announced) = check("pipe", pipe());
    match fork_when_possible() {
        ForkResult::Child => {
            // Init's first line comes after its process id.
            let _ = check("wait for launcher", go.read(&mut [0]));
            if let Some(mut cgroup) = cgroup {
                check("enter cgroup", cgroup.write_all(b"0"));
            }
            become_init(root, binds, init)
        }
        ForkResult::Parent { child } => {
            println!("{child}");
            check("let init go", (&announced).write_all(b"."));
            match waitpid(child, None) {
                Ok(WaitStatus::Signaled(_, signal, _)) => std::process::exit(128 + signal as i32),
                Ok(WaitStatus::Exited(_, status)) => std::process::exit(status),
                other => fail("init", format_args!("{other:?}")),
            }
        }
    }
}

/// Makes the user namespace, and the process id namespace of the next child. Its ids are mapped by a child that stays
/// outside, where it may.
fn enter_user_namespace() {
    let launcher = getpid();
    let (mut made, tell) = check("pipe", pipe());
    match fork_when_possible() {
        ForkResult::Child => {
            drop(tell);
            if made.read(&mut [0]).is_ok_and(|got| got == 1) {
                put(&format!("/proc/{launcher}/uid_map"), IDS);
                put(&format!("/proc/{launcher}/gid_map"), IDS);
            }
            leave()
        }
        ForkResult::Parent { child } => {
            check("make user namespace", unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID));
            check("tell the mapper", (&tell).write_all(b"."));
            check("map ids", waitpid(child, None));
        }
    }
}

fn become_init(root: &str, binds: &[String], init: &[String]) -> ! {
    put("/proc/self/oom_score_adj", "0");
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC;
    check("make namespaces", unshare(namespaces));
    let none: Option<&str> = None;
    check("make mounts private", mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none));
    let bind = |host: &str, place: &str| {
        check(place, mount(Some(host), place, none, MsFlags::MS_BIND | MsFlags::MS_REC, none));
    };
    bind(root, root);
    for pair in binds {
        let Some((host, place)) = pair.split_once('=') else { fail(pair, "is no bind") };
        bind(host, &format!("{root}{place}"));
    }
    // The machine's /proc and /sys stay mounted outside this root: without one in sight the kernel refuses init its own.
    check(root, chdir(root));
    check("chroot", chroot("."));
    check("drop groups", setgroups(&[]));
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    check("become the namespace's root group", setresgid(group, group, group));
    check("become the namespace's root", setresuid(user, user, user));
    check("die with the launcher", set_pdeathsig(Signal::SIGKILL));
    // The kernel starts process 1 with none but the console, whatever this process got from who ran the tests.
    // SAFETY: marks descriptors that nothing here uses again.
    let closed = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    check("close descriptors", Errno::result(closed));
    // Nor does it ignore a signal for it; a shell does for what it runs in the background.
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: installs no handler.
        check("default signals", unsafe { signal(number, SigHandler::SigDfl) });
    }
    let strings = |list: Vec<String>| list.into_iter().map(|text| CString::new(text).unwrap()).collect::<Vec<_>>();
    let environment = strings(std::env::vars().map(|(name, value)| format!("{name}={value}")).collect());
    let Err(error) = execve(c"/init", &strings(init.to_vec()), &environment);
    fail("init", error)
}

fn check<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| fail(what, error))
}
