//! A node that its cluster does not want, or that cannot reach it: its own pods run, the console says why, and it comes back by
//! itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Bed, Member, client_requests, disk, join};
use crate::gate::scenario;
use crate::image::run;
use crate::lines::power_off;
use crate::vm::until;

/// What kubelet has for its certificate: a link leads there.
const KEPT: &str = "/host$(readlink /host/var/lib/kubelet/pki/kubelet-client-current.pem)";

const SILENT: &str = "kubelet: the API server does not answer";
const REFUSED: &str = "kubelet: the API server does not let it in: token or certificate refused";
const FOREIGN: &str = "kubelet: the API server's certificate is not of the kubeconfig's authority";
const OVER: &str = "kubelet: the API server is no more trouble";

/// Seconds of a clock that was put forward.
const HOUR: u64 = 3_600;

impl Member<'_> {
    /// Has kubelet begin anew, as it is now; where on the console that is.
    fn restart(&mut self) -> usize {
        let from = self.vm.here();
        self.vm.sh("kill -KILL $(pidof kubelet)");
        from
    }

    /// The same with another client certificate, valid from an hour ago until `left` seconds from now.
    fn restart_with(&mut self, left: i64) -> (usize, String) {
        let certificate = self.bed.certificate(&self.name, left);
        self.vm.sh(&format!("cat >{KEPT} <<'END'\n{certificate}END"));
        (self.restart(), certificate)
    }

    /// Waits for what the console must say, at `from` or later.
    fn says(&self, from: usize, text: &str) {
        let (_, line) = self.vm.wait_after(from, text);
        self.scenario.note(&line);
    }
}

impl Bed {
    /// Takes the nodes' token away, or gives it back.
    fn revoke(&self, revoked: bool) {
        let secret = self.dir().join("pki/token.yaml");
        self.kubectl(&[if revoked { "delete" } else { "apply" }, "-f", secret.to_str().unwrap()]);
    }

    /// A client certificate for a node, with its key, of the cluster's authority.
    fn certificate(&self, node: &str, left: i64) -> String {
        let script = r#"
            cd "$1"; rm -rf made; mkdir made; cd made
            openssl req -new -newkey rsa:2048 -noenc -keyout key -subj "/O=system:nodes/CN=system:node:$2" -out csr
            : >index
            printf '%s\n' '[ca]' 'default_ca = own' '[own]' 'database = index' 'new_certs_dir = .' 'rand_serial = yes' \
                'default_md = sha256' 'policy = any' 'x509_extensions = client' '[any]' 'O = optional' 'CN = supplied' \
                '[client]' 'extendedKeyUsage = clientAuth' 'keyUsage = digitalSignature' >config
            at() { date -u -d "@$(($(date +%s) + $1))" +%Y%m%d%H%M%SZ; }
            openssl ca -batch -config config -cert ../ca.crt -keyfile ../ca.key -notext -in csr -out crt \
                -startdate "$(at -3600)" -enddate "$(at "$3")"
            cat crt key"#;
        let mut command = Command::new("bash");
        command.args(["-euc", script, "bash"]).arg(self.dir().join("pki")).arg(node).arg(left.to_string());
        run(&mut command)
    }

    /// Puts the certificate of a stranger in the place of the API server's, or takes it off again.
    fn impersonate(&self, is_other: bool) {
        let pki = self.dir().join("pki");
        if is_other {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=stranger"]);
            openssl.args(["-addext", "subjectAltName=IP:10.0.2.100"]);
            run(openssl.arg("-keyout").arg(pki.join("other.key")).arg("-out").arg(pki.join("other.crt")));
        }
        for kind in ["crt", "key"] {
            let (own, kept, other) =
                ["apiserver", "kept", "other"].map(|name| pki.join(name).with_extension(kind)).into();
            let swap = |from: &Path, to: &Path| fs::rename(from, to).unwrap();
            if is_other {
                fs::copy(&own, &kept).unwrap();
                swap(&other, &own);
            } else {
                swap(&kept, &own);
            }
        }
        // It looks at the files itself, now and then.
        let shown = if is_other { "stranger" } else { "kube-apiserver" };
        let look = "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -subject";
        until("API server with that certificate", || {
            let output = self.inside("bash", &["-c", look]);
            String::from_utf8_lossy(&output.stdout).contains(shown).then_some(())
        });
    }
}

#[test]
fn cut_off_from_its_cluster() {
    scenario("cut_off_from_its_cluster", 2, |scenario| {
        let bed = Bed::start("away");
        bed.revoke(true);
        let disk = disk("away.ext4");
        let mut member = join(scenario, &bed, &disk);
        member.says(0, REFUSED);
        member.vm.wait_for("container-a: hello 1");
        let hello = member.vm.sh("pidof hello");
        bed.revoke(false);
        member.comes_back(0);

        // Renewed in time, by the certificate itself.
        let (_, old) = member.restart_with(120);
        until("another certificate", || (member.vm.sh(&format!("cat {KEPT}")) != old.trim_end()).then_some(()));
        member.comes_back(0);
        let own = format!("system:node:{}", member.name);
        assert_eq!(client_requests(&bed), ["system:bootstrap:kios00", own.as_str()]);

        // Expired, and no token.
        bed.revoke(true);
        let (from, _) = member.restart_with(-60);
        member.says(from, REFUSED);
        bed.revoke(false);
        member.comes_back(0);

        bed.impersonate(true);
        let from = member.restart();
        member.says(from, FOREIGN);
        bed.impersonate(false);
        member.comes_back(0);

        // Away for an hour, in which its certificate expires; a kubelet that starts meanwhile starts a new pod.
        bed.freeze(true);
        let (from, _) = member.restart_with(30);
        let began = SystemTime::now();
        member.says(from, SILENT);
        member.vm.sh(&format!("date -s @$(($(date +%s) + {HOUR}))"));
        let pods = "/host/etc/kubernetes/manifests";
        member.vm.sh(&format!(
            "sed 's/name: container-a/name: newcomer/' {pods}/container-a.yaml >{pods}.new; mv {pods}.new {pods}/newcomer.yaml"
        ));
        member.vm.wait_after(from, "container-a: hello 1");
        let expired = Duration::from_secs(31);
        until("end of the certificate", || (began.elapsed().unwrap() > expired).then_some(()));
        assert!(!member.vm.lines()[from..].iter().any(|line| line.contains(OVER)));
        let from = member.vm.here();
        bed.freeze(false);
        member.comes_back(HOUR);
        member.says(from, OVER);

        let pids = member.vm.sh("pidof hello");
        assert!(pids.split(' ').any(|pid| pid == hello), "{hello} of {pids}: a static pod did not run all the time");
        assert!(!member.vm.lines().iter().any(|line| line.contains("kubelet") && line.contains("exited with")));
        power_off(scenario, &mut member.vm);
        fs::remove_file(&disk).unwrap();
    });
}
