//! The parts of the binary that must not be in a program with std: `_start`, the mem functions the compiler calls, and
//! the panic handler. Compiled into the binary only.

use core::sync::atomic::{AtomicBool, Ordering};
use kios_init::sys::arch;
use kios_init::{entry_asm, report, stop};

/// Where the kernel enters. Arguments, environment and auxiliary vector stay unread: nothing configures init.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    entry_asm!(crate::main)
}

/// Says where, then restarts after the pause. A panic within goes straight to the restart.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    static AGAIN: AtomicBool = AtomicBool::new(false);
    if AGAIN.swap(true, Ordering::Relaxed) {
        stop::restart_now();
    }
    report::epitaph(info.location());
    stop::restart_after_pause()
}

/// # Safety
/// As memcpy(3): both valid for `count` bytes, not overlapping.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise is copy_up's.
    unsafe { arch::copy_up(to, from, count) };
    to
}

/// # Safety
/// As memmove(3): both valid for `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= count {
        // SAFETY: `to` is below `from`, or past its end: copying upwards never reads what it has written.
        unsafe { arch::copy_up(to, from, count) };
        return to;
    }
    let mut left = count;
    while left > 0 {
        left -= 1;
        // SAFETY: left < count, and both are valid for count bytes. Volatile, or the compiler makes this a call of memmove.
        unsafe { to.add(left).write_volatile(from.add(left).read_volatile()) };
    }
    to
}

/// # Safety
/// As memset(3): `to` valid for `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise is fill's. memset(3) takes the low byte of the int.
    unsafe { arch::fill(to, value.to_le_bytes()[0], count) };
    to
}

/// # Safety
/// As memcmp(3): both valid for `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    let mut at = 0;
    while at < count {
        // SAFETY: at < count, and both are valid for count bytes. Volatile, or the compiler makes this a call of memcmp.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// # Safety
/// As memcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is memcmp's.
    unsafe { memcmp(a, b, count) }
}

/// # Safety
/// As strlen(3): `text` ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: all bytes up to the NUL are valid, and the loop ends there. Volatile, or the compiler makes this a call of
    // strlen.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
