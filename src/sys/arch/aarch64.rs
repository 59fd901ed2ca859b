//! aarch64: the six items each architecture's file holds, in one order.

use core::arch::asm;

use super::registers;
use crate::sys::seccomp::{
    ALLOW, ARCHITECTURE, Instruction, LOAD_TABLE, NEXT_NAMESPACE, NUMBER, PREVIOUS_NAMESPACE, REFUSE, SECOND_ARGUMENT,
    SIZE_LEAST, SIZE_MASK,
};

/// The body of `_start`: the ABI hands over the stack pointer, aligned to 16, at argc and nothing else. (AAPCS64 6.4.5)
#[macro_export]
macro_rules! entry_asm {
    ($main:path) => {
        core::arch::naked_asm!("mov x29, xzr", "mov x30, xzr", "bl {main}", "brk #1", main = sym $main)
    };
}

/// One system call with as many arguments as it takes, at most six; returns the kernel's raw answer (-4095..=-1 is an errno,
/// negated).
///
/// # Safety
/// The arguments must be all that system call `number` reads, and meet its contract: pointers valid for what the kernel reads
/// or writes there.
#[inline(always)]
pub unsafe fn syscall<const N: usize>(number: u32, arguments: [usize; N]) -> isize {
    let [a0, a1, a2, a3, a4, a5] = registers(arguments);
    let answer: isize;
    // SAFETY: the arm64 syscall convention (syscall(2)): number in x8, arguments in x0 to x5; all else is kept. What the
    // call does to memory is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a0 => answer,
            in("x1") a1, in("x2") a2, in("x3") a3, in("x4") a4, in("x5") a5,
            options(nostack),
        );
    }
    answer
}

/// Copies `count` bytes upwards, from the lowest address.
///
/// # Safety
/// `to` valid for `count` writes, `from` for `count` reads; where they overlap, `to` must not be above `from`.
#[inline]
pub unsafe fn copy_up(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: reads and writes one byte `count` times, each at the next address.
    unsafe {
        asm!("cbz {count}, 3f", "2:", "ldrb {byte:w}, [{from}], #1", "strb {byte:w}, [{to}], #1",
             "subs {count}, {count}, #1", "b.ne 2b", "3:",
             count = inout(reg) count => _, to = inout(reg) to => _, from = inout(reg) from => _, byte = out(reg) _,
             options(nostack));
    }
}

/// Fills `count` bytes with `value`.
///
/// # Safety
/// `to` valid for `count` writes.
#[inline]
pub unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    // SAFETY: writes one byte `count` times, each at the next address.
    unsafe {
        asm!("cbz {count}, 3f", "2:", "strb {value:w}, [{to}], #1", "subs {count}, {count}, #1", "b.ne 2b", "3:",
             count = inout(reg) count => _, to = inout(reg) to => _, value = in(reg) u32::from(value),
             options(nostack));
    }
}

/// The filter of [`crate::sys::seccomp`]. A call has another number in each ABI that it may come in by (linux/audit.h;
/// asm-generic/unistd.h, arch/arm/tools/syscall.tbl).
pub const FILTER: [Instruction; 23] = [
    Instruction::load(ARCHITECTURE),
    Instruction::jump_if(0x4000_0028, 5, 0), // AUDIT_ARCH_ARM
    Instruction::load(NUMBER),
    Instruction::jump_if(105, 18, 0), // init_module
    Instruction::jump_if(273, 17, 0), // finit_module
    Instruction::jump_if(224, 16, 0), // swapon
    Instruction::jump_if(29, 5, 14),  // ioctl
    Instruction::load(NUMBER),
    Instruction::jump_if(128, 13, 0), // init_module
    Instruction::jump_if(379, 12, 0), // finit_module
    Instruction::jump_if(87, 11, 0),  // swapon
    Instruction::jump_if(54, 0, 9),   // ioctl
    Instruction::load(SECOND_ARGUMENT),
    Instruction::and(0xffff),
    Instruction::jump_if(LOAD_TABLE, 7, 0),
    Instruction::and(0xff),
    Instruction::jump_if(NEXT_NAMESPACE, 1, 0),
    Instruction::jump_if(PREVIOUS_NAMESPACE, 0, 3),
    Instruction::load(SECOND_ARGUMENT),
    Instruction::and(SIZE_MASK),
    Instruction::jump_from(SIZE_LEAST, 1, 0),
    Instruction::answer(ALLOW),
    Instruction::answer(REFUSE),
];

/// Place in it of the request to load a table of the device mapper.
pub const FILTER_LOADS: usize = 14;
