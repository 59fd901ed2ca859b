//! Directory entries (getdents64(2)): the names of regular files and directories, up to where an entry or a name is cut short.
#![no_main]

use kios_init::boot::formats::entries;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut wanted, mut at) = (vec![], 0);
    while at + 19 <= bytes.len() {
        let next = at + (usize::from(bytes[at + 16]) + 256 * usize::from(bytes[at + 17])).max(1);
        let name: Vec<_> = bytes[at + 19..].iter().copied().take_while(|byte| *byte != 0).collect();
        let kind = bytes[at + 18];
        let counts = kind == 8 || kind == 4;
        if next > bytes.len() || counts && at + 19 + name.len() == bytes.len() {
            break;
        }
        if counts && name != b"." && name != b".." {
            wanted.push((name, kind == 4));
        }
        at = next;
    }
    let found = entries(bytes).map(|(name, is_directory)| (name.to_bytes().to_vec(), is_directory));
    assert_eq!(found.collect::<Vec<_>>(), wanted);
});
