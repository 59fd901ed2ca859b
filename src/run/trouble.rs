//! What keeps kubelet from its cluster, told by what it prints: a node has no other way to say so than its console.

use crate::plan::{self, Millis};
use crate::sys::text::Text;

/// What was heard and told of it.
#[derive(Default)]
pub struct Trouble {
    /// Whether a line goes on.
    within: bool,
    told: Option<Text>,
    /// When one may be told.
    due: Millis,
    /// When it is over, unless it is heard of again.
    past: Option<Millis>,
}

impl Trouble {
    /// Hears what kubelet printed at `now`, in milliseconds since power-on; what is to be told.
    pub fn hear(&mut self, printed: &[u8], now: Millis) -> Option<Text> {
        let found = self.whole(printed)?;
        if self.past.is_none() {
            self.due = now.saturating_add(plan::TROUBLE_PAUSE);
        }
        let is_told = now >= self.due && self.told.is_none_or(|told| told.get() != found.get());
        if is_told {
            self.due = now.saturating_add(plan::TROUBLE_GAP);
            self.told = Some(found);
        }
        let lasts = if self.told.is_some() { plan::TROUBLE_PAST } else { plan::TROUBLE_GAP };
        self.past = Some(now.saturating_add(lasts));
        is_told.then_some(found)
    }

    /// What the lines say of which it has the beginning and the end.
    fn whole(&mut self, printed: &[u8]) -> Option<Text> {
        let mut found = None;
        for part in printed.split_inclusive(|byte| *byte == b'\n') {
            let (begins, ends) = (!self.within, part.ends_with(b"\n"));
            self.within = !ends;
            if begins && ends {
                found = of(part).or(found);
            }
        }
        found
    }

    /// When it is over, in milliseconds since power-on, if there is any.
    pub fn past(&self) -> Option<Millis> {
        self.past
    }

    /// It was not heard of until then: what is to be told.
    pub fn over(&mut self) -> Option<Text> {
        self.past = None;
        self.told.take().map(|_| plan::TROUBLE_OVER)
    }
}

/// What a line of kubelet's says of it. What comes from elsewhere, such as a pod's own words, is quoted or indented in it, and
/// so does not begin one.
fn of(line: &[u8]) -> Option<Text> {
    let message = after(line.strip_prefix(b"E")?, b"] \"")?;
    if !plan::TROUBLE_AT.iter().any(|site| message.starts_with(site)) {
        return None;
    }
    let error = after(message, b" err=\"")?;
    let error = error.strip_prefix(plan::TROUBLE_OF).unwrap_or(error);
    let unanswered = plan::UNANSWERED.iter().any(|request| error.starts_with(request));
    let signs = if unanswered { plan::NO_ANSWER } else { plan::BAD_ANSWER };
    signs.into_iter().find(|(sign, _)| after(error, sign).is_some()).map(|(_, text)| text)
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
        "E1127 02:50:12.123456     201 controller.go:208] \"Failed to ensure lease exists, will retry\" err=\"";
    const REQUEST: &str = "E1127 03:14:45.267931     201 certificate_manager.go:605] \"Failed while requesting a signed certificate \
        from the control plane\" err=\"cannot create certificate signing request: ";
    const GET: &str = r#"Get \"https://10.0.2.100:6443/apis/coordination.k8s.io/v1/leases/kios?timeout=10s\": "#;
    const POST: &str = r#"Post \"https://10.0.2.100:6443/apis/certificates.k8s.io/v1/certificatesigningrequests\": "#;
    const PUT: &str = r#"Put \"https://10.0.2.100:6443/apis/coordination.k8s.io/v1/leases/kios?timeout=10s\": "#;

    const SILENT: &str = " does not answer";
    const REFUSED: &str = " does not let it in: token or certificate refused, or not given yet";
    const FOREIGN: &str = "'s certificate is not of the kubeconfig's authority, or not for its name";
    const EXPIRED: &str = "'s certificate has expired, or the clock is wrong";
    const ERROR: &str = " answers with an error";

    fn heard(text: &str) -> Option<&'static str> {
        let mut trouble = Trouble::default();
        assert!(trouble.hear(text.as_bytes(), 1).is_none());
        trouble.hear(text.as_bytes(), 1 + plan::TROUBLE_PAUSE).map(|text| text.get().to_str().unwrap())
    }

    #[test]
    fn each_state_has_its_line() {
        let verify = "tls: failed to verify certificate: x509: certificate";
        let anonymous =
            r#"leases.coordination.k8s.io \"kios\" is forbidden: User \"system:anonymous\" cannot get resource"#;
        let webhook =
            r#"Internal error occurred: failed calling webhook \"w\": Post \"https://w.svc/\": x509: unknown"#;
        for (line, told) in [
            (format!("{LEASE}{GET}dial tcp 10.0.2.100:6443: connect: network is unreachable"), SILENT),
            (format!("{LEASE}{GET}context deadline exceeded"), SILENT),
            (format!("{REQUEST}{POST}net/http: TLS handshake timeout"), SILENT),
            (format!("{LEASE}{GET}{verify} signed by unknown authority"), FOREIGN),
            (format!("{LEASE}{GET}{verify} has expired or is not yet valid: current time"), EXPIRED),
            (format!("{LEASE}Unauthorized"), REFUSED),
            (format!("{REQUEST}Unauthorized"), REFUSED),
            (format!("{LEASE}{anonymous}"), REFUSED),
            (format!("{LEASE}etcdserver: request timed out"), ERROR),
            // Of whom the API server asked.
            (format!("{LEASE}{webhook}"), ERROR),
            (
                "E1127 03:15:50.680289     201 nodelease.go:50] \"Failed to get node when trying to set owner ref to the node \
                 lease\" err=\"nodes \\\"kios\\\" not found"
                    .to_owned(),
                ERROR,
            ),
            (format!("E1 1 controller.go:267] \"Failed to update lease\" err=\"{PUT}EOF"), SILENT),
        ] {
            assert_eq!(heard(&format!("I1127 all is well\n{line}\" node=\"kios\"\nI1127\n")), Some(told), "{line}");
        }
    }

    #[test]
    fn the_rest_is_none() {
        for text in [
            "",
            "\n\n",
            &format!("{LEASE}{GET}EOF\"").replacen('E', "I", 1),
            // In a pod's command, quoted; and in a value of more lines.
            "E1127 1 pod_workers.go:1] \"Error syncing pod, skipping\" err=\"\\\"Failed to update lease\\\" err=\\\"Unauthorized\"",
            &format!("E1127 1 pod_workers.go:1] \"Error syncing pod, skipping\" err=<\n\t{LEASE}Unauthorized\n >"),
            "E1127 1 reflector.go:204] \"Failed to watch\" err=\"Unauthorized\"\nI1127 \"Failed to ensure lease exists\"\nUnauthorized",
        ] {
            assert_eq!(heard(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let mut trouble = Trouble::default();
        let line = format!("{LEASE}{GET}x509: certificate has expired\"\n");
        let (one, other) = line.split_at(line.len() - 20);
        for (part, heard) in
            [(one, false), (other, false), (&*format!("more\n{line}"), true), ("I", false), (&line, false)]
        {
            trouble.past = None;
            trouble.hear(part.as_bytes(), 1);
            assert_eq!(trouble.past().is_some(), heard, "{part}");
        }
    }

    #[test]
    fn it_is_told_once_and_its_end() {
        let mut trouble = Trouble::default();
        let (refused, away) = (format!("{LEASE}Unauthorized\"\n"), format!("{LEASE}{GET}EOF\"\n"));
        let mut hear = |line: &str, now| (trouble.hear(line.as_bytes(), now).is_some(), trouble.past());
        // At first it may pass by itself.
        let gap = |now| Some(now + plan::TROUBLE_GAP);
        assert_eq!(hear(&refused, 10), (false, gap(10)));
        assert_eq!(hear(&refused, 9 + plan::TROUBLE_PAUSE), (false, gap(9 + plan::TROUBLE_PAUSE)));
        let told = 10 + plan::TROUBLE_PAUSE;
        let past = |now| Some(now + plan::TROUBLE_PAST);
        assert_eq!(hear(&refused, told), (true, past(told)));
        assert_eq!(hear(&refused, told + 1), (false, past(told + 1)));
        // Another one, and not by turns all the time.
        assert_eq!(hear(&away, told + 2), (false, past(told + 2)));
        let other = told + plan::TROUBLE_GAP;
        assert_eq!(hear(&away, other), (true, past(other)));
        assert_eq!(hear(&refused, other + 1), (false, past(other + 1)));
        assert_eq!(trouble.over().unwrap().get(), plan::TROUBLE_OVER.get());
        assert!(trouble.past().is_none());
        // What was not told is not told to be over.
        assert!(trouble.hear(away.as_bytes(), other + 2).is_none());
        assert!(trouble.over().is_none() && trouble.past().is_none());
    }
}
