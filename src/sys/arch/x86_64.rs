//! x86_64: the six items each architecture's file holds, in one order.

use core::arch::asm;

use super::registers;
use crate::sys::seccomp::{
    ALLOW, ARCHITECTURE, Instruction, LOAD_TABLE, NEXT_NAMESPACE, NUMBER, PREVIOUS_NAMESPACE, REFUSE, SECOND_ARGUMENT,
    SIZE_LEAST, SIZE_MASK,
};

/// The body of `_start`: the ABI hands over the stack pointer at argc and nothing else; the call needs it aligned to 16.
/// (System V AMD64 psABI 3.4.1)
#[macro_export]
macro_rules! entry_asm {
    ($main:path) => {
        core::arch::naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym $main)
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
    // SAFETY: the x86_64 syscall convention (syscall(2)): number in rax, arguments in rdi rsi rdx r10 r8 r9, rcx and r11
    // clobbered. What the call does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") (number as usize).cast_signed() => answer,
            in("rdi") a0, in("rsi") a1, in("rdx") a2, in("r10") a3, in("r8") a4, in("r9") a5,
            lateout("rcx") _, lateout("r11") _,
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
    // SAFETY: rep movsb reads and writes exactly `count` bytes; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
}

/// Fills `count` bytes with `value`.
///
/// # Safety
/// `to` valid for `count` writes.
#[inline]
pub unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    // SAFETY: rep stosb writes exactly `count` bytes; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value,
             options(nostack, preserves_flags));
    }
}

/// The filter of [`crate::sys::seccomp`]. A call has another number in each ABI that it may come in by (linux/audit.h;
/// asm/unistd_64.h, unistd_x32.h, unistd_32.h).
pub const FILTER: [Instruction; 25] = [
    Instruction::load(ARCHITECTURE),
    Instruction::jump_if(0x4000_0003, 7, 0), // AUDIT_ARCH_I386
    Instruction::load(NUMBER),
    Instruction::and(!0x4000_0000),     // x32
    Instruction::jump_if(175, 19, 0),   // init_module
    Instruction::jump_if(313, 18, 0),   // finit_module
    Instruction::jump_if(167, 17, 0),   // swapon
    Instruction::jump_if(16, 6, 0),     // ioctl
    Instruction::jump_if(0x202, 5, 14), // ioctl, x32
    Instruction::load(NUMBER),
    Instruction::jump_if(128, 13, 0), // init_module
    Instruction::jump_if(350, 12, 0), // finit_module
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
pub const FILTER_LOADS: usize = 16;
