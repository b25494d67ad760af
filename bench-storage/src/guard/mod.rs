//! Whether a device may be written at all.
//!
//! A benchmark that writes to the wrong device destroys somebody's data, and
//! comparing names does not prevent it: a device has many. So a path is
//! followed to the device that the kernel knows, and each way in which it could
//! be somebody's is looked at: what the kernel does with it (`uses`: mounts,
//! swap, partitions, holders, loops; by any of its names), whether it lends it
//! to us alone (O_EXCL, which sees other mount namespaces too), what loop
//! devices are made of (`loops`), and what stands on it (`signatures`).
//!
//! **Invariant**: what cannot be found out counts against writing. Everything
//! here only reads.

mod loops;
mod node;
pub mod signatures;
mod uses;
mod word;

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use harness::machine::{
    BlockDevice, Root, block_device_of, block_devices,
    devices::{DeviceNumber, block_device_by_number},
};

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

/// A device that may be written and whose word was said.
#[derive(Clone, Debug)]
pub struct Allowed(Judgement);

impl Allowed {
    /// The whole device, as it was when it was judged.
    pub fn device(&self) -> &BlockDevice {
        &self.0.device
    }
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
/// leads to none. Where nothing else speaks against it, it is opened for
/// reading with O_EXCL for as long as that takes.
pub fn judge(root: &Root, path: &Path) -> Option<Judgement> {
    if !node::is_device(root, path) {
        return None;
    }
    let device = block_device_of(root, path)?;
    let mut reasons = unopened(root, &device);
    // One reason is enough, and looking further means opening the device.
    let mut word = None;
    if reasons.is_empty() {
        match node::open_exclusive(root, &device, false) {
            Ok(file) => (reasons, word) = opened(root, &device, &file),
            Err(reason) => reasons.push(reason),
        }
    }
    let word = word.filter(|_| reasons.is_empty());
    Some(Judgement { device, reasons, word })
}

/// Judges the device that `path` names, for whom `said` is to be its word.
/// Nothing is opened for writing.
///
/// # Errors
/// What speaks against writing it.
pub fn allow(
    root: &Root,
    path: &Path,
    said: Option<&str>,
) -> Result<Allowed, Unsafe> {
    let name = path.display().to_string();
    let judgement =
        judge(root, path).ok_or_else(|| Unsafe::NoDevice(name.clone()))?;
    match &judgement.word {
        None => Err(Unsafe::InUse { path: name, reasons: judgement.reasons }),
        Some(word) if said != Some(word.as_str()) => {
            Err(Unsafe::NotAllowed { path: name, wrong: said.is_some() })
        }
        Some(_) => Ok(Allowed(judgement)),
    }
}

/// Opens a device that was allowed as `path` for writing, if it still is what
/// it was judged to be.
///
/// # Errors
/// What speaks against writing it by now.
pub fn hold(
    root: &Root,
    path: &Path,
    Allowed(judged): &Allowed,
) -> Result<Cleared, Unsafe> {
    let in_use =
        |reasons| Unsafe::InUse { path: path.display().to_string(), reasons };
    let file = node::open_exclusive(root, &judged.device, true)
        .map_err(|reason| in_use(vec![reason]))?;
    // Another medium can have taken the number since the judgement. It cannot
    // any more: the kernel gives a number to nobody else while it is open.
    let number = judged.device.number;
    let Some(device) = number.and_then(|n| block_device_by_number(root, n))
    else {
        return Err(in_use(vec!["is gone meanwhile".to_owned()]));
    };
    let mut reasons = unopened(root, &device);
    let (more, word) = opened(root, &device, &file);
    reasons.extend(more);
    if word != judged.word {
        reasons.push("became another device meanwhile".to_owned());
    }
    match reasons.is_empty() {
        true => Ok(Cleared { file, device }),
        false => Err(in_use(reasons)),
    }
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
    hold(root, path, &allow(root, path, said)?)
}

/// What speaks against writing to a device that was `hold`ed before, and is
/// inherited as `descriptor`, a path below `/proc/self/fd`: nobody holds it, or
/// somebody else.
pub fn against_writing_held(
    root: &Root,
    descriptor: &Path,
    metadata: &Metadata,
) -> Vec<String> {
    let number = DeviceNumber::from_stat(metadata.rdev());
    let Some(device) = block_device_by_number(root, number) else {
        return vec!["is a device that the kernel does not list".to_owned()];
    };
    let mut reasons = unopened(root, &device);
    if !node::is_held(descriptor) {
        reasons.push(format!(
            "is {}, which nobody holds with O_EXCL",
            device.name
        ));
    }
    reasons
}

/// What speaks against a device as long as nobody opens it.
fn unopened(root: &Root, device: &BlockDevice) -> Vec<String> {
    let mut reasons = uses::reasons(root, device);
    for alias in aliases(root, device) {
        let of_alias = uses::reasons(root, &alias);
        reasons.extend(
            of_alias.into_iter().map(|reason| {
                format!("is also {}, which {reason}", alias.name)
            }),
        );
    }
    reasons
}

/// What speaks against a device that is open as `file`, and its word.
fn opened(
    root: &Root,
    device: &BlockDevice,
    file: &File,
) -> (Vec<String>, Option<String>) {
    let mut reasons = marks(file);
    reasons.extend(loops::reasons(root, device, file));
    for alias in aliases(root, device) {
        // The kernel shows the paths below a multipath device, without nodes.
        let hidden = format!("sys/block/{}/hidden", alias.name);
        if root.read_bool(hidden) == Some(true) {
            continue;
        }
        if let Err(reason) = node::open_exclusive(root, &alias, false) {
            reasons.push(format!("is also {}, which {reason}", alias.name));
        }
    }
    let word = word::of(root, device, file);
    match &word {
        None => reasons.push(word::lack(root, device)),
        Some(word) => reasons.extend(namesakes(root, device, word)),
    }
    (reasons, word)
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
                     that, remove it with `wipefs` or `dd`",
                    found.name, found.offset
                )
            })
            .collect(),
        Err(error) => vec![format!("could not be read: {error}")],
    }
}

/// Other media with the same word. Another path to this one has it by right.
fn namesakes(root: &Root, device: &BlockDevice, word: &str) -> Vec<String> {
    let same_medium = |other: &BlockDevice| {
        let own = world_wide_name(root, &device.name);
        own.is_some()
            && own == world_wide_name(root, &other.name)
            && device.serial == other.serial
    };
    block_devices(root)
        .iter()
        .filter(|other| other.name != device.name && !same_medium(other))
        .filter(|other| word::of_medium(root, other).as_deref() == Some(word))
        .map(|other| {
            format!(
                "has the same word as {}, {word}, which does not say then \
                 which of them is meant: detach the other, or write to a \
                 file in a directory of this one",
                other.name
            )
        })
        .collect()
}
