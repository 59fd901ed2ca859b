//! What a kubeconfig may hold that kubelet is given: a pure function over its bytes.
//!
//! Only what kubectl and kubeadm write (`kubectl config view --raw`): keys that are known, at their indentation, with plain
//! values. So it names no program (`exec`), which kubelet would run outside any container; and kubelet, which ends for good
//! where it cannot read its kubeconfig, can.

use heapless::Vec;

use super::inputs::is_listed;

/// Keys that have a value, by their level, a blank between (client-go v0.37.2, tools/clientcmd/api/v1/types.go).
const VALUES: [&[u8]; 3] = [
    b"apiVersion kind preferences current-context",
    b"name",
    b"server certificate-authority certificate-authority-data tls-server-name proxy-url insecure-skip-tls-verify \
      disable-compression cluster user namespace token tokenFile client-certificate client-certificate-data client-key \
      client-key-data",
];
/// Keys whose value is what follows.
const GROUPS: [&[u8]; 3] = [b"clusters contexts users", b"cluster context user", b""];
/// Those whose value is true or false.
const SWITCHES: &[u8] = b"insecure-skip-tls-verify disable-compression";
/// What YAML 1.1 takes for something else than a text, in lower case.
const WORDS: &[u8] = b"y n yes no on off true false null";

/// A line: how far its key is indented, in steps of two blanks, whether it begins an item of a list, and the value; none is what follows.
struct Entry<'a> {
    level: usize,
    item: bool,
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

/// What the base64 of a certificate in PEM begins with (RFC 7468: `-----BEGIN CERTIFICATE-----`).
const CERTIFICATE: &[u8] = b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";

/// The certificate authority of such a kubeconfig, in base64; none where `file` is none.
pub fn authority(file: &[u8]) -> Option<&[u8]> {
    // In comments, too.
    if !file.iter().all(|byte| byte.is_ascii_graphic() || b" \n".contains(byte)) {
        return None;
    }
    let lines = || file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let (mut version, mut kind, mut server, mut context, mut authority) = (false, false, false, None, None);
    // Whether a list, an item of it, and a map within that are open.
    let (mut list, mut item, mut map) = (false, false, false);
    for line in lines() {
        let Entry { level, item: first, key, value } = entry(line)?;
        let open = value.is_none();
        match level {
            0 => (list, item, map) = (open, false, false),
            1 if first && list || item => (item, map) = (true, open),
            2 if map => {}
            _ => return None,
        }
        match key {
            b"apiVersion" => version = value == Some(b"v1"),
            b"kind" => kind = value == Some(b"Config"),
            b"server" => server = value.is_some_and(|value| value.starts_with(b"https://")),
            b"current-context" => context = value,
            b"certificate-authority-data" => authority = value,
            _ => {}
        }
    }
    let named = |name| lines().filter_map(entry).any(|entry| entry.key == b"name" && entry.value == Some(name));
    let good = version && kind && server && context.is_some_and(named);
    authority.filter(|text| good && text.starts_with(CERTIFICATE) && text.len().is_multiple_of(4))
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

/// Reads a line; none where it is not good.
fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let (level, rest) = match line {
        [b' ', b' ', b' ', b' ', rest @ ..] => (2, rest),
        [b' ', b' ', rest @ ..] | [b'-', b' ', rest @ ..] => (1, rest),
        _ => (0, line),
    };
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let (key, value) = (rest.get(..colon)?, rest.get(colon + 1..)?);
    let is_of = |keys: &[&[u8]]| keys.get(level).is_some_and(|keys| is_listed(keys, key));
    let value = match value.strip_prefix(b" ") {
        None if value.is_empty() && is_of(&GROUPS) => None,
        Some(value) if is_of(&VALUES) => Some(if is_listed(SWITCHES, key) {
            Some(value).filter(|value| is_listed(b"true false", value))?
        } else {
            text(value, key)?
        }),
        _ => return None,
    };
    Some(Entry { level, item: line.starts_with(b"-"), key, value })
}

/// What a scalar says that YAML can only take for a text.
fn text<'a>(value: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let inner = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.:@-[]%~?&".contains(byte));
    if let Some(quoted) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        return inner(quoted).then_some(quoted);
    }
    if key == b"preferences" {
        return (value == b"{}").then_some(value);
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
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
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
        assert_eq!(decode(authority_of(GOOD)), b"-----BEGIN CERTIFICATE-----\n");
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
            "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem",
            "tokenFile: /etc/kubernetes/token",
            "client-key-data: LS0t",
            "token: eyJhbGciOi.J-_x",
        ] {
            assert!(is_kubeconfig(GOOD.replace(token, other).as_bytes()), "{other}");
        }
        let more = GOOD.replace("    server:", "    insecure-skip-tls-verify: true\n    server:");
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
            ("LS0tCg==", "LS0tCg="),
            ("current-context: tls", "current-context: other"),
            ("current-context: tls-bootstrap-token-user@kubernetes", "current-context: \"\""),
            ("preferences: {}", "preferences: {exec: 1}"),
            ("    server: https://[fd00::1]:6443", "    insecure-skip-tls-verify: yes"),
        ] {
            assert!(GOOD.contains(line) && !is_kubeconfig(GOOD.replace(line, other).as_bytes()), "{other:?}");
        }
        assert!(!is_kubeconfig(format!("    token: a\n{GOOD}").as_bytes()));
        assert!(!is_kubeconfig(format!("  name: a\n{GOOD}").as_bytes()));
        assert!(!is_kubeconfig(format!("{GOOD}current-context: none\n").as_bytes()));
        assert!(!is_kubeconfig(format!("{GOOD}# \u{e9}\n").as_bytes()));
        assert!(!is_kubeconfig(b"") && !is_kubeconfig(b"hello\n") && !is_kubeconfig(&[0xff; 9]));
    }

    /// Whether all values are texts, lists, maps and switches, and no key is `exec`.
    fn is_plain(yaml: &Yaml) -> bool {
        match yaml {
            Yaml::String(_) | Yaml::Boolean(_) => true,
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
                // A key that is there twice is what no list of keys tells.
                match YamlLoader::load_from_str(&text) {
                    Ok(all) => prop_assert!(all.len() == 1 && is_plain(&all[0]), "{text}\n{all:?}"),
                    Err(error) => prop_assert!(error.to_string().contains("duplicate"), "{text}\n{error}"),
                }
            }
        }
    }
}
