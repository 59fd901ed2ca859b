//! The inits that are compared, and how each is started: as its own documentation has it, with one child that does
//! nothing. The files that one needs besides are in `peers/`, in the directory of its name.

/// What surrounds an init when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node's root image, where nothing is mounted, with both services.
    Node,
    /// What a container manager gives: /proc, /sys, /dev, /run, /tmp and a cgroup tree are mounted.
    Container,
}

/// An init.
pub struct Peer {
    /// Its name in the table.
    pub name: &'static str,
    /// The Debian package that has it. None for the project's own.
    pub package: Option<&'static str>,
    /// What is started, and measured as its file.
    pub program: &'static str,
    /// Arguments, its own name first.
    pub arguments: &'static [&'static str],
    /// Environment.
    pub environment: &'static [&'static str],
    /// What surrounds it.
    pub kind: Kind,
    /// Names of the programs that it keeps alive; it has started once all of them run.
    pub services: &'static [&'static str],
    /// What it prints by then.
    pub says: Option<&'static str>,
}

const PATH: &[&str] = &["PATH=/usr/sbin:/usr/bin"];

/// One from a package of Debian.
const fn debian(package: &'static str, program: &'static str, arguments: &'static [&'static str]) -> Peer {
    Peer {
        name: package,
        package: Some(package),
        program,
        arguments,
        environment: PATH,
        kind: Kind::Container,
        services: &["idle"],
        says: None,
    }
}

/// All of them, in the order of the table.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "waitpid-loop",
        package: None,
        program: "/floor",
        arguments: &["/floor"],
        environment: &[],
        kind: Kind::Container,
        services: &["floor"],
        says: None,
    },
    Peer {
        name: "kios-init",
        package: None,
        program: "/init",
        arguments: &["/init"],
        environment: &[],
        kind: Kind::Node,
        services: &["containerd", "kubelet"],
        says: Some("kubelet ready"),
    },
    debian("tini", "/usr/bin/tini", &["tini", "--", "/idle"]),
    debian("dumb-init", "/usr/bin/dumb-init", &["dumb-init", "/idle"]),
    debian("catatonit", "/usr/bin/catatonit", &["catatonit", "/idle"]),
    Peer { name: "busybox-init", ..debian("busybox-static", "/usr/bin/busybox", &["init"]) },
    debian("runit", "/usr/sbin/runit", &["runit"]),
    Peer { name: "s6-svscan", ..debian("s6", "/usr/bin/s6-svscan", &["s6-svscan", "/service"]) },
    Peer { name: "sysvinit", ..debian("sysvinit-core", "/usr/sbin/init", &["init"]) },
    Peer { name: "openrc-init", ..debian("openrc", "/usr/sbin/openrc-init", &["openrc-init"]) },
    // By this variable both know a container: finit those of a few names, systemd any (systemd.io/CONTAINER_INTERFACE).
    Peer {
        environment: &["PATH=/usr/sbin:/usr/bin", "container=unshare"],
        ..debian("finit", "/usr/sbin/finit", &["finit"])
    },
    Peer {
        environment: &["PATH=/usr/sbin:/usr/bin", "container=unshare"],
        ..debian("systemd", "/usr/lib/systemd/systemd", &["systemd"])
    },
];
