//! Making processes: clone3, execveat, and leaving.

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr::null;
use linux_raw_sys::general::{
    __NR_clone3, __NR_execveat, __NR_exit_group, __NR_ioprio_set, __NR_pidfd_open, __NR_prctl, __NR_prlimit64,
    __NR_process_mrelease, __NR_sched_setaffinity, __NR_sched_setattr, AT_EMPTY_PATH, RLIM_NLIMITS, SIGCHLD,
    clone_args,
};
use linux_raw_sys::prctl::{PR_GET_NAME, PR_SET_TIMERSLACK};
use rustix::fd::AsRawFd;
use rustix::io::{Errno, Result};
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

/// Most arguments, and most environment strings, that [`execute`] passes on.
pub const STRINGS_MAX: usize = 15;

/// A copy of this process, as fork(2) (clone3(2)). The child gets `None`. Errors: EAGAIN, ENOMEM.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: a clone_args is integers only; all zeroes asks for nothing.
    let mut arguments: clone_args = unsafe { core::mem::zeroed() };
    arguments.exit_signal = u64::from(SIGCHLD);
    // SAFETY: `arguments` has the size given. With neither CLONE_VM nor a stack the child is a copy with memory of its own,
    // and init has one thread, so no lock is held by a thread that is not copied.
    let answer = unsafe { syscall(__NR_clone3, [(&raw const arguments).expose_provenance(), size_of::<clone_args>()]) };
    Ok(i32::try_from(check(answer)?).ok().and_then(Pid::from_raw))
}

/// Replaces this process by the program open at `program`, with no path in it (execveat(2), AT_EMPTY_PATH). Returns only
/// the error. At most [`STRINGS_MAX`] strings of each list are passed on (plan.rs asserts that none is longer).
pub fn execute(program: &Fd, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let pointers = |strings: &[&CStr]| {
        let mut list = [null::<core::ffi::c_char>(); STRINGS_MAX + 1];
        for (slot, string) in list.iter_mut().take(STRINGS_MAX).zip(strings) {
            *slot = string.as_ptr();
        }
        list
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let call = [
        fd_argument(program.as_raw_fd()),
        c"".as_ptr().expose_provenance(),
        argv.as_ptr().expose_provenance(),
        envp.as_ptr().expose_provenance(),
        AT_EMPTY_PATH as usize,
    ];
    // SAFETY: both lists end with a null and hold pointers to NUL-terminated strings that outlive the call.
    match check(unsafe { syscall(__NR_execveat, call) }) {
        Ok(_) => Errno::INVAL,
        Err(errno) => errno,
    }
}

/// The beginning of this process's name: that of the file it was started from (prctl(2), PR_GET_NAME), not of an argument.
pub fn name() -> [u8; 8] {
    let mut name = [0; 16];
    let arguments = [PR_GET_NAME as usize, name.as_mut_ptr().expose_provenance()];
    // SAFETY: the kernel writes 16 bytes (TASK_COMM_LEN).
    unsafe { syscall(__NR_prctl, arguments) };
    let [a, b, c, d, e, f, g, h, ..] = name;
    [a, b, c, d, e, f, g, h]
}

/// Whether a child that was not reaped is dying or dead: its descriptors are closed some time before its end can be waited
/// for. Asked by process_mrelease(2), which refuses a process that nothing has killed with EINVAL and answers ESRCH for one
/// without memory (mm/oom_kill.c).
pub fn is_dying(child: Pid) -> bool {
    let number = child.as_raw_nonzero().get();
    // SAFETY: touches no memory.
    let opened = unsafe { syscall(__NR_pidfd_open, [fd_argument(number), 0]) };
    let Ok(child) = Fd::from_answer(opened) else { return false };
    // SAFETY: touches no memory of this process.
    let released = check(unsafe { syscall(__NR_process_mrelease, [fd_argument(child.as_raw_fd()), 0]) });
    matches!(released, Ok(_) | Err(Errno::SRCH))
}

/// Ends this process with `status`, without a destructor: what it holds is the kernel's to close.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: touches no memory; does not return.
        unsafe { syscall(__NR_exit_group, [usize::from(status)]) };
    }
}

/// Stops sharing root and working directory with the kernel's threads (unshare(2), CLONE_FS). Errors: ENOMEM.
pub fn unshare_root() -> Result<()> {
    // SAFETY: FILES is not among the flags, so no descriptor of another thread is lost.
    unsafe { unshare_unsafe(UnshareFlags::FS) }
}

/// A copy of the mount namespace for this process alone (unshare(2), CLONE_NEWNS). Errors: EPERM, ENOMEM, ENOSPC.
pub fn unshare_mounts() -> Result<()> {
    // SAFETY: FILES is not among the flags, so no descriptor of another thread is lost.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
}

/// `struct sched_attr` as of its first version (linux/sched/types.h): 48 bytes.
#[repr(C)]
struct Schedule {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// SCHED_DEADLINE's runtime, deadline, period.
    deadline: [u64; 3],
}
const_assert_eq!(size_of::<Schedule>(), 48);

/// Bytes of a set of processors: the kernel's largest has 8192.
const PROCESSORS: usize = 1024;
/// Nanoseconds by which timers may be late (init/init_task.c).
const TIMER_SLACK: usize = 50_000;

/// Lets this process run when, and on the processors, that the kernel gives its first process: SCHED_OTHER with nice 0, all of
/// them, no class of I/O, the usual timer slack. Errors: of sched_setattr(2), sched_setaffinity(2), ioprio_set(2).
pub fn usual_schedule() -> Result<()> {
    let schedule = Schedule { size: 48, policy: 0, flags: 0, nice: 0, priority: 0, deadline: [0; 3] };
    let processors = [0xffu8; PROCESSORS];
    let calls = [
        (__NR_sched_setattr, [0, (&raw const schedule).expose_provenance(), 0]),
        (__NR_sched_setaffinity, [0, PROCESSORS, processors.as_ptr().expose_provenance()]),
        // IOPRIO_WHO_PROCESS, this one, IOPRIO_CLASS_NONE.
        (__NR_ioprio_set, [1, 0, 0]),
        (__NR_prctl, [PR_SET_TIMERSLACK as usize, TIMER_SLACK, 0]),
    ];
    for (number, [first, second, third]) in calls {
        // SAFETY: what two of them read outlives the calls; the others touch no memory.
        check(unsafe { syscall(number, [first, second, third]) })?;
    }
    Ok(())
}

/// Sets this process's resource limits (prlimit(2)): for each number its soft and hard one, no limit for those that are not in
/// `limits`. Errors: of the last that failed, EPERM without CAP_SYS_RESOURCE.
pub fn limit(limits: &[(u32, u64, u64)]) -> Result<()> {
    let mut result = Ok(());
    for number in 0..RLIM_NLIMITS {
        let found = limits.iter().find(|(of, ..)| *of == number);
        let limit = found.map_or([u64::MAX; 2], |&(_, soft, hard)| [soft, hard]);
        let arguments = [0, number as usize, (&raw const limit).expose_provenance(), 0];
        // SAFETY: `limit` is a struct rlimit64 (linux/resource.h), and outlives the call.
        if let Err(errno) = check(unsafe { syscall(__NR_prlimit64, arguments) }) {
            result = Err(errno);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::is_dying;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    use std::process::Command;

    #[test]
    fn a_child_is_dying_from_its_end_until_it_is_reaped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        assert!(!is_dying(pid));
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
        assert!(!is_dying(pid));
        child.kill().unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(is_dying(pid));
        child.wait().unwrap();
        assert!(!is_dying(pid));
    }
}
