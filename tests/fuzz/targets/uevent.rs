//! A block device's uevent: the partition's name is what the first line that begins with PARTNAME= has behind it.
#![no_main]

use kios_init::boot::formats::uevent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (framed, key) = ([b"\n", bytes, b"\n"].concat(), &b"\nPARTNAME="[..]);
    let start = framed.windows(key.len()).position(|window| window == key).map(|at| at + key.len());
    let name =
        start.map(|start| &framed[start..start + framed[start..].iter().take_while(|byte| **byte != b'\n').count()]);
    assert_eq!(uevent(bytes, b"PARTNAME="), name);
});
