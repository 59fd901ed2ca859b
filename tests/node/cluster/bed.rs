//! The control plane that a node joins: scripts/cluster.sh, used as a person does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::image::run;
use crate::vm::{repository, scratch, until};

/// One that runs. Dropping it ends it.
pub struct Bed {
    dir: PathBuf,
}

impl Bed {
    /// Starts a new one.
    pub fn start(name: &str) -> Bed {
        let dir = scratch(name);
        let bed = Bed { dir };
        bed.down();
        let _ = fs::remove_dir_all(&bed.dir);
        bed.up();
        bed
    }

    fn script(&self) -> Command {
        let mut command = Command::new(repository("scripts/cluster.sh"));
        command.arg("--dir").arg(&self.dir);
        command
    }

    /// Starts it again.
    pub fn up(&self) {
        run(self.script().arg("up"));
    }

    /// Ends it; what it knows stays.
    pub fn down(&self) {
        run(self.script().arg("down"));
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What kubectl says, whatever its status.
    pub fn attempt(&self, arguments: &[&str]) -> Output {
        self.script().arg("kubectl").args(arguments).output().expect("cluster.sh")
    }

    /// What kubectl says; it must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(self.script().arg("kubectl").args(arguments)).trim_end().to_owned()
    }

    /// An object.
    pub fn get(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[&["get", "-o", "json"], arguments].concat())).expect("JSON")
    }

    /// Applies files of tests/pods/cluster.
    pub fn apply(&self, pods: &[&str]) {
        for pods in pods {
            self.kubectl(&["apply", "-f", repository(&format!("tests/pods/cluster/{pods}.yaml")).to_str().unwrap()]);
        }
    }

    /// What kubectl does for long; ended when dropped.
    pub fn beside(&self, arguments: &[&str]) -> Beside {
        Beside(self.script().arg("kubectl").args(arguments).spawn().expect("cluster.sh"))
    }

    /// Runs a program where the control plane is.
    pub fn inside(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "-U", "-n", "-t", &self.children()[0], "--", program]).args(arguments);
        command.output().expect("nsenter")
    }

    /// Whether the API server stands still from now on: what is asked of it gets no answer.
    pub fn freeze(&self, still: bool) {
        let server = self.children().into_iter().find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("kube-apiserver")
        });
        let server = Pid::from_raw(server.expect("the API server").parse().expect("a pid"));
        kill(server, if still { Signal::SIGSTOP } else { Signal::SIGCONT }).expect("kill");
    }

    /// Those of its first process.
    fn children(&self) -> Vec<String> {
        let pid = fs::read_to_string(self.dir.join("pid")).expect("pid");
        children(&children(pid.trim())[0])
    }

    /// Approves the certificate that a node's server asked for, as whoever runs a cluster does.
    pub fn approve_server(&self, node: &str) {
        let name = until("a request for a serving certificate", || {
            let all = self.get(&["csr"]);
            all["items"].as_array().unwrap().iter().find_map(|csr| {
                let pending = csr["status"]["conditions"].is_null();
                let ours = csr["spec"]["username"] == format!("system:node:{node}");
                let serving = csr["spec"]["signerName"] == "kubernetes.io/kubelet-serving";
                (pending && ours && serving).then(|| csr["metadata"]["name"].as_str().unwrap().to_owned())
            })
        });
        self.kubectl(&["certificate", "approve", &name]);
    }
}

/// The children of a process.
fn children(pid: &str) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    list.split_whitespace().map(str::to_owned).collect()
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["apiserver", "controller-manager", "scheduler", "etcd", "bed"] {
                let text = fs::read_to_string(self.dir.join("log").join(log)).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                eprintln!("---- {log}\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
            }
        }
        let _ = self.script().arg("down").status();
    }
}

/// A process that runs beside the test.
pub struct Beside(std::process::Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
