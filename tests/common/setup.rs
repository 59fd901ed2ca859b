//! A prepared root directory, and the launch of init over it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};

use kios_init::plan;

use super::layout::{DIRECTORIES, OWNER};
use super::log::Log;
use super::machine::{Cgroup, Machine, Root};
use super::process::Process;
use super::{init, stand_in};

/// Where the stand-in's interpreter and libraries are.
const LIBRARIES: &[&str] = &["lib", "lib64", "usr/lib", "usr/lib64"];

/// What a test's init is to find.
pub struct Setup {
    root: Root,
    binds: Vec<(PathBuf, String)>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A root with both services, whose stand-ins do as the scripts say, and with /dev/null alone in /dev.
    pub fn new(containerd: &str, kubelet: &str) -> Setup {
        assert!(nix::unistd::geteuid().is_root(), "namespace tests map user ids and make cgroups: run them as root");
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kios-test-{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = Root(Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name));
        let mut setup = Setup { root, binds: Vec::new(), arguments: vec!["/init".into()], environment: Vec::new() };
        for directory in DIRECTORIES {
            setup.directory(directory);
        }
        for library in LIBRARIES {
            match fs::read_link(Path::new("/").join(library)) {
                Ok(target) => symlink(target, setup.path(library)).expect("link"),
                Err(_) if Path::new("/").join(library).is_dir() => {
                    setup.directory(library);
                    setup.binds.push((Path::new("/").join(library), format!("/{library}")));
                }
                Err(_) => {}
            }
        }
        fs::copy(init(), setup.path("init")).expect("copy init");
        for (service, script) in plan::SERVICES.iter().zip([containerd, kubelet]) {
            fs::copy(stand_in(), setup.path(text(service.program))).expect("copy stand-in");
            for config in service.configs {
                fs::write(setup.path(text(config)), script).expect("write configuration");
            }
        }
        setup.device("/dev/null", "/dev/null")
    }

    /// A path below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.0.join(path.trim_start_matches('/'))
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.path(path)).expect("make directory");
        chown(self.path(path), Some(OWNER), Some(OWNER)).expect("chown");
    }

    /// Puts the file `host` at `place`.
    pub fn device(mut self, host: impl AsRef<Path>, place: &str) -> Setup {
        fs::write(self.path(place), "").expect("make mount point");
        self.binds.push((host.as_ref().into(), place.into()));
        self
    }

    /// Links init to a second name, as the kernel's own root has it.
    pub fn with_init_as(self, path: &str) -> Setup {
        fs::hard_link(self.path("init"), self.path(path)).expect("link init");
        self
    }

    /// Removes a file.
    pub fn without(self, path: &str) -> Setup {
        fs::remove_file(self.path(path)).expect("remove");
        self
    }

    /// Changes the mode of a file.
    pub fn mode(self, path: &str, mode: u32) -> Setup {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("chmod");
        self
    }

    /// What init is called with: all of argv, and the environment.
    pub fn called(mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Setup {
        self.arguments = arguments.iter().map(|&argument| argument.into()).collect();
        self.environment = environment.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// Runs init as process 1.
    pub fn boot(self) -> Machine {
        let name = self.root.0.file_name().expect("name").to_str().expect("name");
        let cgroup = Cgroup::new(name);
        let procs = cgroup.as_ref().map_or("-".into(), |cgroup| cgroup.0.join("cgroup.procs"));
        let binds = self.binds.iter().map(|(host, place)| format!("{}={place}", host.display()));
        let mut launcher = Command::new(stand_in());
        launcher.arg("launch").arg(&self.root.0).arg(procs).args(binds).arg("--").args(&self.arguments);
        launcher.env_clear().envs(self.environment.clone()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut launcher = launcher.spawn().expect("launch");
        let mut lines = BufReader::new(launcher.stdout.take().expect("pipe"));
        let mut first = String::new();
        lines.read_line(&mut first).expect("launcher's first line");
        let Ok(pid) = first.trim().parse() else {
            panic!("no namespaces for init ({:?}); its reason is above", launcher.wait())
        };
        Machine { init: Process(pid), log: Log::new(lines), launcher, cgroup, root: self.root }
    }
}

/// The plan's text as a string.
pub fn text(text: kios_init::sys::text::Text) -> &'static str {
    text.get().to_str().expect("UTF-8")
}
