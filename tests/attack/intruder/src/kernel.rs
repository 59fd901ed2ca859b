//! Ways to change the running kernel, and what it starts.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

use crate::{bpf, errno, say, say_of};

/// Tries them. `module` is a file with a module that this kernel would take.
pub fn all(module: &str) -> nix::Result<()> {
    // SAFETY: the calls are given live memory, or none.
    unsafe {
        // Nothing to load: what was loaded is dropped.
        say("kexec_load", Errno::result(libc::syscall(libc::SYS_kexec_load, 0, 0, 0usize, 0)));
        // Debian's other kernels have none of these.
        #[cfg(target_arch = "x86_64")]
        {
            // No kernel at these descriptors: whoever may load one is told just that.
            let reached = |result| if result == Err(Errno::EBADF) { Ok(0) } else { result };
            let loaded = Errno::result(libc::syscall(libc::SYS_kexec_file_load, -1, -1, 1usize, c"".as_ptr(), 0));
            say("kexec_file_load", reached(loaded));
            say("iopl", Errno::result(libc::syscall(libc::SYS_iopl, 3)));
            say("ioperm", Errno::result(libc::syscall(libc::SYS_ioperm, 0x80, 1, 1)));
        }
        // Not a module: whoever may load one is told just that.
        let reached = |result| if result == Err(Errno::ENOEXEC) { Ok(0) } else { result };
        let junk = [0u8; 64];
        let loaded = Errno::result(libc::syscall(libc::SYS_init_module, junk.as_ptr(), junk.len(), c"".as_ptr()));
        say("init_module", reached(loaded));
    }
    say("finit_module", finit(module));
    // No file: whoever may make swap is told just that.
    // SAFETY: a C string.
    let made = Errno::result(unsafe { libc::syscall(libc::SYS_swapon, c"/nowhere".as_ptr(), 0) });
    say("swapon", if made == Err(Errno::ENOENT) { Ok(0) } else { made });
    // The driver is one with the file system: where the node's is not seen, it is made.
    let _ = nix::sys::stat::mknod(
        "/tmp/mem",
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRUSR,
        nix::sys::stat::makedev(1, 1),
    );
    say("/dev/mem", OpenOptions::new().read(true).write(true).open("/tmp/mem").map_err(|error| errno(&error)));
    // The verifier knows no such helper where it may not be used.
    say_of("bpf_probe_write_user", &[Errno::EPERM, Errno::EINVAL], bpf::writer());
    say_of("bpf_probe_write_user, lockdown's answer changed", &[Errno::EPERM, Errno::EINVAL], bpf::unlocked_writer());
    Ok(())
}

/// Loads a module, if it is not there.
fn finit(module: &str) -> nix::Result<()> {
    let file = File::open(module).map_err(|error| errno(&error))?;
    // SAFETY: the kernel reads an empty string.
    let loaded = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    match Errno::result(loaded) {
        Err(Errno::EEXIST) => Ok(()),
        loaded => loaded.map(drop),
    }
}

/// Asks for a key that nobody has: the kernel starts /sbin/request-key to make it.
pub fn ask_key() -> nix::Result<()> {
    // SAFETY: C strings; KEY_SPEC_PROCESS_KEYRING is -2.
    let key =
        unsafe { libc::syscall(libc::SYS_request_key, c"user".as_ptr(), c"intruder".as_ptr(), c"x".as_ptr(), -2) };
    println!("request_key: {:?}", Errno::result(key));
    Ok(())
}

/// Switches the spanning tree of a bridge on: the kernel starts /sbin/bridge-stp.
pub fn bridge(name: &str) -> nix::Result<()> {
    fs::write(format!("/sys/class/net/{name}/bridge/stp_state"), "1").map_err(|error| errno(&error))
}

/// Prints the offset in its file of a 64-bit ELF's first instruction.
pub fn entry(file: &str) -> nix::Result<()> {
    let bytes = fs::read(file).map_err(|error| errno(&error))?;
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let (entry, headers) = (word(24), word(32) as usize);
    for number in 0..usize::from(half(56)) {
        let header = headers + number * usize::from(half(54));
        let (kind, offset, address, size) = (bytes[header], word(header + 8), word(header + 16), word(header + 32));
        // PT_LOAD.
        if kind == 1 && (address..address + size).contains(&entry) {
            println!("{:#x}", entry - address + offset);
            return Ok(());
        }
    }
    Err(Errno::ENOEXEC)
}
