//! The header of an HTTP/2 frame (RFC 9113, section 4.1): 24 bits of length, type, flags, and 31 bits of stream.
#![no_main]

use kios_init::run::liveness::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = <[u8; 9]>::try_from(bytes) else { return };
    let all = header.iter().fold(0u128, |all, byte| all * 256 + u128::from(*byte));
    let frame = Frame::of(header);
    let fields = [frame.length as u128, frame.kind.into(), frame.flags.into(), frame.stream.into()];
    assert_eq!(fields, [all >> 48, all >> 40 & 0xFF, all >> 32 & 0xFF, all & 0x7FFF_FFFF]);
});
