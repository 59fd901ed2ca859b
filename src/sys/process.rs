//! Making processes: clone3, execveat, and leaving.

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr::null;
use linux_raw_sys::general::{
    __NR_clone3, __NR_execveat, __NR_exit_group, __NR_prctl, AT_EMPTY_PATH, CLONE_INTO_CGROUP, SIGCHLD, clone_args,
};
use linux_raw_sys::prctl::PR_GET_NAME;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::{Errno, Result};
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::arch::syscall;
use super::{check, fd_argument};

/// Most arguments, and most environment strings, that [`execute`] passes on.
pub const STRINGS_MAX: usize = 15;

/// A copy of this process, as fork(2), but in `cgroup` from its first instruction (clone3(2), CLONE_INTO_CGROUP) where one
/// is given. The child gets `None`. Errors: EAGAIN, ENOMEM; EBUSY, EOPNOTSUPP, EINVAL for the cgroup.
pub fn fork(cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Pid>> {
    // SAFETY: a clone_args is integers only; all zeroes asks for nothing.
    let mut arguments: clone_args = unsafe { core::mem::zeroed() };
    arguments.exit_signal = u64::from(SIGCHLD);
    if let Some(cgroup) = cgroup {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = fd_argument(cgroup.as_raw_fd()) as u64;
    }
    // SAFETY: `arguments` has the size given. With neither CLONE_VM nor a stack the child is a copy with memory of its own,
    // and init has one thread, so no lock is held by a thread that is not copied.
    let answer = unsafe {
        syscall(__NR_clone3, [(&raw const arguments).expose_provenance(), size_of::<clone_args>(), 0, 0, 0, 0])
    };
    Ok(i32::try_from(check(answer)?).ok().and_then(Pid::from_raw))
}

/// Replaces this process by the program open at `program`, with no path in it (execveat(2), AT_EMPTY_PATH). Returns only
/// the error. At most [`STRINGS_MAX`] strings of each list are passed on (plan.rs asserts that none is longer).
pub fn execute(program: BorrowedFd<'_>, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
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
        0,
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
    let arguments = [PR_GET_NAME as usize, name.as_mut_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: the kernel writes 16 bytes (TASK_COMM_LEN).
    unsafe { syscall(__NR_prctl, arguments) };
    let [a, b, c, d, e, f, g, h, ..] = name;
    [a, b, c, d, e, f, g, h]
}

/// Ends this process with `status`, without a destructor: what it holds is the kernel's to close.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: touches no memory; does not return.
        unsafe { syscall(__NR_exit_group, [usize::from(status), 0, 0, 0, 0, 0]) };
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
