//! Directory entries (getdents64(2)): the names of regular files, up to where an entry or a name is cut short.
#![no_main]

use kios_init::run::records::names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut wanted, mut at) = (vec![], 0);
    while at + 19 <= bytes.len() {
        let next = at + (usize::from(bytes[at + 16]) + 256 * usize::from(bytes[at + 17])).max(1);
        let name: Vec<_> = bytes[at + 19..].iter().copied().take_while(|byte| *byte != 0).collect();
        let is_file = bytes[at + 18] == 8;
        if next > bytes.len() || is_file && at + 19 + name.len() == bytes.len() {
            break;
        }
        wanted.extend(is_file.then_some(name));
        at = next;
    }
    assert_eq!(names(bytes).map(|name| name.to_bytes()).collect::<Vec<_>>(), wanted);
});
