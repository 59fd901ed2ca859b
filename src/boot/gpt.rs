//! The partition table of a disk that has become larger than the table says, since an image was written to it: the data
//! partition, which is the last, gets the rest (UEFI 2.10, 5.3, GUID partition table). Pure but for the disk, a trait.
//!
//! The copy at the disk's end is written first. Of the one at its beginning two sectors change that lie side by side and
//! go out together; should the power fail between these, firmware takes the copy, and writes the first one again.

use core::num::NonZeroU64;
use rustix::io::Result;

/// Bytes that are read or written at a time; a divisor of each sector.
pub const BLOCK: usize = 512;
/// Bytes of an entry; others are left alone.
const ENTRY: usize = 128;
/// Most entries.
const ENTRIES: u64 = 1024;
/// What partitions begin and end at, in bytes.
const ALIGN: u64 = 1 << 20;
/// Where the first copy of the table is, in sectors: header, entries.
const FIRST: (u64, u64) = (1, 2);

/// A disk.
pub trait Disk {
    /// Reads at `at` bytes. Errors: of pread(2).
    fn read(&self, at: u64, block: &mut [u8; BLOCK]) -> Result<()>;
    /// Writes there. Errors: of pwrite(2).
    fn write(&mut self, at: u64, block: &[u8; BLOCK]) -> Result<()>;
    /// Until all of it is on the disk. Errors: of fdatasync(2).
    fn flush(&mut self) -> Result<()>;
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

/// CRC-32 of IEEE 802.3, begun with all ones and inverted at the end.
fn crc(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    crc
}

/// A header, and what it says.
struct Table([u8; BLOCK]);

impl Table {
    /// Bytes of the entries.
    fn entries(&self) -> u64 {
        u64::from(u32_at(&self.0, 80)) * ENTRY as u64
    }

    /// The sector of the other copy's header.
    fn other(&self) -> u64 {
        u64_at(&self.0, 32)
    }

    /// Its checksum: as if there were none in it.
    fn crc(&self) -> u32 {
        let rest = usize::try_from(u32_at(&self.0, 12)).ok().and_then(|size| self.0.get(20..size));
        !crc(crc(crc(!0, self.0.get(..16).unwrap_or(&[])), &[0; 4]), rest.unwrap_or(&[]))
    }

    /// Enters the checksum of the entries, and its own.
    fn seal(&mut self, entries: u32) {
        put_u32(&mut self.0, 88, entries);
        let sum = self.crc();
        put_u32(&mut self.0, 16, sum);
    }

    /// The checksum of the entries.
    fn sum(&self) -> u32 {
        u32_at(&self.0, 88)
    }

    /// Whether it is a header, and where the first one is.
    fn is_good(&self) -> bool {
        self.0.starts_with(b"EFI PART")
            && u32_at(&self.0, 12) >= 92
            && (u64_at(&self.0, 24), u64_at(&self.0, 72)) == FIRST
            && u32_at(&self.0, 84) as usize == ENTRY
            && self.entries().is_multiple_of(BLOCK as u64)
            && (1..=ENTRIES * ENTRY as u64).contains(&self.entries())
            && self.crc() == u32_at(&self.0, 16)
    }
}

/// What is done with each block of entries: its place among them, and itself.
type Each<'a, D> = &'a mut dyn FnMut(&mut D, u64, &mut [u8; BLOCK]) -> Result<()>;

/// Reads the entries; the checksum of what `each` made of them.
fn walk<D: Disk>(disk: &mut D, (from, length): (u64, u64), each: Each<'_, D>) -> Result<u32> {
    let (mut sum, mut block, mut at) = (!0, [0; BLOCK], 0);
    while at < length {
        disk.read(from.wrapping_add(at), &mut block)?;
        each(disk, at, &mut block)?;
        sum = crc(sum, &block);
        at += BLOCK as u64;
    }
    Ok(!sum)
}

/// The entries of a block that are used, with the sectors where they begin and end.
fn used(block: &mut [u8; BLOCK]) -> impl Iterator<Item = (&mut [u8; ENTRY], u64, u64)> {
    let entries = block.as_chunks_mut::<ENTRY>().0.iter_mut().filter(|entry| !entry.starts_with(&[0; 16]));
    entries.map(|entry| {
        let (begin, end) = (u64_at(entry, 32), u64_at(entry, 40));
        (entry, begin, end)
    })
}

/// Grows the partition that begins at `start` to the end of the disk, which has `bytes` in sectors of `sector`; its
/// bytes then. None where the table is no whole GPT, knows the disk's end, or has another partition behind. Errors: of
/// the disk.
pub fn grow<D: Disk>(disk: &mut D, sector: NonZeroU64, bytes: u64, start: u64) -> Result<Option<u64>> {
    let Some(last) = (bytes / sector).checked_sub(1) else { return Ok(None) };
    let at = |sectors: u64| sectors.wrapping_mul(sector.get());
    let mut table = Table([0; BLOCK]);
    disk.read(at(FIRST.0), &mut table.0)?;
    if !table.is_good() || table.other() >= last {
        return Ok(None);
    }
    let place = (at(FIRST.1), table.entries());
    // Whole sectors.
    let entries = last.saturating_sub((place.1 - 1) / sector + 1);
    let end = at(entries) / ALIGN * ALIGN;
    let (mut found, mut alone) = (false, end > start);
    let sum = walk(disk, place, &mut |_, _, block| {
        for (_, begin, ends) in used(block) {
            found |= at(begin) == start && at(ends.wrapping_add(1)) < end;
            alone &= at(begin) <= start;
        }
        Ok(())
    })?;
    if sum != table.sum() || !found || !alone {
        return Ok(None);
    }
    for (own, other, entries_at) in [(last, FIRST.0, entries), (FIRST.0, last, FIRST.1)] {
        let sum = walk(disk, place, &mut |disk, from, block| {
            let mut changed = own == last;
            for (entry, ..) in used(block).filter(|(_, begin, _)| at(*begin) == start) {
                put(entry, 40, (end / sector).wrapping_sub(1));
                changed = true;
            }
            if changed { disk.write(at(entries_at).wrapping_add(from), block) } else { Ok(()) }
        })?;
        for (place, value) in [(24, own), (32, other), (48, entries.wrapping_sub(1)), (72, entries_at)] {
            put(&mut table.0, place, value);
        }
        table.seal(sum);
        disk.write(at(own), &table.0)?;
        disk.flush()?;
    }
    Ok(Some(end - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk in memory that fails at a write.
    #[derive(Clone)]
    struct Memory {
        bytes: Vec<u8>,
        writes: usize,
    }

    impl Disk for Memory {
        fn read(&self, at: u64, block: &mut [u8; BLOCK]) -> Result<()> {
            let from = self.bytes.get(usize::try_from(at).unwrap()..).and_then(|rest| rest.first_chunk());
            *block = *from.ok_or(rustix::io::Errno::IO)?;
            Ok(())
        }

        fn write(&mut self, at: u64, block: &[u8; BLOCK]) -> Result<()> {
            self.writes = self.writes.checked_sub(1).ok_or(rustix::io::Errno::IO)?;
            let at = usize::try_from(at).unwrap();
            let to = self.bytes.get_mut(at..at.saturating_add(BLOCK)).ok_or(rustix::io::Errno::IO)?;
            to.copy_from_slice(block);
            Ok(())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    const MIB: u64 = 1 << 20;

    /// A table of 128 entries with these partitions (first and last MiB), on a disk of `size` MiB that it knows all of.
    fn disk(sector: u64, size: u64, partitions: &[(u64, u64)]) -> Memory {
        let mut bytes = vec![0; usize::try_from(size * MIB).unwrap()];
        let mut entries = vec![0; 128 * ENTRY];
        for (entry, (first, last)) in entries.chunks_mut(ENTRY).zip(partitions) {
            entry[..16].fill(0xAF);
            entry[32..40].copy_from_slice(&(first * MIB / sector).to_le_bytes());
            entry[40..48].copy_from_slice(&((last + 1) * MIB / sector - 1).to_le_bytes());
        }
        let last = size * MIB / sector - 1;
        let behind = last - entries.len() as u64 / sector;
        for (at, other, entries_at) in [(1, last, 2), (last, 1, behind)] {
            let mut header = Table([0; BLOCK]);
            header.0[..8].copy_from_slice(b"EFI PART");
            for (place, value) in [(24, at), (32, other), (48, behind - 1), (72, entries_at)] {
                put(&mut header.0, place, value);
            }
            for (place, value) in [(12, 92), (80, 128), (84, 128)] {
                put_u32(&mut header.0, place, value);
            }
            header.seal(!crc(!0, &entries));
            for (at, part) in [(entries_at, &entries[..]), (at, &header.0[..])] {
                let at = usize::try_from(at * sector).unwrap();
                bytes[at..at + part.len()].copy_from_slice(part);
            }
        }
        Memory { bytes, writes: usize::MAX }
    }

    fn grown(disk: &mut Memory, sector: u64, start: u64) -> Result<Option<u64>> {
        let bytes = disk.bytes.len() as u64;
        grow(disk, NonZeroU64::new(sector).unwrap(), bytes, start * MIB)
    }

    const TWO: &[(u64, u64)] = &[(1, 2), (3, 4)];

    #[test]
    fn checksum_is_the_known_one() {
        assert_eq!(!crc(!0, b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn the_last_partition_gets_the_rest() {
        for sector in [512, 4096] {
            let mut small = disk(sector, 6, TWO);
            assert_eq!(grown(&mut small, sector, 3), Ok(None), "it is as long as its disk");
            small.bytes.resize(usize::try_from(16 * MIB).unwrap(), 0);
            assert_eq!(grown(&mut small.clone(), sector, 1), Ok(None), "another is behind");
            assert_eq!(grown(&mut small.clone(), sector, 2), Ok(None), "none begins there");
            let mut large = small.clone();
            assert_eq!(grown(&mut large, sector, 3), Ok(Some(12 * MIB)));
            assert_eq!(grown(&mut large.clone(), sector, 3), Ok(None), "once more");
            let expected = disk(sector, 16, &[(1, 2), (3, 14)]);
            let (tables, behind) = (usize::try_from(34 * sector).unwrap(), usize::try_from(15 * MIB).unwrap());
            assert!(large.bytes[..tables] == expected.bytes[..tables]);
            assert!(large.bytes[behind..] == expected.bytes[behind..]);
        }
    }

    /// Whether the copy whose header is in sector `at` is whole.
    fn is_whole(disk: &Memory, at: u64) -> bool {
        let mut disk = disk.clone();
        let mut table = Table([0; BLOCK]);
        disk.read(at * 512, &mut table.0).unwrap();
        let entries = (u64_at(&table.0, 72) * 512, table.entries());
        table.0.starts_with(b"EFI PART")
            && table.crc() == u32_at(&table.0, 16)
            && walk(&mut disk, entries, &mut |_, _, _| Ok(())) == Ok(table.sum())
    }

    #[test]
    fn power_may_fail_at_each_write() {
        let mut small = disk(512, 6, TWO);
        small.bytes.resize(usize::try_from(16 * MIB).unwrap(), 0);
        let mut large = small.clone();
        grown(&mut large, 512, 3).unwrap();
        let all = 128 * ENTRY / BLOCK + 1 + 2;
        for writes in 0..=all {
            let mut cut = small.clone();
            cut.writes = writes;
            assert_eq!(grown(&mut cut, 512, 3).is_ok(), writes == all, "{writes}");
            cut.writes = usize::MAX;
            let last = cut.bytes.len() as u64 / 512 - 1;
            // Within the two sectors that go out together, the copy is what there is.
            assert_eq!([1, last].map(|at| is_whole(&cut, at)), [writes != all - 1, writes >= all - 2], "{writes}");
            if writes < all - 1 {
                assert_eq!(grown(&mut cut, 512, 3), Ok(Some(12 * MIB)));
                assert!(cut.bytes == large.bytes, "after {writes} writes");
            }
        }
    }

    #[test]
    fn nothing_becomes_shorter() {
        // Its end is that of the disk to the sector, as other tools make it.
        let mut odd = disk(512, 6, &[(1, 5)]);
        let end = 6 * MIB / 512 - 34;
        put(&mut odd.bytes, 1024 + 40, end);
        let sum = walk(&mut odd.clone(), (1024, 128 * ENTRY as u64), &mut |_, _, _| Ok(())).unwrap();
        let mut header = Table([0; BLOCK]);
        odd.read(512, &mut header.0).unwrap();
        header.seal(sum);
        odd.write(512, &header.0).unwrap();
        for (bytes, expected) in [(6 * MIB + 512 * 20, None), (5 * MIB, None), (8 * MIB, Some(6 * MIB))] {
            let mut other = odd.clone();
            other.bytes.resize(usize::try_from(bytes).unwrap(), 0);
            assert!(is_whole(&other, 1));
            assert_eq!(grown(&mut other, 512, 1), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_table_is_left_alone() {
        let good = disk(512, 6, TWO);
        for (at, value) in [(512, 0), (512 + 16, 1), (1024 + 40, 1), (512 + 84, 1), (512 + 72, 3), (512 + 24, 2)] {
            let mut bad = good.clone();
            bad.bytes.resize(usize::try_from(16 * MIB).unwrap(), 0);
            bad.bytes[at] = value;
            bad.writes = 0;
            assert_eq!(grown(&mut bad, 512, 3), Ok(None), "{at}");
        }
        let mut tiny = Memory { bytes: vec![0; BLOCK], writes: 0 };
        assert_eq!(grown(&mut tiny, 4096, 3), Ok(None));
    }

    proptest! {
        #[test]
        fn no_table_panics(
            header in proptest::collection::vec(any::<u8>(), 92),
            entries in proptest::collection::vec(any::<u8>(), BLOCK),
            last in any::<u64>(),
            start in any::<u64>(),
        ) {
            let mut disk = disk(512, 2, &[]);
            let mut table = Table([0; BLOCK]);
            table.0[..92].copy_from_slice(&header);
            table.0[..8].copy_from_slice(b"EFI PART");
            for (place, value) in [(24, 1), (72, 2)] {
                put(&mut table.0, place, value);
            }
            for (place, value) in [(12, 92), (80, 4), (84, 128)] {
                put_u32(&mut table.0, place, value);
            }
            disk.bytes[1024..1024 + BLOCK].copy_from_slice(&entries);
            table.seal(!crc(!0, &entries));
            disk.bytes[BLOCK..2 * BLOCK].copy_from_slice(&table.0);
            for (last, start) in [(last, start), (last % 4000 * 512, MIB), (1 << 40, u64_at(&entries, 32).wrapping_mul(512))] {
                let _ = grow(&mut disk.clone(), NonZeroU64::new(512).unwrap(), last, start);
            }
        }
    }
}
