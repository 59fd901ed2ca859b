//! A module list: its lines, but for empty ones.
#![no_main]

use kios_init::boot::formats::module_names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut names: Vec<Vec<u8>> = vec![];
    for byte in [b"\n", bytes].concat() {
        match names.last_mut() {
            Some(name) if byte != b'\n' => name.push(byte),
            _ => names.push(vec![]),
        }
    }
    names.retain(|name| !name.is_empty());
    assert!(module_names(bytes).eq(names.iter()), "{:?}", module_names(bytes).collect::<Vec<_>>());
});
