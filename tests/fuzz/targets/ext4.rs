//! An ext4 superblock: the label, where the magic number is right, without its padding.
#![no_main]

use kios_init::boot::formats::{Ext4, ext4_label};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let is_ext4 = bytes.len() >= 0x88 && u16::from_le_bytes([bytes[0x38], bytes[0x39]]) == 0xEF53;
    let label = is_ext4.then(|| bytes[0x78..0x88].iter().copied().take_while(|byte| *byte != 0).collect::<Vec<_>>());
    assert_eq!(ext4_label(bytes), label.as_deref());
    if let Some(ext4) = Ext4::of(bytes) {
        let size = u128::from(ext4.blocks) << ext4.block_bits;
        let group = u128::from(ext4.group) << ext4.block_bits;
        for device in [0, 1 << 30, u64::MAX] {
            let room = ext4.group > 0 && size + group <= u128::from(device);
            assert_eq!(ext4.growth(device).is_some(), room);
        }
    }
});
