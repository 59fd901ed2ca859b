//! An EROFS superblock: the image's bytes, where its magic number and block size are possible.
#![no_main]

use kios_init::boot::formats::erofs_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let number = |at: usize| (0..4).map(|byte| u128::from(bytes[at + byte]) << (8 * byte)).sum::<u128>();
    let is_erofs = bytes.len() >= 40 && number(0) == 0xE0F5_E1E2 && bytes[12] > 8 && bytes[12] < 17;
    assert_eq!(erofs_bytes(bytes).map(u128::from), is_erofs.then(|| number(36) * 2u128.pow(bytes[12].into())));
});
