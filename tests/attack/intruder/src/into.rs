//! Ways into another process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::{errno, say};

/// An address that a process may have or not: access is checked before that.
const ADDRESS: usize = 0x40_0000;

/// Tries them all. The last changes this process.
pub fn all(pid: Pid) -> nix::Result<()> {
    files(pid);
    calls(pid)
}

fn files(pid: Pid) {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let to = |result: io::Result<()>| result.map_err(|error| errno(&error));
    for name in ["environ", "maps", "auxv", "stack", "syscall", "io", "smaps", "pagemap", "personality"] {
        say(name, to(File::open(path(name)).and_then(|mut file| file.read(&mut [0; 8]).map(drop))));
    }
    for name in ["root", "cwd", "exe", "fd/0", "ns/mnt", "ns/pid"] {
        say(name, to(fs::read_link(path(name)).map(drop)));
    }
    // Root may list the numbers of descriptors; what they lead to is another matter.
    say("fd/0 bytes", to(File::open(path("fd/0")).map(drop)));
    say("fdinfo", to(first(&path("fdinfo"))));
    say("map_files", to(first(&path("map_files"))));
    say("root/", to(first(&path("root/"))));
    say("exe bytes", to(File::open(path("exe")).map(drop)));
    say("mem for reading", to(File::open(path("mem")).map(drop)));
    say("mem for writing", to(OpenOptions::new().write(true).open(path("mem")).map(drop)));
    say("ns/mnt for setns", to(File::open(path("ns/mnt")).map(drop)));
}

/// Reads the first entry of a directory: opening one may be free.
fn first(directory: &str) -> io::Result<()> {
    fs::read_dir(directory)?.next().ok_or(io::ErrorKind::NotFound)?.map(drop)
}

fn calls(pid: Pid) -> nix::Result<()> {
    // The access was granted where the address is what is wrong.
    let granted = |result: nix::Result<usize>| if result == Err(Errno::EFAULT) { Ok(0) } else { result };
    let remote = [RemoteIoVec { base: ADDRESS, len: 1 }];
    let mut byte = [0u8];
    say("process_vm_readv", granted(process_vm_readv(pid, &mut [IoSliceMut::new(&mut byte)], &remote)));
    // Where nobody has memory.
    let nowhere = [RemoteIoVec { base: 8, len: 1 }];
    let allowed = process_vm_writev(pid, &[IoSlice::new(&byte)], &nowhere);
    say("process_vm_writev", granted(allowed));
    // SAFETY: each call is given live memory of ours, or an address that is only the other process's.
    unsafe {
        let pidfd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        say("pidfd_getfd", Errno::result(libc::syscall(libc::SYS_pidfd_getfd, pidfd, 0, 0)));
        let range = [ADDRESS, 0x1000];
        // MADV_COLD.
        let advised = libc::syscall(libc::SYS_process_madvise, pidfd, range.as_ptr(), 1usize, 20, 0);
        say("process_madvise", Errno::result(advised));
        say("kcmp", Errno::result(libc::syscall(libc::SYS_kcmp, std::process::id(), pid.as_raw(), 0, 0, 0)));
        say("perf_event_open", Errno::result(watch(pid)));
        say("get_robust_list", robust_list(pid));
        say("move_pages", Errno::result(libc::syscall(libc::SYS_move_pages, pid.as_raw(), 0, 0, 0, 0, 0)));
        say("migrate_pages", Errno::result(libc::syscall(libc::SYS_migrate_pages, pid.as_raw(), 64, &1u64, &1u64)));
        say(
            "ptrace attach",
            ptrace::attach(pid).map(|()| {
                let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
                let _ = ptrace::detach(pid, None);
            }),
        );
        say("ptrace seize", ptrace::seize(pid, ptrace::Options::empty()));
        unshare(CloneFlags::CLONE_FS)?;
        say("pidfd setns", Errno::result(libc::setns(pidfd as i32, libc::CLONE_NEWNS)));
    }
    Ok(())
}

/// A counter of the process's page faults.
fn watch(pid: Pid) -> i64 {
    // struct perf_event_attr, first version: type, size, config; PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS.
    let mut attributes = [0u64; 8];
    attributes[0] = 64 << 32 | 1;
    attributes[1] = 2;
    // SAFETY: the kernel reads 64 bytes.
    unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), pid.as_raw(), -1, -1, 0) }
}

fn robust_list(pid: Pid) -> nix::Result<i64> {
    let (mut head, mut length) = (0usize, 0usize);
    // SAFETY: the kernel writes two words.
    Errno::result(unsafe { libc::syscall(libc::SYS_get_robust_list, pid.as_raw(), &mut head, &mut length) })
}
