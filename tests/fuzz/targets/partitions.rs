//! /proc/partitions: a name for each line, what follows its last blank.
#![no_main]

use kios_init::boot::formats::device_names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut names: Vec<Vec<u8>> = vec![];
    for byte in [b"\n", bytes].concat() {
        match names.last_mut() {
            Some(name) if byte == b' ' => name.clear(),
            Some(name) if byte != b'\n' => name.push(byte),
            _ => names.push(vec![]),
        }
    }
    assert!(device_names(bytes).eq(names.iter()), "{:?}", device_names(bytes).collect::<Vec<_>>());
});
