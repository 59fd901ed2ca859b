//! Files of the data disk that kubelet is told of: addresses against std's reading, the others against the rules as
//! Kubernetes' documentation has them.
#![no_main]

use kios_init::boot::inputs::{host_name, labels, machine_id, node_ip, product_id};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fn is_word(text: &str, inner: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|letter| plain(letter) || inner.contains(letter))
}

fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| is_word(label, "-") && label.to_lowercase() == label)
}

fn is_label(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let below = |domain: &str, of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    let own = |prefix: &str| {
        !(below(prefix, "kubernetes.io") || below(prefix, "k8s.io"))
            || below(prefix, "kubelet.kubernetes.io")
            || below(prefix, "node.kubernetes.io")
            || matches!(
                key,
                "kubernetes.io/hostname"
                    | "kubernetes.io/os"
                    | "kubernetes.io/arch"
                    | "topology.kubernetes.io/zone"
                    | "topology.kubernetes.io/region"
                    | "failure-domain.beta.kubernetes.io/zone"
                    | "failure-domain.beta.kubernetes.io/region"
                    | "beta.kubernetes.io/instance-type"
                    | "beta.kubernetes.io/os"
                    | "beta.kubernetes.io/arch"
            )
    };
    prefix.is_none_or(|prefix| prefix.len() <= 253 && is_domain(prefix) && own(prefix))
        && is_word(name, "-_.")
        && (value.is_empty() || is_word(value, "-_."))
}

fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let one = |text: &str| {
        text.parse::<IpAddr>().ok().filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !text.contains('.') && address.to_ipv4_mapped().is_none(),
        })
    };
    text.split(',').map(one).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\n").unwrap_or(bytes)).ok();
    assert_eq!(host_name(bytes).is_some(), text.is_some_and(|text| text.len() <= 63 && is_domain(text)));
    assert_eq!(labels(bytes).is_some(), text.is_some_and(|text| text.split('\n').all(is_label)));
    let good = text.and_then(addresses).is_some_and(|all| match all[..] {
        [_] => true,
        [one, other] => one.is_ipv4() != other.is_ipv4() && !one.is_unspecified() && !other.is_unspecified(),
        _ => false,
    });
    assert_eq!(node_ip(bytes).is_some(), good);
    if let Some(id) = machine_id(bytes) {
        assert_eq!(bytes, [id, b"\n"].concat());
        assert_eq!(product_id(bytes).is_some_and(|product| product == id), product_id(bytes).is_some());
    }
});
