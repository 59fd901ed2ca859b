//! A partition table, its checksums right, on a disk of any size: what is written is whole, and the second time there is nothing to
//! do.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use kios_init::boot::gpt::{BLOCK, Disk, grow};
use libfuzzer_sys::fuzz_target;
use rustix::io::Result;

/// All that is not there is zero.
#[derive(Default)]
struct Sparse(BTreeMap<u64, [u8; BLOCK]>);

impl Disk for Sparse {
    fn read(&self, at: u64, block: &mut [u8; BLOCK]) -> Result<()> {
        *block = self.0.get(&at).copied().unwrap_or([0; BLOCK]);
        Ok(())
    }

    fn write(&mut self, at: u64, block: &[u8; BLOCK]) -> Result<()> {
        self.0.insert(at, *block);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(bytes);
    crc.finalize()
}

/// Enters both checksums.
fn seal(header: &mut [u8; BLOCK], entries: &[u8]) {
    header[88..92].copy_from_slice(&crc(entries).to_le_bytes());
    header[16..20].fill(0);
    let size = (u32::from_le_bytes(header[12..16].try_into().unwrap()) as usize).min(BLOCK);
    let sum = crc(&header[..size]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}

fuzz_target!(|input: (u64, u64, bool, bool, [u8; 92], Vec<[u8; 128]>)| {
    let (bytes, start, large, raw, head, entries) = input;
    let sector = if large { 4096 } else { 512 };
    let mut header = [0; BLOCK];
    header[..92].copy_from_slice(&head);
    if !raw {
        header[..8].copy_from_slice(b"EFI PART");
        for (at, value) in [(12, 92), (24, 1), (72, 2), (80, entries.len() as u64), (84, 128)] {
            header[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        header[28..32].fill(0);
        header[76..80].fill(0);
    }
    let entries = entries.concat();
    seal(&mut header, &entries);
    let mut disk = Sparse::default();
    disk.0.insert(sector, header);
    for (at, chunk) in (2 * sector..).step_by(BLOCK).zip(entries.chunks(BLOCK)) {
        let mut block = [0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        disk.0.insert(at, block);
    }
    let size = NonZeroU64::new(sector).unwrap();
    let Ok(Some(length)) = grow(&mut disk, size, bytes, start) else { return };
    assert!(start + length <= bytes && !raw | header.starts_with(b"EFI PART"));
    assert_eq!(grow(&mut disk, size, bytes, start), Ok(None));
});
