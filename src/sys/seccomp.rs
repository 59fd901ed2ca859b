//! A filter that keeps a process, and all that descend from it, from walking to PID 1's mount namespace, from loading modules
//! and from making swap.
//!
//! Since Linux 6.12 whoever may open one mount namespace can walk to the next and the one before by ioctl on its
//! descriptor, and enter it (fs/nsfs.c, NS_MNT_GET_NEXT and NS_MNT_GET_PREV): CAP_SYS_ADMIN is all it takes, and no
//! Landlock rule is asked. What the kernel takes for these two is refused, by whatever ABI it comes.
//!
//! A module that is signed for the kernel would do to get a program of a pod's run outside it (binfmt_misc). The kernel's own
//! switch against that is turned once all of the node's are loaded, when the first pods may run already.
//!
//! On swap of a pod's, PID 1's memory could be written. And where the root is in a partition, whoever loads another table into
//! the mapping that it is read through (dm-ioctl) has another root.

use core::mem::size_of;
use linux_raw_sys::general::__NR_seccomp;
use rustix::io::{Errno, Result};
use static_assertions::const_assert_eq;

use super::arch::{FILTER, FILTER_LOADS, syscall};
use super::check;

/// `struct sock_filter` (linux/filter.h): one instruction of the classic BPF.
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}
const_assert_eq!(size_of::<Instruction>(), 8);

/// Offsets in `struct seccomp_data` (linux/seccomp.h); of an argument, its low half.
pub const NUMBER: u32 = 0;
/// See [`NUMBER`].
pub const ARCHITECTURE: u32 = 4;
/// See [`NUMBER`].
pub const SECOND_ARGUMENT: u32 = 24;
/// Numbers of the two ioctls (linux/nsfs.h). Linux 6.12 looks at the number and the size in a request, and not at its type:
/// so must the filter, and ioctls of other kinds with these numbers and sizes are refused with them.
pub const NEXT_NAMESPACE: u32 = 11;
/// See [`NEXT_NAMESPACE`].
pub const PREVIOUS_NAMESPACE: u32 = 12;
/// Where a request has the size of its argument (asm-generic/ioctl.h).
pub const SIZE_MASK: u32 = 0x3fff_0000;
/// The least size that the two take: 16 bytes, MNT_NS_INFO_SIZE_VER0.
pub const SIZE_LEAST: u32 = 16 << 16;
/// Type and number of the device mapper's request to load a table (linux/dm-ioctl.h), which is all that the kernel looks at.
pub const LOAD_TABLE: u32 = 0xfd << 8 | super::dm::LOAD;
/// SECCOMP_RET_ALLOW.
pub const ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_ERRNO with EPERM.
pub const REFUSE: u32 = 0x0005_0001;

impl Instruction {
    /// Loads 32 bits of the call's data.
    pub const fn load(offset: u32) -> Instruction {
        Instruction { code: 0x20, if_true: 0, if_false: 0, value: offset }
    }

    /// Keeps the bits of `mask`.
    pub const fn and(mask: u32) -> Instruction {
        Instruction { code: 0x54, if_true: 0, if_false: 0, value: mask }
    }

    /// Skips `if_true` instructions where what was loaded is `value`, else `if_false`.
    pub const fn jump_if(value: u32, if_true: u8, if_false: u8) -> Instruction {
        Instruction { code: 0x15, if_true, if_false, value }
    }

    /// Skips `if_true` instructions where what was loaded is `value` or more, else `if_false`.
    pub const fn jump_from(value: u32, if_true: u8, if_false: u8) -> Instruction {
        Instruction { code: 0x35, if_true, if_false, value }
    }

    /// Ends with an answer.
    pub const fn answer(value: u32) -> Instruction {
        Instruction { code: 0x06, if_true: 0, if_false: 0, value }
    }
}

/// `struct sock_fprog` (linux/filter.h).
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// The filter; `mappings` says whether tables of the device mapper may be loaded.
const fn filter(mappings: bool) -> [Instruction; FILTER.len()] {
    let mut filter = FILTER;
    if mappings {
        // No request is that, of 16 bits.
        filter[FILTER_LOADS].value = u32::MAX;
    }
    filter
}

/// Puts the filter on this thread, for good; `mappings` says whether it lets tables of the device mapper be loaded. Needs CAP_SYS_ADMIN or no_new_privs. Errors: of seccomp(2).
pub fn confine(mappings: bool) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let filter = filter(mappings);
    let program = Program { length: u16::try_from(filter.len()).unwrap_or(0), filter: filter.as_ptr() };
    let arguments = [SECCOMP_SET_MODE_FILTER, 0, (&raw const program).expose_provenance()];
    // SAFETY: `program` and the instructions it points to outlive the call, which copies them.
    match check(unsafe { syscall(__NR_seccomp, arguments) })? {
        0 => Ok(()),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsRawFd;

    /// `struct mnt_ns_info` is 16 bytes at first; the kernel takes what is longer.
    fn walk(fd: i32, kind: u64, number: u64) -> nix::Result<i32> {
        let mut info = [0u8; 64];
        let request = 2 << 30 | 16 << 16 | kind << 8 | number;
        // SAFETY: the request writes at most 64 bytes at `info`.
        Errno::result(unsafe { nix::libc::ioctl(fd, request, info.as_mut_ptr()) })
    }

    /// What the filter answers to a call by another ABI, as the kernel runs it.
    fn answer(mappings: bool, architecture: u32, number: u32, request: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, if_true, if_false, value } = filter(mappings)[at];
            at += 1;
            let jump = match code {
                0x20 => {
                    loaded = match value {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        SECOND_ARGUMENT => request,
                        _ => unreachable!(),
                    };
                    continue;
                }
                0x54 => {
                    loaded &= value;
                    continue;
                }
                0x15 => loaded == value,
                0x35 => loaded >= value,
                0x06 => return value,
                _ => unreachable!(),
            };
            at += usize::from(if jump { if_true } else { if_false });
        }
    }

    /// The ABIs that a call may come in by (linux/audit.h), with their numbers of `NAMES` (asm/unistd.h of each).
    #[cfg(target_arch = "x86_64")]
    const ABIS: [(u32, [u32; 6]); 3] = [
        (0xc000_003e, [175, 313, 167, 176, 16, 0]),
        (0xc000_003e, [X32 | 175, X32 | 313, X32 | 167, X32 | 176, X32 | 514, X32]),
        (0x4000_0003, [128, 350, 87, 129, 54, 3]), // i386
    ];
    #[cfg(target_arch = "x86_64")]
    const X32: u32 = 0x4000_0000;
    #[cfg(target_arch = "aarch64")]
    const ABIS: [(u32, [u32; 6]); 2] = [
        (0xc000_00b7, [105, 273, 224, 106, 29, 63]),
        (0x4000_0028, [128, 379, 87, 129, 54, 3]), // arm
    ];
    /// The first three are refused.
    const NAMES: [&str; 6] = ["init_module", "finit_module", "swapon", "delete_module", "ioctl", "read"];

    #[test]
    fn each_abi_is_known() {
        for (architecture, numbers) in ABIS {
            for (at, (name, number)) in NAMES.into_iter().zip(numbers).enumerate() {
                let is = |request| answer(true, architecture, number, request) == REFUSE;
                assert_eq!(is(0), at < 3, "{name} {architecture:#x} {number}");
                assert_eq!(is(0x8010_b70b), at < 3 || name == "ioctl", "{name} {architecture:#x} {number}");
                // The kernel looks at neither direction nor size.
                for request in [0xc138_fd09, 0xfd09] {
                    let refused = answer(false, architecture, number, request) == REFUSE;
                    assert_eq!(refused, at < 3 || name == "ioctl", "{name} {architecture:#x} {number}");
                    assert_eq!(is(request), at < 3, "{name} {architecture:#x} {number}");
                }
            }
        }
    }

    #[test]
    fn walking_is_refused_and_nothing_else() {
        // The filter is this thread's alone.
        std::thread::spawn(|| {
            let namespace = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap();
            let fd = namespace.as_raw_fd();
            let before = [10, 11, 12].map(|number| walk(fd, 0xb7, number));
            nix::sys::prctl::set_no_new_privs().unwrap();
            confine(true).unwrap();
            let after = [10, 11, 12].map(|number| walk(fd, 0xb7, number));
            for kind in [0, 0x64, 0xff] {
                assert_eq!([11, 12].map(|number| walk(fd, kind, number)), [Err(Errno::EPERM); 2], "type {kind:#x}");
            }
            assert_eq!(after, [before[0], Err(Errno::EPERM), Err(Errno::EPERM)], "before: {before:?}");
            // SAFETY: NS_GET_USERNS takes no argument.
            let owner = Errno::result(unsafe { nix::libc::ioctl(fd, 0xb701) }).unwrap();
            nix::unistd::close(owner).unwrap();
        })
        .join()
        .unwrap();
    }
}
