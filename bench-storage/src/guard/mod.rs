//! Whether a device may be written at all.
//!
//! A benchmark that writes to the wrong device destroys somebody's data, and
//! comparing names does not prevent it: a device has many. So a path is
//! followed to the device that the kernel knows, and each way in which it could
//! be somebody's is looked at: what the kernel does with it (`uses`: mounts,
//! swap, partitions, holders, loops; by any of its names), whether it lends it
//! to us alone (O_EXCL, which sees other mount namespaces too), and what stands
//! on it (`signatures`).
//!
//! **Invariant**: what cannot be found out counts against writing. Everything
//! here only reads.

mod node;
pub mod signatures;
mod uses;
mod word;

use std::{fs::File, path::Path};

use harness::machine::{BlockDevice, Root, block_device_of, block_devices};

/// What the guard says of a device.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The whole device.
    pub device: BlockDevice,
    /// Why it may not be written: each continues a sentence about the device.
    /// Empty when it may, with its word.
    pub reasons: Vec<String>,
    /// What has to be said before it is written. Only a device without a
    /// reason against it has one.
    pub word: Option<String>,
}

/// A device that is held for writing: nobody else can mount it meanwhile.
#[derive(Debug)]
pub struct Cleared {
    /// Open for reading and writing, with O_EXCL and O_DIRECT.
    pub file: File,
    /// What it is.
    pub device: BlockDevice,
}

/// Why a device is not cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsafe {
    /// The path leads to no block device.
    #[error("{0} is no block device")]
    NoDevice(String),
    /// It is, or could be, somebody's.
    #[error("{path} may not be written: it {}", reasons.join("; it "))]
    InUse {
        /// As named.
        path: String,
        /// All that speaks against it.
        reasons: Vec<String>,
    },
    /// Nothing speaks against it, and its word was not said.
    #[error("{path} may be written, and all that is on it is lost then: that \
             needs `--allow-destroy` with its word{}",
            if *wrong { ", and the word given is not its word" } else { "" })]
    NotAllowed {
        /// As named.
        path: String,
        /// Another word was said.
        wrong: bool,
    },
}

/// Judges the device that a path leads to, by whatever name; `None` when it
/// leads to none.
pub fn judge(root: &Root, path: &Path) -> Option<Judgement> {
    if !node::is_device(root, path) {
        return None;
    }
    let device = block_device_of(root, path)?;
    let mut reasons = uses::reasons(root, &device);
    for alias in aliases(root, &device) {
        let of_alias = uses::reasons(root, &alias);
        reasons.extend(
            of_alias.into_iter().map(|reason| {
                format!("is also {}, which {reason}", alias.name)
            }),
        );
    }
    // One reason is enough, and looking further means opening the device.
    let mut word = None;
    if reasons.is_empty() {
        match node::open_exclusive(root, &device, false) {
            Ok(file) => {
                reasons.extend(marks(&file));
                word = word::of(&device, &file);
                if word.is_none() {
                    reasons.push(word::LACK.to_owned());
                }
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if let Some(word) = &word
        && shares_word(root, &device, word)
    {
        reasons.push(format!("has the same word as another device, {word}"));
    }
    let word = word.filter(|_| reasons.is_empty());
    Some(Judgement { device, reasons, word })
}

/// Opens the device that `path` names for writing, if nothing speaks against
/// it and `said` is its word.
///
/// # Errors
/// What speaks against it.
pub fn clear(
    root: &Root,
    path: &Path,
    said: Option<&str>,
) -> Result<Cleared, Unsafe> {
    let name = path.display().to_string();
    let judgement =
        judge(root, path).ok_or_else(|| Unsafe::NoDevice(name.clone()))?;
    let in_use = |reasons| Unsafe::InUse { path: name.clone(), reasons };
    let Some(word) = judgement.word else {
        return Err(in_use(judgement.reasons));
    };
    if said != Some(word.as_str()) {
        return Err(Unsafe::NotAllowed { path: name, wrong: said.is_some() });
    }
    let device = judgement.device;
    let file = node::open_exclusive(root, &device, true)
        .map_err(|reason| in_use(vec![reason]))?;
    // Between the judgement and this opening it was nobody's; what was done
    // to it in between is seen now that nobody else can.
    let mut reasons = uses::reasons(root, &device);
    reasons.extend(marks(&file));
    if word::of(&device, &file).as_deref() != said {
        reasons.push("became another device meanwhile".to_owned());
    }
    match reasons.is_empty() {
        true => Ok(Cleared { file, device }),
        false => Err(in_use(reasons)),
    }
}

/// Other names of the same medium: a second path to a SCSI disk, or an NVMe
/// namespace that two controllers show. The kernel keeps them apart, and so
/// O_EXCL on one does not see the other; the world-wide name is the same.
fn aliases(root: &Root, device: &BlockDevice) -> Vec<BlockDevice> {
    let Some(own) = world_wide_name(root, &device.name) else {
        return Vec::new();
    };
    block_devices(root)
        .into_iter()
        .filter(|other| other.name != device.name)
        .filter(|other| {
            world_wide_name(root, &other.name).as_ref() == Some(&own)
        })
        .collect()
}

fn world_wide_name(root: &Root, name: &str) -> Option<String> {
    let read = |file: &str| root.read_word(format!("sys/block/{name}/{file}"));
    read("wwid").or_else(|| read("device/wwid"))
}

/// What stands on the device, in words.
fn marks(file: &File) -> Vec<String> {
    let found = node::size(file)
        .and_then(|size| signatures::find(size, node::reader(file)));
    match found {
        Ok(found) => found
            .into_iter()
            .map(|found| {
                format!(
                    "bears the mark of {} at byte {}; if nobody needs \
                     that, remove it with `wipefs`",
                    found.name, found.offset
                )
            })
            .collect(),
        Err(error) => vec![format!("could not be read: {error}")],
    }
}

fn shares_word(root: &Root, device: &BlockDevice, word: &str) -> bool {
    block_devices(root)
        .iter()
        .filter(|other| other.name != device.name)
        .any(|other| word::of_medium(other).as_deref() == Some(word))
}
