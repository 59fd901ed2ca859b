//! The CIS benchmark's checks of a node (kube-bench, cfg/cis-1.10/node.yaml): its files (4.1), and the settings that a running
//! kubelet says it has (4.2).

use serde_json::Value;

/// Those files of 4.1 that a node has, which are root's alone (4.1.5 to 4.1.10). There is no unit of a service manager (4.1.1,
/// 4.1.2) and no proxy (4.1.3, 4.1.4); the authority's certificate is in the kubeconfig, and the kubeconfig that kubelet makes
/// where no pod sees it.
pub const FILES: &str = "for file in etc/kubernetes/bootstrap-kubelet.conf etc/kios/kubelet.yaml etc/kios/kubelet-in-cluster.yaml \
    var/lib/kubelet/pki/kubelet-client-current.pem var/lib/kubelet/pki/kubelet-server-current.pem; do \
    stat -c '%a %u:%g' /host$(readlink /host/$file || echo /$file); done | sort -u";

/// What is wrong with kubelet's `kubeletconfig`, as /configz has it.
pub fn wrong(config: &Value) -> Vec<&'static str> {
    let seconds = config["streamingConnectionIdleTimeout"].as_str().unwrap_or("0s");
    let strong = |suites: &Value| {
        suites.as_array().is_some_and(|suites| {
            !suites.is_empty() && suites.iter().all(|suite| !suite.as_str().unwrap().contains("CBC"))
        })
    };
    let checks = [
        ("4.2.1 anonymous", config["authentication"]["anonymous"]["enabled"] == false),
        (
            "4.2.2 authorization",
            config["authorization"]["mode"] == "Webhook" && config["authentication"]["webhook"]["enabled"] == true,
        ),
        (
            "4.2.3 client CA",
            config["authentication"]["x509"]["clientCAFile"].as_str().is_some_and(|file| !file.is_empty()),
        ),
        ("4.2.4 read-only port", config["readOnlyPort"].as_u64().unwrap_or(0) == 0),
        ("4.2.5 streaming connections", !["0s", "0"].contains(&seconds)),
        ("4.2.6 iptables", config["makeIPTablesUtilChains"] == true),
        ("4.2.8 events", config["eventRecordQPS"].as_i64().is_some_and(|rate| rate >= 0)),
        ("4.2.9 serving certificate", config["serverTLSBootstrap"] == true),
        ("4.2.10 rotation", config["rotateCertificates"] == true),
        ("4.2.11 rotation of the server's", config["featureGates"]["RotateKubeletServerCertificate"] != false),
        ("4.2.12 ciphers", config["tlsMinVersion"] == "VersionTLS13" || strong(&config["tlsCipherSuites"])),
        ("4.2.13 processes of a pod", config["podPidsLimit"].as_i64().is_some_and(|limit| limit > 0)),
        ("4.2.14 seccomp", config["seccompDefault"] == true),
        ("kernel defaults", config["protectKernelDefaults"] == true),
        ("profiling", config["enableProfilingHandler"] == false && config["enableDebugFlagsHandler"] == false),
    ];
    checks.into_iter().filter(|(_, good)| !good).map(|(name, _)| name).collect()
}
