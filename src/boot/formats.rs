//! The outside formats that boot reads, as pure functions over bytes: EROFS and ext4 superblocks, sysfs uevents, module
//! lists. Bytes that are not what they should be give `None`, never a panic.

/// Where both superblocks begin, in bytes (erofs_fs.h, EROFS_SUPER_OFFSET; ext4: Documentation/filesystems/ext4/super.rst).
pub const SUPERBLOCK_AT: u64 = 1024;
/// Bytes of a superblock that are looked at.
pub const SUPERBLOCK_BYTES: usize = 256;

use core::ffi::CStr;

use crate::plan::number;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Bytes an EROFS image must have by its superblock: blocks times block size (fs/erofs/erofs_fs.h: magic at 0, blkszbits
/// at 12, blocks at 36). A shorter file was cut off.
pub fn erofs_bytes(superblock: &[u8]) -> Option<u64> {
    let bits = u32::from(*superblock.get(12)?);
    if u32_at(superblock, 0)? != 0xE0F5_E1E2 || !(9..=16).contains(&bits) {
        return None;
    }
    Some(u64::from(u32_at(superblock, 36)?) << bits)
}

/// The volume label of an ext4 file system, without its padding (super.rst: s_magic at 0x38, s_volume_name at 0x78).
pub fn ext4_label(superblock: &[u8]) -> Option<&[u8]> {
    if *superblock.get(0x38..)?.first_chunk()? != [0x53, 0xEF] {
        return None;
    }
    superblock.get(0x78..0x88)?.split(|byte| *byte == 0).next()
}

/// What an ext4 superblock says of its file system (super.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext4 {
    /// Blocks that it has.
    pub blocks: u64,
    /// Bytes of a block, as a power of two.
    pub block_bits: u32,
    /// Blocks of a group.
    pub group: u64,
    /// Whether the kernel found an error in it since it was last checked (s_state, EXT4_ERROR_FS).
    pub has_errors: bool,
    /// Whether several machines may have it in turns (EXT4_FEATURE_INCOMPAT_MMP): mounting waits as long as it says for them.
    pub is_shared: bool,
}

impl Ext4 {
    /// Reads a superblock of at least 0x154 bytes, whose magic was looked at.
    pub fn of(superblock: &[u8]) -> Option<Ext4> {
        let block_bits = u32_at(superblock, 0x18)?.checked_add(10).filter(|bits| *bits <= 16)?;
        let blocks = u64::from(u32_at(superblock, 0x150)?) << 32 | u64::from(u32_at(superblock, 4)?);
        let group = u64::from(u32_at(superblock, 0x20)?);
        let has_errors = superblock.get(0x3A)? & 2 != 0;
        Some(Ext4 { blocks, block_bits, group, has_errors, is_shared: u32_at(superblock, 0x60)? & 0x100 != 0 })
    }

    /// The blocks that it can grow to on a device of that many bytes; none where that would not be a group more.
    pub fn growth(self, bytes: u64) -> Option<u64> {
        let blocks = bytes >> self.block_bits;
        (self.group > 0 && blocks >= self.blocks.checked_add(self.group)?).then_some(blocks)
    }
}

/// The value of a key in a device's uevent file, if it has one; `key` has its `=`.
pub fn uevent<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))
}

/// The names in a module list: its lines that are not empty.
pub fn module_names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b'\n').filter(|name| !name.is_empty())
}

/// The number that a text begins with, and what is behind the blank after it, up to the line's end.
pub fn first_number(text: &[u8]) -> (u64, &[u8]) {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (digits, rest) = line.split_at_checked(at).unwrap_or((line, &[]));
    (number(digits), rest.strip_prefix(b" ").unwrap_or(rest))
}

/// The part of a text that is whole lines; none where there is no line's end.
pub fn whole_lines(text: &[u8]) -> Option<&[u8]> {
    text.get(..=text.iter().rposition(|byte| *byte == b'\n')?)
}

/// The names in lines of /proc/partitions (proc(5)): what follows the last blank. The heading names no device that is there.
pub fn device_names(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| line.rsplit(|byte| *byte == b' ').next())
}

/// Types of directory entries (linux/fs_types.h, FT_DIR and FT_REG_FILE as DT_DIR and DT_REG).
const DIRECTORY: u8 = 4;
const REGULAR: u8 = 8;

/// Names of the regular files and directories among entries as getdents64(2) gives them, and whether it is a directory: inode 8
/// bytes, offset 8, length of the entry 2, type 1, name. Not the directory itself, and what it is in.
pub fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (&CStr, bool)> {
    core::iter::from_fn(move || {
        loop {
            let (head, name) = bytes.split_first_chunk::<19>()?;
            let [.., low, high, kind] = *head;
            bytes = bytes.get(usize::from(u16::from_le_bytes([low, high])).max(1)..)?;
            if kind == REGULAR || kind == DIRECTORY {
                let name = CStr::from_bytes_until_nul(name).ok()?;
                if !matches!(name.to_bytes(), b"." | b"..") {
                    return Some((name, kind == DIRECTORY));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn erofs(bits: u8, blocks: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[..4].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
        bytes[12] = bits;
        bytes[36..40].copy_from_slice(&blocks.to_le_bytes());
        bytes
    }

    #[test]
    fn erofs_size_is_blocks_times_block_size() {
        assert_eq!(erofs_bytes(&erofs(12, 17_000)), Some(17_000 * 4096));
        assert_eq!(erofs_bytes(&erofs(16, u32::MAX)), Some(u64::from(u32::MAX) << 16));
        assert_eq!(erofs_bytes(&erofs(17, 1)), None);
        assert_eq!(erofs_bytes(&erofs(12, 1)[..39]), None);
        assert_eq!(erofs_bytes(&[0; SUPERBLOCK_BYTES]), None);
    }

    #[test]
    fn ext4_label_ends_at_its_padding() {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(ext4_label(&bytes), Some(&b""[..]));
        bytes[0x78..0x81].copy_from_slice(b"kios-data");
        assert_eq!(ext4_label(&bytes), Some(&b"kios-data"[..]));
        bytes[0x78..0x88].copy_from_slice(b"0123456789abcdef");
        assert_eq!(ext4_label(&bytes), Some(&b"0123456789abcdef"[..]));
        bytes[0x38] = 0;
        assert_eq!(ext4_label(&bytes), None);
    }

    #[test]
    fn ext4_grows_by_whole_groups() {
        let mut bytes = [0; 512];
        bytes[4..8].copy_from_slice(&8192u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x20..0x24].copy_from_slice(&32_768u32.to_le_bytes());
        bytes[0x3A] = 1;
        let small = Ext4 { blocks: 8192, block_bits: 12, group: 32_768, has_errors: false, is_shared: false };
        assert_eq!(Ext4::of(&bytes), Some(small));
        assert_eq!(small.growth(8192 << 12), None);
        assert_eq!(small.growth(((8192 + 32_768) << 12) - 1), None);
        assert_eq!(small.growth((8192 + 32_768) << 12), Some(8192 + 32_768));
        assert_eq!(Ext4 { group: 0, ..small }.growth(u64::MAX), None);
        assert_eq!(Ext4 { blocks: u64::MAX, ..small }.growth(u64::MAX), None);
        bytes[0x3A] = 3;
        bytes[0x150] = 1;
        let large = Ext4::of(&bytes).unwrap();
        assert!(large.has_errors && !large.is_shared);
        assert_eq!(large.blocks, (1 << 32) + 8192);
        bytes[0x61] = 1;
        assert!(Ext4::of(&bytes).unwrap().is_shared);
        bytes[0x18] = 7;
        assert_eq!(Ext4::of(&bytes), None);
    }

    #[test]
    fn uevent_has_whole_lines() {
        let text = b"MAJOR=254\nDEVNAME=vda2\nPARTN=2\nPARTNAME=kios-data\n";
        assert_eq!(uevent(text, b"PARTNAME="), Some(&b"kios-data"[..]));
        assert_eq!(uevent(text, b"PARTN="), Some(&b"2"[..]));
        assert_eq!(uevent(b"DEVNAME=vda\nDEVTYPE=disk\n", b"PARTNAME="), None);
        assert_eq!(uevent(b"XPARTNAME=kios-data\n", b"PARTNAME="), None);
    }

    #[test]
    fn a_number_comes_first() {
        assert_eq!(first_number(b"145232 4096 sha256 ab\nmore"), (145_232, &b"4096 sha256 ab"[..]));
        assert_eq!(first_number(b"7"), (7, &b""[..]));
        assert_eq!(first_number(b""), (0, &b""[..]));
    }

    #[test]
    fn module_names_are_lines() {
        let list = b"crc32c.ko\n\nnf-tables_1.ko\nlast.ko";
        let names: Vec<_> = module_names(list).collect();
        assert_eq!(names, [&b"crc32c.ko"[..], b"nf-tables_1.ko", b"last.ko"]);
    }

    #[test]
    fn a_cut_line_is_no_whole_one() {
        assert_eq!(whole_lines(b"a\nb\nnvme0n1"), Some(&b"a\nb\n"[..]));
        assert_eq!(whole_lines(b"a\n"), Some(&b"a\n"[..]));
        assert_eq!((whole_lines(b"nvme0n1"), whole_lines(b"")), (None, None));
    }

    #[test]
    fn device_names_end_their_lines() {
        let lines = b"major minor  #blocks  name\n\n 254        0    2097152 vda\n 254        1    1048576 vda1\n";
        assert_eq!(device_names(lines).collect::<Vec<_>>(), [&b"name"[..], b"", b"vda", b"vda1", b""]);
    }

    fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut bytes = vec![7; 16];
        bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
        bytes.push(kind);
        bytes.extend(name);
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn entries_are_files_and_directories() {
        let bytes =
            [entry(4, b"."), entry(8, b"dmesg-erst-1"), entry(4, b".."), entry(10, b"link"), entry(4, b"x")].concat();
        assert_eq!(entries(&bytes).collect::<Vec<_>>(), [(c"dmesg-erst-1", false), (c"x", true)]);
        assert_eq!(entries(&bytes[..bytes.len() - 1]).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (erofs_bytes(&bytes), Ext4::of(&bytes).and_then(|ext4| ext4.growth(u64::MAX)));
            let _ = uevent(&bytes, b"PARTNAME=");
            prop_assert!(entries(&bytes).count() <= bytes.len());
            prop_assert!(device_names(&bytes).all(|name| !name.contains(&b'\n')));
            prop_assert!(ext4_label(&bytes).is_none_or(|label| label.len() <= 16));
            prop_assert!(module_names(&bytes).all(|name| !name.is_empty() && !name.contains(&b'\n')));
        }
    }
}
