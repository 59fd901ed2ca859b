//! What the nodes beside kios-init's own start by. As `init` of an initramfs it finds the root and its init; as `floor` it
//! is an init that does the least: mounts, loads modules, starts both services at once, and again the one that ends. As `ready` it says for services
//! that have no supervisor when they are ready.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use kios_init::plan::{self, Service};
use kios_init::sys::net;
use kios_init::sys::text::Text;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::wait;
use nix::unistd::{Pid, chdir, chroot, sethostname};

/// Disks, in the order of their places on the bus.
const DATA: &str = "/dev/vda";
const ROOT: &str = "/dev/vdb";
/// This program, where it is the init.
const FLOOR: &str = "/usr/bin/floor";

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    let done = match name.rsplit('/').next() {
        Some("init") => find_root(),
        Some("floor") => floor(),
        Some("ready") => ready(),
        _ => Err(anyhow::anyhow!("not called init, floor or ready")),
    };
    let Err(error) = done else { return };
    say(&format!("{name}: {error:#}"));
}

/// A line in the kernel's log, where all that is measured is read.
fn say(text: &str) {
    let _ = fs::write("/dev/kmsg", format!("<5>bench: {text}"));
}

fn attach(source: &str, place: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(source), place, Some(kind), flags, Some(options)).with_context(|| format!("mount {place}"))
}

fn load(directory: &str, list: &str) -> Result<()> {
    let names = fs::read_to_string(format!("{directory}/{list}")).context("list of modules")?;
    for name in names.lines() {
        let file = File::open(format!("{directory}/{name}")).with_context(|| name.to_owned())?;
        // Drivers of devices that are not there fail.
        let _ = finit_module(&file, c"", ModuleInitFlags::empty());
    }
    Ok(())
}

/// The root is the initramfs itself, where it holds one, else a disk's; it becomes the file system that the init sees.
fn find_root() -> Result<()> {
    attach("devtmpfs", "/dev", "devtmpfs", MsFlags::empty(), "")?;
    load("/modules", "order")?;
    if Path::new("/etc/kios").is_dir() {
        // A container's root cannot be changed on the first mount of all, but on this one.
        mount(Some("/"), "/newroot", None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind the root")?;
    } else {
        attach(ROOT, "/newroot", "erofs", MsFlags::MS_RDONLY, "")?;
    }
    chdir("/newroot").context("enter the root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move the root")?;
    chroot(".").context("chroot")?;
    let init = if Path::new(FLOOR).exists() { FLOOR } else { "/sbin/init" };
    Err(Command::new(init).exec()).context(init)
}

fn text(text: Text) -> Result<&'static str> {
    text.get().to_str().context("text of the plan")
}

/// Mounts and settings as the plan has them, and both services.
fn floor() -> Result<()> {
    for each in plan::MOUNTS {
        let flags = MsFlags::from_bits_truncate(each.flags.bits().into());
        let (kind, place) = (text(each.kind)?, text(each.target)?);
        let _ = fs::create_dir(place);
        let _ = attach(kind, place, kind, flags, text(each.data)?);
    }
    load("/usr/lib/kios/modules", "floor")?;
    for line in plan::SYSCTLS.split(|&byte| byte == b'\n') {
        if let Some((name, value)) = std::str::from_utf8(line)?.split_once('=') {
            let _ = fs::write(format!("/proc/sys/{name}"), value);
        }
    }
    attach(DATA, "/data", "ext4", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "")?;
    for (directory, _) in plan::DATA_DIRECTORIES {
        fs::create_dir_all(Path::new("/data").join(text(*directory)?)).context("make directory")?;
    }
    for (from, place) in plan::DATA_BINDS {
        mount(Some(text(*from)?), text(*place)?, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind")?;
    }
    // /etc/hosts and /etc/machine-id lead there.
    attach("tmpfs", "/kios", "tmpfs", MsFlags::empty(), "")?;
    fs::write("/kios/hosts", "127.0.0.1 localhost\n").context("hosts")?;
    fs::write("/kios/machine-id", "0123456789abcdef0123456789abcdef\n").context("machine-id")?;
    fs::create_dir(plan::RESOLV.to_str()?).context("make directory")?;
    fs::write(plan::RESOLV_CONF.to_str()?, "").context("resolv.conf")?;
    for (target, link) in plan::LINKS {
        let _ = symlink(text(*target)?, text(*link)?);
    }
    sethostname("bench").context("host name")?;
    net::loopback_up().map_err(|errno| anyhow::anyhow!("loopback: {errno}"))?;
    let tree = Path::new(plan::CGROUP_ROOT.to_str()?);
    for (group, ..) in plan::CGROUPS {
        fs::create_dir(tree.join(text(*group)?)).context("make cgroup")?;
    }
    for parent in ["", plan::PODRUNTIME.to_str()?] {
        for controller in plan::CONTROLLERS {
            let _ = fs::write(tree.join(parent).join("cgroup.subtree_control"), text(*controller)?);
        }
    }
    let mut running = Vec::new();
    for service in &plan::SERVICES {
        listen(text(service.name)?)?;
        running.push((start(service)?, service));
    }
    // Kubelet does not wait for a runtime that comes late.
    while let Some(ended) = wait()?.pid() {
        if let Some((id, service)) = running.iter_mut().find(|(id, _)| *id == ended) {
            *id = start(service)?;
        }
    }
    bail!("a child that has not ended")
}

fn start(service: &Service) -> Result<Pid> {
    let name = text(service.name)?;
    let strings = |list: &[&'static CStr]| list.iter().map(|text| text.to_str()).collect::<Result<Vec<_>, _>>();
    let mut command = Command::new(Path::new("/").join(text(service.program)?));
    for argument in &strings(service.arguments)?[1..] {
        match argument.split_once("/proc/self/fd/") {
            Some((option, _)) => command.arg(format!("{option}/{}", text(service.configs[0])?)),
            None => command.arg(argument),
        };
    }
    command.env_clear().envs(strings(service.environment)?.iter().filter_map(|pair| pair.split_once('=')));
    command.env_remove("WATCHDOG_USEC").env("NOTIFY_SOCKET", format!("/run/{name}.notify"));
    let log = File::create(format!("/var/log/{name}.log")).context("log")?;
    command.stdout(log.try_clone().context("log")?).stderr(log);
    let child = command.spawn().with_context(|| name.to_owned())?;
    let procs = Path::new(plan::CGROUP_ROOT.to_str()?).join(text(service.cgroup)?).join("cgroup.procs");
    fs::write(procs, child.id().to_string()).context("enter cgroup")?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Says when a service is ready (sd_notify(3)).
fn listen(name: &'static str) -> Result<()> {
    let socket = UnixDatagram::bind(format!("/run/{name}.notify")).context("notify socket")?;
    thread::spawn(move || {
        let mut space = [0; 4096];
        while let Ok(length) = socket.recv(&mut space) {
            if space[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
                say(&format!("{name} ready"));
            }
        }
    });
    Ok(())
}

fn ready() -> Result<()> {
    for service in &plan::SERVICES {
        listen(text(service.name)?)?;
    }
    loop {
        thread::park();
    }
}
