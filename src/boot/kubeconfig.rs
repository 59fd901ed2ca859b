//! What a kubeconfig may hold that kubelet is given: a pure function over its bytes.
//!
//! Only what kubectl writes (`kubectl config view --raw --minify --flatten`): one cluster, one context and one user, keys that are
//! known in their places, plain values. So it names no program (`exec`), which kubelet would run outside any container; there is
//! one authority, that of the cluster; and kubelet, which ends for good where its kubeconfig is of no use, can use it.

use heapless::Vec;

/// The keys that may be there, each once, with what they are below of (client-go v0.37.2, tools/clientcmd/api/v1/types.go). The
/// first six have other keys for their value.
const KEYS: &[u8] = b"clusters contexts users clusters/cluster contexts/context users/user \
    apiVersion kind preferences current-context clusters/name contexts/name users/name \
    clusters/cluster/server clusters/cluster/certificate-authority-data clusters/cluster/tls-server-name \
    clusters/cluster/proxy-url contexts/context/cluster contexts/context/user \
    users/user/token users/user/client-certificate-data users/user/client-key-data";
const GROUPS: usize = 6;
const ALL: usize = 22;
/// What YAML 1.1 takes for something else than a text, in lower case.
const WORDS: &[u8] = b"y n yes no on off true false null";
/// What the base64 of a certificate in PEM begins with (RFC 7468), and what ends it.
const BEGINS: &[u8] = b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";
const ENDS: &[u8] = b"-----END CERTIFICATE-----";

/// The certificate authority of such a kubeconfig, in base64; none where `file` is none.
pub fn authority(file: &[u8]) -> Option<&[u8]> {
    // In comments, too.
    if !file.iter().all(|byte| byte.is_ascii_graphic() || b" \n".contains(byte)) {
        return None;
    }
    let mut values = [None; ALL];
    // The list, and the map in its item, that a key is in.
    let (mut list, mut map, mut in_item) = (&b""[..], &b""[..], false);
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
        let (level, rest) = match line {
            [b' ', b' ', b' ', b' ', rest @ ..] => (2, rest),
            // The first key of the list's one item.
            [b'-', b' ', rest @ ..] if !in_item => (1, rest),
            [b' ', b' ', rest @ ..] if in_item => (1, rest),
            _ => (0, line),
        };
        let colon = rest.iter().position(|byte| *byte == b':')?;
        let (key, value) = (rest.get(..colon)?, rest.get(colon + 1..)?);
        in_item = level > 0;
        if level < 2 {
            map = b"";
        }
        if level < 1 {
            list = b"";
        }
        if level > 0 && list.is_empty() || level > 1 && map.is_empty() {
            return None;
        }
        let at = KEYS.split(|byte| *byte == b' ').position(|known| is_path(known, [list, map, key]))?;
        let slot = values.get_mut(at).filter(|slot| slot.is_none())?;
        *slot = Some(match value.strip_prefix(b" ") {
            None if value.is_empty() && at < GROUPS => value,
            Some(value) if at >= GROUPS => text(value, key)?,
            _ => return None,
        });
        if at < GROUPS {
            *(if level == 0 { &mut list } else { &mut map }) = key;
        }
    }
    let [
        ..,
        version,
        kind,
        _,
        current,
        cluster,
        context,
        user,
        server,
        authority,
        _,
        _,
        of,
        by,
        token,
        certificate,
        key,
    ] = values;
    let good = version == Some(b"v1")
        && kind == Some(b"Config")
        && (current.is_some() && current == context)
        && (of.is_some() && of == cluster)
        && (by.is_some() && by == user)
        && server.is_some_and(|server| server.starts_with(b"https://"))
        && certificate.is_some() == key.is_some()
        && (token.is_some() || key.is_some());
    authority.filter(|authority| good && is_certificate(authority))
}

/// Whether a path is of these parts; those that are empty are not in it.
fn is_path(path: &[u8], parts: [&[u8]; 3]) -> bool {
    let mut rest = path.split(|byte| *byte == b'/');
    parts.iter().filter(|part| !part.is_empty()).all(|part| rest.next() == Some(part)) && rest.next().is_none()
}

/// Whether that is the base64 of a certificate in PEM, as far as it can be seen from both ends.
fn is_certificate(text: &[u8]) -> bool {
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut end = Vec::<u8, 30>::new();
    for part in text.len().checked_sub(40).and_then(|at| text.get(at..)).into_iter().flat_map(decoded) {
        let _ = end.extend_from_slice(&part);
    }
    text.starts_with(BEGINS)
        && text.len().is_multiple_of(4)
        && digits.iter().all(|digit| DIGITS.contains(digit))
        && end.strip_suffix(b"\n").unwrap_or(&end).ends_with(ENDS)
}

/// The bytes that base64 stands for (RFC 4648, 4), in parts; what is no digit ends it.
pub fn decoded(text: &[u8]) -> impl Iterator<Item = Vec<u8, 3>> {
    text.chunks_exact(4).map_while(|digits| {
        let digits = digits.iter().map_while(|digit| {
            DIGITS.iter().position(|known| known == digit).and_then(|value| u32::try_from(value).ok())
        });
        let (bits, count) = digits.fold((0, 0), |(bits, count), digit| (bits << 6 | digit, count + 1));
        let bytes = (bits << (6 * (4 - count))).to_be_bytes();
        let got = usize::try_from(count).ok()?.checked_sub(1).filter(|got| *got > 0)?;
        Vec::from_slice(bytes.get(1..=got)?).ok()
    })
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a scalar says that YAML can only take for a text.
fn text<'a>(value: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let inner = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.:@-[]%~?&".contains(byte));
    if key == b"preferences" {
        return (value == b"{}").then_some(value);
    }
    if let Some(quoted) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        return inner(quoted).then_some(quoted);
    }
    let first = *value.first()?;
    // Numbers, with an exponent or on another base, and times.
    let is_number = first.is_ascii_digit()
        && (!value.iter().any(|byte| byte.is_ascii_alphabetic() && !b"eEtTzZ".contains(byte))
            || matches!(value, [b'0', b'x' | b'o' | b'b', rest @ ..] if rest.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'_')));
    let is_word = WORDS.split(|byte| *byte == b' ').any(|word| word.eq_ignore_ascii_case(value));
    let starts = first.is_ascii_alphanumeric() || first == b'/';
    (starts && inner(value) && !value.ends_with(b":") && !is_number && !is_word).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{authority, decoded};
    use proptest::prelude::*;
    use yaml_rust2::{Yaml, YamlLoader};

    /// As kubectl v1.37.2 writes it.
    const GOOD: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJzekNDQVZtZ0F3SUJBZ0lVRTAKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
    server: https://[fd00::1]:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: tls-bootstrap-token-user
  name: tls-bootstrap-token-user@kubernetes
current-context: tls-bootstrap-token-user@kubernetes
kind: Config
preferences: {}
users:
- name: tls-bootstrap-token-user
  user:
    token: 07401b.f395accd246ae52d
";

    fn is_kubeconfig(file: &[u8]) -> bool {
        authority(file).is_some()
    }

    #[test]
    fn base64_is_what_the_rfc_says() {
        let decode = |text: &str| decoded(text.as_bytes()).flatten().collect::<std::vec::Vec<_>>();
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9vYmE=", b"fooba"),
            ("Zm9vYmFy", b"foobar"),
            ("+/+/", b"\xfb\xff\xbf"),
            ("Zm9v!!!!Zm9v", b"foo"),
            ("====", b""),
            ("Z===", b""),
        ] {
            assert_eq!(decode(text), bytes, "{text}");
        }
        assert_eq!(
            decode(authority_of(GOOD)),
            b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUE0\n-----END CERTIFICATE-----\n"
        );
    }

    fn authority_of(file: &str) -> &str {
        std::str::from_utf8(authority(file.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_kubectl_writes_is_good() {
        assert!(is_kubeconfig(GOOD.as_bytes()));
        let token = "token: 07401b.f395accd246ae52d";
        assert!(GOOD.contains(token));
        for other in [
            "token: \"07401b.0395\"",
            "client-certificate-data: LS0t\n    client-key-data: LS0t",
            "token: eyJhbGciOi.J-_x",
        ] {
            assert!(is_kubeconfig(GOOD.replace(token, other).as_bytes()), "{other}");
        }
        let more = GOOD.replace("    server:", "    tls-server-name: kubernetes\n    server:");
        assert!(is_kubeconfig(format!("# of the factory\n\n{more}").as_bytes()));
    }

    #[test]
    fn what_runs_a_program_or_is_something_else_is_not() {
        let token = "    token: 07401b.f395accd246ae52d";
        for other in [
            "    exec:\n      command: /bin/sh",
            "    exec: {}",
            "    \"exec\": {}",
            "    auth-provider:\n      name: oidc",
            "    ? exec",
            "    !!str exec: {}",
            "    token: &a b",
            "    token: *a",
            "    token: |",
            "    token: {exec: {}}",
            "    token: a\n    token: b",
            "    token: a\n    client-key-data: b",
            "    client-certificate-data: a",
            "    tokenFile: /etc/kubernetes/token",
            "    client-certificate: /etc/kubernetes/cert\n    client-key: /etc/kubernetes/key",
            "    server: https://a",
            "    token: a\n- name: b\n  user:\n    token: b",
            "    token: \"a\\x20b\"",
            "    token: 'a'",
            "    token: \"a",
            "    token: a b",
            "    token: a #b",
            "    token: a:",
            "    token: ",
            "    token:",
            "    token:  a",
            "    token: 12.5",
            "    token: 0x1F",
            "    token: 0b1_0",
            "    token: 1e5",
            "    token: 2001-12-14t21:59:43.10-05:00",
            "    token: Yes",
            "    token: a\r",
            "    token: a\0",
            "    token: \u{e9}",
            "    : a",
            "     token: a",
            "\ttoken: a",
            "  token: a",
            "    - token: a",
            "- token: a",
            "  name: a\n    token: a",
            "---",
            "...",
            "%TAG ! a",
        ] {
            assert!(!is_kubeconfig(GOOD.replace(token, other).as_bytes()), "{other:?}");
        }
        for (line, other) in [
            ("apiVersion: v1", "apiVersion: v2"),
            ("kind: Config", ""),
            ("server: https", "server: http"),
            ("certificate-authority-data: LS0t", "certificate-authority-data: LS0u"),
            ("certificate-authority-data:", "certificate-authority:"),
            ("LS0tLQo=", "LS0tLQo"),
            ("LS0tLQo=", "LS0t"),
            ("SUZJQ0FURS0tLS0tCk1", "SUZJQ0FURS0tLS0tCk!"),
            ("    server:", "    insecure-skip-tls-verify: true\n    server:"),
            ("    server:", "    certificate-authority: /ca.crt\n    server:"),
            ("  name: kubernetes\n", ""),
            ("  name: kubernetes\n", "  name: kubernetes\n- name: other\n  cluster:\n    server: https://a\n"),
            ("  name: kubernetes\n", "  name: other\n"),
            ("    user: tls", "    user: other"),
            ("preferences: {}", "preferences: \"x\""),
            ("users:", "users: {}"),
            ("current-context: tls", "current-context: other"),
            ("current-context: tls-bootstrap-token-user@kubernetes", "current-context: \"\""),
            ("preferences: {}", "preferences: {exec: 1}"),
        ] {
            assert!(GOOD.contains(line) && !is_kubeconfig(GOOD.replace(line, other).as_bytes()), "{other:?}");
        }
        assert!(!is_kubeconfig(format!("    token: a\n{GOOD}").as_bytes()));
        assert!(!is_kubeconfig(format!("  name: a\n{GOOD}").as_bytes()));
        assert!(!is_kubeconfig(format!("{GOOD}current-context: none\n").as_bytes()));
        assert!(!is_kubeconfig(format!("{GOOD}# \u{e9}\n").as_bytes()));
        assert!(!is_kubeconfig(b"") && !is_kubeconfig(b"hello\n") && !is_kubeconfig(&[0xff; 9]));
    }

    /// Whether all values are texts, lists and maps, and no key is `exec`.
    fn is_plain(yaml: &Yaml) -> bool {
        match yaml {
            Yaml::String(_) => true,
            Yaml::Array(items) => items.iter().all(is_plain),
            Yaml::Hash(map) => map.iter().all(|(key, value)| {
                let plain = is_plain(value) || *value == Yaml::Null;
                plain && key.as_str().is_some_and(|key| key != "exec")
            }),
            _ => false,
        }
    }

    proptest! {
        /// One of the lines is another; an independent parser of YAML is asked what it then says.
        #[test]
        fn what_is_taken_is_plain_yaml(
            at in 0usize..18,
            line in "( {0,5}|- )(token|server|user|name|exec|kind|preferences)?:? ?[-0-9a-zA-Z:/\"'{}\\[\\]&*!|>%@`#,.?~= ]{0,9}",
        ) {
            let mut lines: Vec<_> = GOOD.lines().collect();
            lines[at] = &line;
            let text = lines.join("\n");
            if is_kubeconfig(text.as_bytes()) {
                let all = YamlLoader::load_from_str(&text).unwrap();
                prop_assert!(all.len() == 1 && is_plain(&all[0]), "{text}\n{all:?}");
            }
        }
    }
}
