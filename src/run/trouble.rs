//! What keeps kubelet from its cluster, told by what it prints: a node has no other way to say so than its console.

use crate::plan::{self, Millis};
use crate::sys::text::Text;

/// What was told of it last. A node's network is up only once a pod has made it: what is over by then is not told.
#[derive(Default)]
pub struct Trouble {
    told: Option<Text>,
    /// When another one may be told.
    due: Millis,
    /// When it is over, unless it is heard of again.
    past: Option<Millis>,
}

impl Trouble {
    /// Hears what kubelet printed at `now`, in milliseconds since power-on; what is to be told.
    pub fn hear(&mut self, printed: &[u8], now: Millis) -> Option<Text> {
        let said = plan::TROUBLE_AT.iter().find_map(|site| after(printed, site))?;
        let line = said.split(|byte| *byte == b'\n').next()?;
        let (_, found) = plan::TROUBLES.iter().find(|(sign, _)| after(line, sign).is_some())?;
        let pause = now.saturating_add(plan::TROUBLE_PAUSE);
        if self.past.replace(now.saturating_add(plan::TROUBLE_PAST)).is_none() {
            self.due = pause;
        }
        if now < self.due || self.told.is_some_and(|told| told.get() == found.get()) {
            return None;
        }
        self.due = pause;
        self.told = Some(*found);
        self.told
    }

    /// When it is over, in milliseconds since power-on, if there is any.
    pub fn past(&self) -> Option<Millis> {
        self.past
    }

    /// It was not heard of until then: what is to be told.
    pub fn over(&mut self) -> Option<Text> {
        core::mem::take(self).told.map(|_| plan::TROUBLE_OVER)
    }
}

/// What comes after the first `text` in `bytes`.
fn after<'a>(mut bytes: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    loop {
        match bytes.strip_prefix(text) {
            None => bytes = bytes.get(1..)?,
            rest => return rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str =
        "E1127 02:50:12.123456      77 controller.go:145] \"Failed to ensure lease exists, will retry\" err=\"";

    fn heard(text: &str) -> Option<&'static str> {
        let mut trouble = Trouble::default();
        assert!(trouble.hear(text.as_bytes(), 1).is_none());
        trouble.hear(text.as_bytes(), 1 + plan::TROUBLE_PAUSE).map(|text| text.get().to_str().unwrap())
    }

    #[test]
    fn each_state_has_its_line() {
        let get = "Get \\\"https://10.0.2.100:6443/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/kios?timeout=10s\\\"";
        let no_answer = " does not answer";
        for (error, told) in [
            (format!("{get}: dial tcp 10.0.2.100:6443: connect: connection refused"), no_answer),
            (format!("{get}: context deadline exceeded"), no_answer),
            (
                format!("{get}: tls: failed to verify certificate: x509: certificate signed by unknown authority"),
                "'s certificate is not of the kubeconfig's authority, or not for its name",
            ),
            (
                format!(
                    "{get}: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time"
                ),
                "'s certificate has expired, or the clock is wrong",
            ),
            ("Unauthorized".to_owned(), " refuses its token or certificate"),
        ] {
            assert_eq!(heard(&format!("{LEASE}{error}\" interval=\"7s\"\n")), Some(told), "{error}");
        }
        let request = "E1127 03:09:07.000001 1 certificate_manager.go:562] \"Failed while requesting a signed certificate from the \
            control plane\" err=\"cannot create certificate signing request: Unauthorized\"";
        assert_eq!(heard(request), Some(" refuses its token or certificate"));
    }

    #[test]
    fn the_rest_is_none() {
        for text in [
            "",
            "\n\n",
            // While it has no certificate yet.
            &format!("{LEASE}leases.coordination.k8s.io \\\"kios\\\" is forbidden: User \\\"system:anonymous\\\"\"\n"),
            &format!("{LEASE}\n"),
            "E1127 prober.go:1] \"Probe failed\" output=\"Get \\\"https://10.244.0.3/\\\": connect: connection refused\"",
            "E1127 reflector.go:204] \"Failed to watch\" err=\"Unauthorized\"\nI1127 \"Failed to ensure lease exists\"\nUnauthorized",
        ] {
            assert_eq!(heard(text), None, "{text}");
        }
    }

    #[test]
    fn it_is_told_once_and_its_end() {
        let mut trouble = Trouble::default();
        let (refused, away) = (format!("{LEASE}Unauthorized\""), format!("{LEASE}Get \\\"https://x\\\": EOF\""));
        assert!(trouble.past().is_none());
        // At first it may pass by itself.
        assert!(trouble.hear(refused.as_bytes(), 10).is_none());
        assert!(trouble.past().is_some() && trouble.over().is_none() && trouble.past().is_none());
        assert!(trouble.hear(refused.as_bytes(), 10).is_none());
        assert!(trouble.hear(refused.as_bytes(), 9 + plan::TROUBLE_PAUSE).is_none());
        assert!(trouble.hear(refused.as_bytes(), 10 + plan::TROUBLE_PAUSE).is_some());
        assert!(trouble.hear(refused.as_bytes(), 10 + 2 * plan::TROUBLE_PAUSE).is_none());
        let later = 20 + 2 * plan::TROUBLE_PAUSE;
        assert!(trouble.hear(away.as_bytes(), later).is_some());
        // Not by turns all the time.
        assert!(trouble.hear(refused.as_bytes(), later + 1).is_none());
        assert_eq!(trouble.past(), Some(later + 1 + plan::TROUBLE_PAST));
        assert_eq!(trouble.over().unwrap().get(), plan::TROUBLE_OVER.get());
        assert!(trouble.past().is_none());
    }
}
