//! What keeps kubelet from its cluster: how kubelet says it, and what init says of it.

use super::Millis;
use crate::sys::text::{Text, t};

/// How kubelet begins to say that what it asks its API server for all the time failed: its lease (component-helpers v0.37.2,
/// apimachinery/lease/controller.go; pkg/kubelet/util/nodelease.go) and its certificate (client-go v0.37.2,
/// util/certificate/certificate_manager.go). It says so again within 40 s, but for a server that hangs up late: that is asked
/// ten times, up to 11 s each, before it says anything (rest/request.go).
pub const TROUBLE_AT: [&[u8]; 4] = [
    b"Failed to ensure lease",
    b"Failed to update lease",
    b"Failed to get node when trying to set owner ref",
    b"Failed while requesting a signed cert",
];
/// What may be before the error itself.
pub const TROUBLE_OF: &[u8] = b"cannot create certificate signing request: ";
/// How an error begins that is of the request, and not in its answer.
pub const UNANSWERED: [&[u8]; 3] = [b"Get \\\"https://", b"Put \\\"https://", b"Post \\\"https://"];
/// What is in such an error, and what init says of the API server then; the first that is there counts.
pub const NO_ANSWER: [(&[u8], Text); 3] = [
    (b"x509: certificate has expired", t(c"'s certificate has expired, or the clock is wrong")),
    (b"x509: ", t(c"'s certificate is not of the kubeconfig's authority, or not for its name")),
    (b"", t(c" does not answer")),
];
const NOT_LET_IN: Text = t(c" does not let it in: token or certificate refused, or not given yet");
/// The same for the others.
pub const BAD_ANSWER: [(&[u8], Text); 3] =
    [(b"Unauthorized", NOT_LET_IN), (b" is forbidden: ", NOT_LET_IN), (b"", t(c" answers with an error"))];
/// What it says once there was no trouble for [`TROUBLE_PAST`].
pub const TROUBLE_OVER: Text = t(c" is no more trouble");
/// Longer than it takes kubelet to say it again, at the worst.
pub const TROUBLE_PAST: Millis = 120_000;
/// The same, but for the worst: what is not told yet and not heard of for so long is forgotten. No trouble is told sooner after
/// another.
pub const TROUBLE_GAP: Millis = 45_000;
/// A trouble is told once it has gone on for so long: a node's network is up only once a pod has made it.
pub const TROUBLE_PAUSE: Millis = 15_000;
