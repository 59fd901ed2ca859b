//! Landlock scope domains (landlock(7), linux/landlock.h): a domain that restricts nothing in the file system or network,
//! only keeps its members from looking into, tracing or connecting to what is outside it.

use core::mem::size_of;
use linux_raw_sys::general::{__NR_landlock_create_ruleset, __NR_landlock_restrict_self};
use linux_raw_sys::landlock::{LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, landlock_ruleset_attr};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Result;
use static_assertions::const_assert_eq;

use super::arch::syscall;
use super::fd::Fd;
use super::{check, fd_argument};

// ABI 6: three u64 (linux/landlock.h). A wrong size would be refused, or worse, scope nothing.
const_assert_eq!(size_of::<landlock_ruleset_attr>(), 24);

/// A ruleset that handles no access and scopes abstract UNIX sockets, the least that makes a domain (ABI 6, Linux 6.12).
/// Errors: E2BIG on an older ABI; ENOSYS or EOPNOTSUPP where Landlock is not built in or not enabled.
pub fn scope_ruleset() -> Result<Fd> {
    let attributes = landlock_ruleset_attr {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: u64::from(LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET),
    };
    // SAFETY: `attributes` is valid for the size given, for the length of the call.
    Fd::from_answer(unsafe {
        syscall(
            __NR_landlock_create_ruleset,
            [(&raw const attributes).expose_provenance(), size_of::<landlock_ruleset_attr>(), 0],
        )
    })
}

/// Enters a new domain of `ruleset`, for good. Needs CAP_SYS_ADMIN or no_new_privs. Returns the kernel's answer, which is
/// 0 and nothing else when the domain was entered: a BPF LSM program can make the call fail or answer any number.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<usize> {
    // SAFETY: the call touches no memory of ours.
    check(unsafe { syscall(__NR_landlock_restrict_self, [fd_argument(ruleset.as_raw_fd()), 0]) })
}
