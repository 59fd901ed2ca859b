//! The file that is init: its size, its segments, and what must not be in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, LittleEndian};

/// The kinds of processors that it is for, and the bytes that it may have.
const FILES: [(&str, usize); 2] = [("x86_64", 69_632), ("aarch64", 69_632)];

/// Init's files, with the bytes that each may have.
fn files() -> impl Iterator<Item = (Vec<u8>, usize)> {
    FILES.into_iter().map(|(arch, budget)| {
        let built = format!("{}/target/{arch}-unknown-linux-gnu/release/init", env!("CARGO_MANIFEST_DIR"));
        let given = std::env::var("KIOS_INIT").ok().filter(|_| arch == std::env::consts::ARCH);
        let path = given.unwrap_or(built);
        let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run scripts/test.sh"));
        println!("{arch}: {} bytes of {budget}", file.len());
        (file, budget)
    })
}

fn segments(file: &[u8]) -> Vec<ProgramHeader64<LittleEndian>> {
    let header = FileHeader64::<LittleEndian>::parse(file).expect("an ELF file");
    header.program_headers(LittleEndian, file).unwrap().to_vec()
}

#[test]
fn size_is_within_the_budget() {
    for (file, budget) in files() {
        assert!(file.len() <= budget);
    }
}

#[test]
fn file_is_a_static_program_at_a_fixed_address() {
    for (file, _) in files() {
        let header = FileHeader64::<Endianness>::parse(&*file).unwrap();
        assert_eq!(header.e_type(Endianness::Little), elf::ET_EXEC);
        for segment in segments(&file) {
            let kind = segment.p_type(LittleEndian);
            assert!([elf::PT_LOAD, elf::PT_GNU_STACK].contains(&kind), "segment of type {kind:#x}");
        }
        // No other section: no relocations, symbols, tables to unwind by, nor anything the linker script did not place.
        let sections = header.sections(Endianness::Little, &*file).unwrap();
        for section in sections.iter() {
            let name = String::from_utf8_lossy(sections.section_name(Endianness::Little, section).unwrap());
            assert!(["", ".rodata", ".text", ".data", ".bss", ".shstrtab"].contains(&&*name), "section {name}");
        }
    }
}

#[test]
fn no_segment_is_writable_and_executable() {
    for (file, _) in files() {
        let mut stack = 0;
        for segment in segments(&file) {
            let flags = segment.p_flags(LittleEndian);
            assert_ne!(flags & (elf::PF_W | elf::PF_X), elf::PF_W | elf::PF_X, "flags {flags:#x}");
            if segment.p_type(LittleEndian) == elf::PT_GNU_STACK {
                assert_eq!(flags, elf::PF_R | elf::PF_W);
                stack += 1;
            }
        }
        assert_eq!(stack, 1, "without PT_GNU_STACK the kernel would make the stack executable");
    }
}

#[test]
fn nothing_formats_panics_or_names_the_machine_it_was_built_on() {
    for (file, _) in files() {
        let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
        for text in ["panicked", "called `", "index out of", "assertion", ".rs\0", "/.cargo/", "registry/src", "rustc"]
        {
            assert!(!has(text), "{text:?} is in the binary");
        }
        assert!(has("containerd"), "the search finds nothing at all");
    }
}
