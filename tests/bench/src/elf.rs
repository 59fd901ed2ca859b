//! What a program is made of, as files.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// What an ELF file asks for.
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    /// Directories to look in for the libraries.
    paths: Vec<String>,
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("text of an ELF file")?.to_owned())
}

fn needs(data: &[u8]) -> Result<Needs> {
    let header = FileHeader64::<Endianness>::parse(data).context("ELF header")?;
    let endian = header.endian().context("byte order")?;
    let mut needs = Needs { interpreter: None, libraries: Vec::new(), paths: Vec::new() };
    for segment in header.program_headers(endian, data).context("program headers")? {
        if let Some(path) = segment.interpreter(endian, data).context("interpreter")? {
            needs.interpreter = Some(text(path)?);
        }
    }
    let sections = header.sections(endian, data).context("sections")?;
    let Some((entries, strings)) = sections.dynamic(endian, data).context("dynamic section")? else { return Ok(needs) };
    let strings = sections.strings(endian, data, strings).context("strings")?;
    for entry in entries {
        let string = || text(entry.string(endian, strings).context("string of the dynamic section")?);
        match entry.tag32(endian) {
            Some(elf::DT_NEEDED) => needs.libraries.push(string()?),
            Some(elf::DT_RUNPATH | elf::DT_RPATH) => needs.paths.extend(string()?.split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(needs)
}

/// Bytes of the program `path` below `root`; and of it, its loader and all libraries that these need, each once.
pub fn bytes(root: &Path, path: &str) -> Result<(u64, u64)> {
    let program = real(root, path)?;
    let mut files = BTreeSet::new();
    // In the loader's order: a library that is there already, by its name, is not looked for again.
    let mut left = VecDeque::from([program.clone()]);
    let mut names = BTreeSet::new();
    while let Some(file) = left.pop_front() {
        let data = fs::read(&file).with_context(|| file.display().to_string())?;
        let needs = needs(&data).with_context(|| file.display().to_string())?;
        if let Some(interpreter) = &needs.interpreter {
            left.push_back(real(root, interpreter)?);
        }
        // Where it looks besides (ld.so(8)), on a Debian of this kind of processor.
        let usual = [format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH), "usr/lib".into(), "usr/lib64".into()];
        for library in needs.libraries {
            let mut places = needs.paths.iter().chain(&usual);
            if names.insert(library.clone()) {
                let found = places.find_map(|place| real(root, &format!("{place}/{library}")).ok());
                left.push_back(found.with_context(|| format!("{}: no {library}", file.display()))?);
            }
        }
        files.insert(file);
    }
    let size = |file: &PathBuf| fs::metadata(file).map(|file| file.len()).context("size");
    Ok((size(&program)?, files.iter().map(size).sum::<Result<u64>>()?))
}

/// The file behind links, which are relative in Debian's packages.
fn real(root: &Path, path: &str) -> Result<PathBuf> {
    let path = root.join(path.trim_start_matches('/'));
    path.canonicalize().with_context(|| path.display().to_string())
}
