//! What an NVMe drive says of itself, for the record. Best effort: what cannot
//! be read is left out, with the reason. Serial numbers are not read.

use harness::machine::{BlockDevice, Root};
use serde::Serialize;

use super::{
    command,
    health::{self, Health},
    identify::{self, Controller, Deallocated, Layout},
    namespace::{explain, open_generic},
};

/// A drive's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The kernel's name of the block device.
    pub device: String,
    /// What the controller can do.
    pub controller: Option<Controller>,
    /// Whether its volatile write cache is on. `None` where it has none, or
    /// does not tell.
    pub write_cache_on: Option<bool>,
    /// How the namespace is formatted.
    pub namespace: Option<Layout>,
    /// Temperature and wear, when they were read.
    pub health: Option<Health>,
    /// What could not be read, and why.
    pub lacks: Vec<String>,
}

/// Asks the drive that has this namespace.
pub fn of(root: &Root, device: &BlockDevice) -> Facts {
    let mut facts = Facts { device: device.name.clone(), ..Facts::default() };
    let (path, node) = match open_generic(root, device) {
        Ok(opened) => opened,
        Err(lack) => {
            facts.lacks.push(lack.reason);
            return facts;
        }
    };
    let id = command::namespace_id(&node);
    let mut ask = |what: &str, answer: std::io::Result<Vec<u8>>| match answer {
        Ok(data) => Some(data),
        Err(error) => {
            let reason = explain(&path, &error).reason;
            facts.lacks.push(format!("{what}: {reason}"));
            None
        }
    };
    facts.controller = ask(
        "identify controller",
        command::identify(&node, 0, identify::CONTROLLER),
    )
    .and_then(|data| identify::controller(&data));
    facts.namespace = ask(
        "identify namespace",
        id.and_then(|id| command::identify(&node, id, identify::NAMESPACE)),
    )
    .and_then(|data| identify::layout(&data));
    facts.health = ask(
        "health log",
        command::log_page(&node, health::PAGE, health::BYTES),
    )
    .and_then(|data| health::parse(&data));
    if facts.has_volatile_cache() {
        match command::write_cache_is_on(&node) {
            Ok(is_on) => facts.write_cache_on = Some(is_on),
            Err(error) => {
                let reason = explain(&path, &error).reason;
                facts.lacks.push(format!("write cache: {reason}"));
            }
        }
    }
    facts
}

impl Facts {
    fn has_volatile_cache(&self) -> bool {
        let controller = self.controller.as_ref();
        controller.is_some_and(|c| c.volatile_write_cache)
    }

    /// Whether the drive says that it loses writes that were not flushed: it
    /// has such a cache and does not say that it is off.
    pub fn forgets(&self) -> bool {
        self.has_volatile_cache() && self.write_cache_on != Some(false)
    }
}

/// Its state alone, for whoever judges it.
///
/// # Errors
/// Why it cannot be read.
pub fn health(root: &Root, device: &BlockDevice) -> Result<Health, String> {
    let (path, node) =
        open_generic(root, device).map_err(|lack| lack.reason)?;
    let page = command::log_page(&node, health::PAGE, health::BYTES)
        .map_err(|error| explain(&path, &error).reason)?;
    health::parse(&page)
        .ok_or_else(|| format!("{}: a short health log", path.display()))
}

/// What the namespace promises of deallocated blocks; where it cannot be
/// asked, nothing.
pub fn deallocated(root: &Root, device: &BlockDevice) -> Deallocated {
    let asked = open_generic(root, device).ok().and_then(|(_, node)| {
        let id = command::namespace_id(&node).ok()?;
        command::identify(&node, id, identify::NAMESPACE).ok()
    });
    identify::deallocated(&asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_forgets_with_a_volatile_cache_that_is_not_off() {
        let facts = |volatile_write_cache, write_cache_on| Facts {
            controller: Some(Controller {
                version: "1.4.0".to_owned(),
                volatile_write_cache,
                deallocates: true,
                warning_temperature_c: None,
                critical_temperature_c: None,
            }),
            write_cache_on,
            ..Facts::default()
        };
        assert!(facts(true, Some(true)).forgets());
        assert!(facts(true, None).forgets());
        assert!(!facts(true, Some(false)).forgets());
        assert!(!facts(false, None).forgets());
        assert!(!Facts::default().forgets(), "nobody could ask it");
    }
}
