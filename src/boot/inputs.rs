//! What kubelet takes from files of the data disk, as pure functions over their bytes: `None` for what kubelet would not
//! start with, or would take for something else. A file is used whole or not at all.

/// Bytes of the longest host name: one label (RFC 1123), and what a Node's name may be besides (RFC 1123 subdomain).
pub const NAME_BYTES: usize = 63;

/// The one line of a file, without its end.
fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

/// A host name (RFC 1123, in lower case as Kubernetes has it).
pub fn host_name(file: &[u8]) -> Option<&[u8]> {
    let name = line(file);
    (name.len() <= NAME_BYTES && is_subdomain(name)).then_some(name)
}

/// A node's addresses: one, or one of each family with a comma between (k8s.io/component-helpers v0.37.2, node/util/ips.go).
pub fn node_ip(file: &[u8]) -> Option<&[u8]> {
    let text = line(file);
    let mut addresses = text.split(|byte| *byte == b',').map(address);
    match (addresses.next()?, addresses.next(), addresses.next()) {
        (Some(_), None, _) => Some(text),
        (Some((one, false)), Some(Some((other, false))), None) if one != other => Some(text),
        _ => None,
    }
}

/// Whether an address is of IPv6, and whether it is the unspecified one. The IPv6 form of an IPv4 address (RFC 4291, 2.5.5.2)
/// is none here: Go takes it for the latter. Not core's parser, which is 2.3 kB and can panic.
fn address(text: &[u8]) -> Option<(bool, bool)> {
    if !text.contains(&b':') {
        return is_ipv4(text).then(|| (false, text.iter().all(|byte| b"0.".contains(byte))));
    }
    match ipv6(text)? {
        [0, 0, 0, 0, 0, 0xffff, _, _] => None,
        groups => Some((true, groups == [0; 8])),
    }
}

/// Four numbers, none with a zero before it (RFC 6943, 3.1.1).
fn is_ipv4(text: &[u8]) -> bool {
    let is_byte = |number: &[u8]| match number {
        [digit] => digit.is_ascii_digit(),
        [b'1'..=b'9', rest @ ..] if rest.len() < 3 && rest.iter().all(u8::is_ascii_digit) => {
            number.len() < 3 || number <= b"255"
        }
        _ => false,
    };
    text.split(|byte| *byte == b'.').filter(|number| is_byte(number)).count() == 4
        && text.iter().filter(|byte| **byte == b'.').count() == 3
}

/// Eight groups of up to four digits, of which `::` may stand for some, once (RFC 4291, 2.2).
fn ipv6(text: &[u8]) -> Option<[u16; 8]> {
    let gap = text.windows(2).position(|pair| pair == b"::");
    let (before, after) = gap.and_then(|at| Some((text.get(..at)?, text.get(at + 2..)?))).unwrap_or((text, &[]));
    let mut all = [0; 8];
    let some = groups(before, |part| part.split(|byte| *byte == b':'), all.iter_mut())?;
    let more = groups(after, |part| part.rsplit(|byte| *byte == b':'), all.iter_mut().rev())?;
    (if gap.is_some() { some + more < 8 } else { some == 8 }).then_some(all)
}

/// Reads groups with colons between into `slots`; how many. None where one is not good, or there are too many.
fn groups<'a, 'b, Parts: Iterator<Item = &'a [u8]>>(
    text: &'a [u8],
    split: fn(&'a [u8]) -> Parts,
    mut slots: impl Iterator<Item = &'b mut u16>,
) -> Option<usize> {
    let mut count = 0;
    for group in split(text).filter(|_| !text.is_empty()) {
        let slot = slots.next().filter(|_| (1..=4).contains(&group.len()))?;
        for digit in group {
            *slot = *slot << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
        count += 1;
    }
    Some(count)
}

/// The lines of a file that has a label in each, `key=value`, all of which may be given to kubelet (k8s.io/kubernetes v1.37.2,
/// cmd/kubelet/app/options/options.go, ValidateKubeletFlags).
pub fn labels(file: &[u8]) -> Option<&[u8]> {
    let lines = line(file);
    lines.split(|byte| *byte == b'\n').all(is_label).then_some(lines)
}

fn is_label(label: &[u8]) -> bool {
    let mut parts = label.splitn(2, |byte| *byte == b'=');
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else { return false };
    let mut key_parts = key.rsplitn(2, |byte| *byte == b'/');
    let name = key_parts.next().unwrap_or(&[]);
    let qualified = match key_parts.next() {
        Some(prefix) => prefix.len() <= 253 && is_subdomain(prefix) && may_have(prefix, key),
        None => true,
    };
    qualified && is_name(name) && (value.is_empty() || is_name(value))
}

/// Whether kubelet may give its own Node such a label (k8s.io/kubelet v0.37.2, pkg/apis/well_known_labels.go).
fn may_have(prefix: &[u8], key: &[u8]) -> bool {
    let within =
        |domain: &[u8]| prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"."));
    !within(b"kubernetes.io") && !within(b"k8s.io")
        || within(b"kubelet.kubernetes.io")
        || within(b"node.kubernetes.io")
        || OWN_LABELS.split(|byte| *byte == b' ').any(|own| own == key)
}

const OWN_LABELS: &[u8] = b"kubernetes.io/hostname kubernetes.io/os kubernetes.io/arch topology.kubernetes.io/zone \
    topology.kubernetes.io/region failure-domain.beta.kubernetes.io/zone failure-domain.beta.kubernetes.io/region \
    beta.kubernetes.io/instance-type beta.kubernetes.io/os beta.kubernetes.io/arch";

/// A label's name or value: at most 63 of these, the first and the last no punctuation.
fn is_name(name: &[u8]) -> bool {
    let ends = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    name.len() <= 63 && ends(name.first()) && ends(name.last()) && name.iter().all(inner)
}

/// RFC 1123 labels in lower case with dots between.
fn is_subdomain(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'.').all(|label| {
        is_name(label) && label.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    })
}

/// A machine's id as machine-id(5) has it, of a file's 32 digits and their line's end.
pub fn machine_id(file: &[u8]) -> Option<&[u8]> {
    let id = file.strip_suffix(b"\n")?;
    (id.len() == 32 && is_hex(id) && id.iter().any(|digit| *digit != b'0')).then_some(id)
}

/// Eight digits of a host name by all of a machine's id: makers begin each of theirs alike.
pub fn digits(id: &[u8]) -> [u8; 8] {
    let mut digits = [0; 8];
    for word in id.chunks_exact(8) {
        for (digit, of) in digits.iter_mut().zip(word) {
            *digit ^= char::from(*of).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0);
        }
    }
    digits.map(|digit| char::from_digit(digit.into(), 16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(b'0'))
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit))
}

/// The id that a machine's maker gave it (SMBIOS 7.2.1, as /sys/class/dmi/id/product_uuid shows it): its digits. None for
/// what many machines have: all digits the same, or one of the boards that nobody named.
pub fn product_id(file: &[u8]) -> Option<[u8; 32]> {
    const NAMELESS: [&[u8; 32]; 2] = [b"03000200040005000006000700080009", b"00020003000400050006000700080009"];
    let mut id = [0; 32];
    let mut digits = line(file).iter().filter(|byte| **byte != b'-');
    for slot in &mut id {
        *slot = digits.next()?.to_ascii_lowercase();
    }
    let [first, ..] = id;
    let real = is_hex(&id) && id.iter().any(|digit| *digit != first) && !NAMELESS.contains(&&id);
    (real && digits.next().is_none()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_names_are_of_rfc_1123() {
        for name in ["a", "node-1", "0", "edge.site-7.example", &"x".repeat(63)] {
            assert_eq!(host_name(name.as_bytes()), Some(name.as_bytes()));
            assert_eq!(host_name(format!("{name}\n").as_bytes()), Some(name.as_bytes()));
        }
        for name in
            ["", "\n", "-a", "a-", "a..b", ".a", "a.", "A", "a_b", "a b", "a ", "a\r\n", "a\n\n", "a\0", "\u{e9}"]
        {
            assert_eq!(host_name(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(host_name("x".repeat(64).as_bytes()), None);
        assert_eq!(host_name(b"a\xff"), None);
    }

    #[test]
    fn node_ips_are_one_or_one_of_each_family() {
        for text in ["10.0.2.15", "0.0.0.0", "::", "fd00::1", "10.0.2.15,fd00::1", "2001:db8::5,192.0.2.1"] {
            assert_eq!(node_ip(format!("{text}\n").as_bytes()), Some(text.as_bytes()));
        }
        for text in [
            "",
            "10.0.2",
            "10.0.2.256",
            "010.0.2.1",
            "10.0.2.15 ",
            " 10.0.2.15",
            "10.0.2.15\r",
            "10.0.2.15,",
            ",::1",
            "10.0.2.15, fd00::1",
            "10.0.2.15,10.0.2.16",
            "fd00::1,fd00::2",
            "0.0.0.0,fd00::1",
            "10.0.2.15,::",
            "10.0.2.15,fd00::1,fd00::2",
            "::ffff:10.0.2.15",
            "::ffff:a00:20f",
            "10.0.2.15,0:0:0:0:0:ffff:a00:20f",
            "fe80::1%eth0",
            "[fd00::1]",
            "10.0.2.15/24",
            "fd00::1\0",
        ] {
            assert_eq!(node_ip(text.as_bytes()), None, "{text:?}");
        }
    }

    fn labels_ok(file: &[u8]) -> bool {
        labels(file).is_some()
    }

    #[test]
    fn labels_are_what_kubelet_may_have() {
        let long = format!("{}/{}={}", "a.".repeat(126) + "a", "n".repeat(63), "v".repeat(63));
        for label in [
            "a=b",
            "a=",
            "disk.kind=SSD_1",
            "example.com/rack=r-7",
            "kubernetes.io/hostname=n",
            "node.kubernetes.io/x=y",
            "a.kubelet.kubernetes.io/x=y",
            "node.kubernetes.io/instance-type=m",
            "topology.kubernetes.io/zone=z",
            "notkubernetes.io/x=y",
            &long,
        ] {
            assert!(labels_ok(label.as_bytes()), "{label}");
            assert!(labels_ok(format!("{label}\nlast=one\n").as_bytes()), "{label}");
        }
        for label in [
            "",
            "a",
            "=b",
            "a=b ",
            "a=b,c=d",
            "a=b=c",
            "a=-b",
            "-a=b",
            "a/=b",
            "/a=b",
            "a/b/c=d",
            "A.com/x=y",
            "a..b/x=y",
            "a=b\r",
            "kubernetes.io/x=y",
            "k8s.io/x=y",
            "a.k8s.io/x=y",
            "node-role.kubernetes.io/control-plane=",
            "node-restriction.kubernetes.io/x=y",
            "xkubelet.kubernetes.io/x=y",
            "a=\u{e9}",
            "a=b\0",
        ] {
            assert!(!labels_ok(label.as_bytes()), "{label:?}");
            assert!(!labels_ok(format!("first=one\n{label}\nlast=one\n").as_bytes()), "{label:?}");
        }
        let long = |prefix, name, value| format!("{}/{}={}", "a".repeat(prefix), "n".repeat(name), "v".repeat(value));
        assert!(labels_ok(long(63, 63, 63).as_bytes()));
        for (prefix, name, value) in [(64, 1, 1), (1, 64, 1), (1, 1, 64)] {
            assert!(!labels_ok(long(prefix, name, value).as_bytes()));
        }
    }

    #[test]
    fn machine_ids_are_32_digits_and_a_line_end() {
        let id = b"0123456789abcdef0123456789abcdef";
        assert_eq!(machine_id(b"0123456789abcdef0123456789abcdef\n"), Some(&id[..]));
        for file in [
            &id[..],
            b"",
            b"\n",
            b"0123456789abcdef0123456789abcde\n",
            b"0123456789ABCDEF0123456789abcdef\n",
            b"0123456789abcdef0123456789abcdef\r\n",
            b"00000000000000000000000000000000\n",
        ] {
            assert_eq!(machine_id(file), None, "{file:?}");
        }
    }

    #[test]
    fn product_ids_are_those_of_one_machine() {
        let id = product_id(b"4C4C4544-0042-3510-8051-B4C04F4D3732\n");
        assert_eq!(id.as_ref().map(|id| &id[..]), Some(&b"4c4c4544004235108051b4c04f4d3732"[..]));
        for file in [
            &b""[..],
            b"Not Settable\n",
            b"00000000-0000-0000-0000-000000000000\n",
            b"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
            b"03000200-0400-0500-0006-000700080009\n",
            b"4C4C4544-0042-3510-8051-B4C04F4D373\n",
            b"4C4C4544-0042-3510-8051-B4C04F4D37321\n",
            b"4C4C4544-0042-3510-8051-B4C04F4D373G\n",
        ] {
            assert_eq!(product_id(file), None, "{file:?}");
        }
    }

    #[test]
    fn digits_are_by_the_whole_id() {
        assert_eq!(&digits(b"4c4c4544004235108051b4c04f4d3732\n"), b"8312f3a6");
        assert_ne!(digits(b"4c4c4544004235108051b4c04f4d3733\n"), digits(b"4c4c4544004235108051b4c04f4d3732\n"));
        assert_eq!(&digits(b"0123456789abcdef0000000000000000"), b"88888888");
    }

    /// Go takes the IPv6 form of an IPv4 address for the latter.
    fn is_taken(address: &std::net::IpAddr) -> bool {
        !matches!(address, std::net::IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_are_passed_on_with_what_an_argument_cannot_have(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for taken in [host_name(&bytes), node_ip(&bytes)].into_iter().flatten() {
                prop_assert!(taken.iter().all(|byte| byte.is_ascii_graphic()));
            }
            if labels_ok(&bytes) {
                prop_assert!(bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b'\n'));
            }
            let _ = (digits(&bytes), machine_id(&bytes), product_id(&bytes));
        }

        #[test]
        fn addresses_are_what_std_reads(text in "[0-9a-f:.]{1,20}|([0-9]{1,3}[.]){3}[0-9]{1,3}|([0-9a-f]{0,5}:){2,8}[0-9a-f]{0,4}|(0:){0,5}(::)?ffff:[0-9a-f]{1,4}:[0-9a-f]{1,4}") {
            let std = text.parse::<std::net::IpAddr>().ok().filter(is_taken).filter(|address| address.is_ipv4() || !text.contains('.'));
            prop_assert_eq!(node_ip(text.as_bytes()).is_some(), std.is_some());
            let unspecified = address(text.as_bytes()).map(|(_, unspecified)| unspecified);
            prop_assert_eq!(unspecified, std.map(|address| address.is_unspecified()));
        }

        #[test]
        fn addresses_that_std_prints_are_taken(v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>()) {
            let (v4, v6) = (std::net::Ipv4Addr::from(v4), std::net::Ipv6Addr::from(v6));
            let text = format!("{v4},{v6}");
            let good = is_taken(&v6.into()) && !v4.is_unspecified() && !v6.is_unspecified();
            prop_assert_eq!(node_ip(text.as_bytes()), good.then_some(text.as_bytes()));
        }
    }
}
