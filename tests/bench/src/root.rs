//! The root directory of an init: its own files over Debian's, new for each start.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kios_init::plan;
use nix::mount::{MsFlags, mount};

use crate::layout::{DIRECTORIES, OWNER};
use crate::peers::{Kind, Peer};

/// Devices that containers have (the OCI's runtime specification, config-linux.md, Default Devices).
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Where things are on this machine.
pub struct Places {
    /// `tree`, the unpacked packages, and `versions`, their names.
    pub debian: PathBuf,
    /// The project's own programs.
    pub programs: PathBuf,
    /// An empty directory.
    pub work: PathBuf,
}

impl Places {
    /// Where the root of an init is, in its mount namespace.
    pub fn root(&self) -> PathBuf {
        self.work.join("root/root")
    }

    /// What an init prints.
    pub fn log(&self, peer: &Peer) -> PathBuf {
        self.work.join(format!("{}.log", peer.name))
    }

    /// The directory that `peer`'s program comes from.
    pub fn origin(&self, peer: &Peer) -> PathBuf {
        if peer.package.is_some() { self.debian.join("tree") } else { self.programs.clone() }
    }
}

fn attach(source: &str, place: &Path, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(source), place, Some(kind), flags, Some(options)).with_context(|| format!("mount {}", place.display()))
}

fn bind(source: &Path, place: &Path) -> Result<()> {
    fs::write(place, "").with_context(|| place.display().to_string())?;
    mount(Some(source), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {}", place.display()))
}

/// Puts the root together, in a mount namespace of the caller's own: an overlay, of which only the part in memory is
/// written, and only `peer`'s own directories are its to write.
pub fn assemble(places: &Places, peer: &Peer) -> Result<()> {
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make mounts private")?;
    let base = places.work.join("root");
    fs::create_dir_all(&base).context("make the root's mount point")?;
    attach("bench", &base, "tmpfs", MsFlags::empty(), "mode=0755")?;
    let (upper, work, root) = (base.join("upper"), base.join("work"), base.join("root"));
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory).context("make directory")?;
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer.name);
    if own.is_dir() {
        copy(&own, &upper)?;
    }
    let lower = match peer.kind {
        Kind::Node => {
            furnish(&places.programs, &upper)?;
            places.programs.display().to_string()
        }
        Kind::Container => {
            for directory in ["dev", "proc", "run", "sys", "tmp"] {
                fs::create_dir_all(upper.join(directory)).context("make directory")?;
            }
            format!("{}:{}", places.programs.display(), places.debian.join("tree").display())
        }
    };
    give(&upper)?;
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    attach("overlay", &root, "overlay", MsFlags::empty(), &options)
}

/// Mounts what the starter of `peer` does, as root of its namespaces.
pub fn equip(places: &Places, peer: &Peer) -> Result<()> {
    let root = places.root();
    let dev = root.join("dev");
    if peer.kind == Kind::Node {
        return bind(Path::new("/dev/null"), &dev.join("null"));
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let api = safe | MsFlags::MS_NOEXEC;
    attach("proc", &root.join("proc"), "proc", api, "")?;
    attach("sysfs", &root.join("sys"), "sysfs", api | MsFlags::MS_RDONLY, "")?;
    attach("cgroup2", &root.join("sys/fs/cgroup"), "cgroup2", api, "")?;
    attach("tmpfs", &root.join("run"), "tmpfs", safe, "mode=0755")?;
    attach("tmpfs", &root.join("tmp"), "tmpfs", safe, "mode=1777")?;
    attach("tmpfs", &dev, "tmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    for device in DEVICES {
        bind(&Path::new("/dev").join(device), &dev.join(device))?;
    }
    // What is said there is not measured.
    bind(Path::new("/dev/null"), &dev.join("console"))?;
    for directory in ["pts", "shm"] {
        fs::create_dir(dev.join(directory)).context("make directory")?;
    }
    attach("devpts", &dev.join("pts"), "devpts", MsFlags::MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620")
}

/// A node's root: both services with their configurations.
fn furnish(programs: &Path, root: &Path) -> Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory)).context("make directory")?;
    }
    let text =
        |text: kios_init::sys::text::Text| text.get().to_str().context("path of the plan").map(|path| root.join(path));
    for service in &plan::SERVICES {
        fs::copy(programs.join("idle"), text(service.program)?).context("copy idle")?;
        for config in service.configs {
            fs::write(text(config)?, "").context("write configuration")?;
        }
    }
    Ok(())
}

/// Copies what is in `from` to the directory `to`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry.context("entry")?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().context("type")?;
        if kind.is_dir() {
            fs::create_dir_all(&target).context("make directory")?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source).context("read link")?, &target).context("make link")?;
        } else {
            fs::copy(&source, &target).context("copy")?;
        }
    }
    Ok(())
}

/// Makes all of `path` the user namespace's root's.
fn give(path: &Path) -> Result<()> {
    lchown(path, Some(OWNER), Some(OWNER)).with_context(|| format!("chown {}", path.display()))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).context("directory")? {
            give(&entry.context("entry")?.path())?;
        }
    }
    Ok(())
}
