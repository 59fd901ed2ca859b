//! sd_notify(3): READY=1 and WATCHDOG=1 count as whole lines only.
#![no_main]

use kios_init::run::sockets::Notice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let framed = [b"\n", bytes, b"\n"].concat();
    let has = |line: &[u8]| framed.windows(line.len()).any(|window| window == line);
    assert_eq!(Notice::of(bytes), Notice { ready: has(b"\nREADY=1\n"), alive: has(b"\nWATCHDOG=1\n") });
});
