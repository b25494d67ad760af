//! Takes hardware addresses out of what a run stores: a network interface
//! without a better name is called by its own (`enx001122334455`, see
//! systemd.net-naming-scheme(7)), and that names the machine.

use serde_json::Value;

use crate::machine::root::Root;

/// `en`, `wl` and the like, then `x`.
const KIND_CHARS: usize = 3;
/// A hardware address without colons.
const ADDRESS_CHARS: usize = 12;

/// The names that hold an address. Each is replaced by its kind and its place
/// here, so that devices and findings tell of the same interface alike.
#[derive(Debug, Default)]
pub struct InterfaceNames {
    known: Vec<String>,
}

impl InterfaceNames {
    /// Of the interfaces that are here, in the order of their names.
    pub fn read(root: &Root) -> Self {
        let mut known = root.entries("sys/class/net");
        known.retain(|name| holds_address(name));
        known.sort_unstable();
        Self { known }
    }

    /// Replaces them in all texts of a document.
    pub fn hide(&mut self, document: &mut Value) {
        match document {
            Value::String(text) => *text = self.hidden(text),
            Value::Array(list) => list.iter_mut().for_each(|v| self.hide(v)),
            Value::Object(map) => map.values_mut().for_each(|v| self.hide(v)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn hidden(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
            let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
            match holds_address(word) {
                true => out += &self.replacement(word),
                false => out += word,
            }
            out += &piece[word.len()..];
        }
        out
    }

    fn replacement(&mut self, name: &str) -> String {
        let known = self.known.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.known.push(name.to_owned());
            self.known.len() - 1
        });
        format!("{}{}", &name[..KIND_CHARS], index + 1)
    }
}

fn holds_address(name: &str) -> bool {
    name.len() == KIND_CHARS + ADDRESS_CHARS
        && ["enx", "ibx", "slx", "wlx", "wwx"]
            .iter()
            .any(|kind| name.starts_with(kind))
        && name[KIND_CHARS..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_hardware_address_stays_in_a_name() {
        let root = tempfile::tempdir().expect("directory");
        let net = root.path().join("sys/class/net");
        for name in ["wlx0011223344ff", "enx001122334455", "eth0"] {
            std::fs::create_dir_all(net.join(name)).expect("directory");
        }
        let mut names = InterfaceNames::read(&Root::at(root.path()));
        let mut document = json!({
            "network": [{"name": "enx001122334455", "queues": 2}],
            "observed": "wlx0011223344ff and enx001122334455.7 are up",
            "path": "/sys/class/net/enx00112233445a/gro_flush_timeout",
            "kept": ["enp1s0f0np0", "lo", "enxtra", "enx00112233445g é"],
        });
        names.hide(&mut document);
        let expected = json!({
            "network": [{"name": "enx1", "queues": 2}],
            "observed": "wlx2 and enx1.7 are up",
            "path": "/sys/class/net/enx3/gro_flush_timeout",
            "kept": ["enp1s0f0np0", "lo", "enxtra", "enx00112233445g é"],
        });
        assert_eq!(document, expected);
        // What is hidden stays as it is.
        names.hide(&mut document);
        assert_eq!(document, expected);
    }
}
