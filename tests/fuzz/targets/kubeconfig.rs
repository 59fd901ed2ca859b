//! A kubeconfig of the data disk: what is taken is YAML to another parser, has texts for values, and no key `exec`.
#![no_main]

use kios_init::boot::kubeconfig::authority;
use libfuzzer_sys::fuzz_target;
use yaml_rust2::{Yaml, YamlLoader};

fn is_plain(yaml: &Yaml) -> bool {
    match yaml {
        Yaml::String(_) | Yaml::Null => true,
        Yaml::Array(items) => items.iter().all(is_plain),
        Yaml::Hash(map) => {
            map.iter().all(|(key, value)| key.as_str().is_some_and(|key| key != "exec") && is_plain(value))
        }
        _ => false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    if authority(bytes).is_some() {
        let text = std::str::from_utf8(bytes).expect("a text");
        let all = YamlLoader::load_from_str(text).expect("YAML");
        assert!(all.len() == 1 && is_plain(&all[0]), "{all:?}");
    }
});
