//! What a session reads (a file that the run creates, an existing file, or a
//! block device), and what it writes: another file that the run creates. A
//! device whose word was said can be both (`drive`).
//!
//! **Invariant**: nothing here writes to a file that was there before, nor to a
//! device that the guard has not cleared; and workers make sure of it once more
//! (`may_write`). What is created has no name (`O_TMPFILE`), so that nothing is
//! left behind however the run ends.

mod created;
mod devices;
mod drive;
mod existing;
mod facts;
mod fill;
mod held;
mod interrupts;
mod place;
mod refusals;
mod written;

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::PathBuf,
};

use harness::{
    machine::{BlockDevice, Root},
    suite::{Forecast, NoTarget, Refusal, Session, SessionRequest},
};
use serde::{Deserialize, Serialize};

use crate::{
    contents::{BLOCK_BYTES, Seeded},
    experiments::WRITING,
};
pub use created::CREATED_BYTES;
pub(crate) use created::free_bytes;
pub use devices::devices;
use drive::Drive;
pub use existing::TARGET_MIN_BYTES;
pub use held::may_write;
pub use written::WRITTEN_BYTES;

/// The experiments that read nothing.
const NEEDS_NO_TARGET: &str = "storage/nop";

/// The file that is written, as a part of the one that is read: tests make
/// both smaller.
const WRITTEN_DIVISOR: u64 = CREATED_BYTES / WRITTEN_BYTES;

/// What workers are told of the target. Parts of it are stored in `run.json`,
/// so it holds no name that a person chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What workers open: the runner's descriptor, which they inherit, by its
    /// name below `/proc/self/fd`.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What stands in it.
    pub contents: Contents,
    /// How workers open it to read.
    #[serde(default)]
    pub access: Access,
    /// Whether workers may write to it, and what bears on that. `None` for
    /// whatever was there before the run.
    #[serde(default)]
    pub writable: Option<Writable>,
    /// How it was written before the first trial, where rows are to tell:
    /// trials write to it, or somebody asked for it. `None` for whatever was
    /// there before the run.
    #[serde(default)]
    pub preconditioning: Option<Preconditioning>,
    /// Type of the file system that it is on, for a file.
    pub filesystem: Option<String>,
    /// The device below, as far as the kernel tells.
    pub device: Option<BlockDevice>,
    /// What the device's lines in `/proc/interrupts` contain: its interrupts
    /// are the experiment's own.
    pub interrupts: Vec<String>,
    /// Its name in the results.
    pub label: String,
}

/// How a run has written a target before its first trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preconditioning {
    /// How often, from end to end.
    pub passes: u32,
    /// How far, from its beginning.
    pub bytes: u64,
}

impl Target {
    /// How it was preconditioned, in the word that rows have for it. A device
    /// of which a part alone was written was not: the rest may be empty, and a
    /// drive with room to spare writes faster.
    pub fn preconditioned(&self) -> Option<String> {
        let written = self.preconditioning?;
        let device = self.device.as_ref();
        let left = match (&self.filesystem, device) {
            (None, Some(device)) => device
                .size_bytes
                .map_or(u64::MAX, |all| all.saturating_sub(written.bytes)),
            _ => 0,
        };
        Some(match left < BLOCK_BYTES as u64 {
            true => times("written", written.passes),
            false => "no".to_owned(),
        })
    }
}

/// `written once`, `written twice`, `written 3 times`.
fn times(what: &str, count: u32) -> String {
    match count {
        1 => format!("{what} once"),
        2 => format!("{what} twice"),
        _ => format!("{what} {count} times"),
    }
}

/// What stands in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Contents {
    /// What this run wrote.
    Seeded(Seeded),
    /// Somebody else's data.
    Foreign,
}

/// A target that the run created in order to write to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writable {
    /// Options of the file system that bear on durability.
    pub mount_options: Vec<String>,
    /// NVMe drives below that say of themselves that they lose what was not
    /// flushed, whatever the kernel was told of them.
    #[serde(default)]
    pub forgetful_drives: Vec<String>,
}

/// How a target is opened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// With O_DIRECT, past the page cache. Every session asks for this.
    #[default]
    Direct,
    /// Through the page cache: to provoke what direct access must not show.
    Buffered,
}

/// Opens a target for reading. Through `/proc/self/fd` this makes a new
/// description of the very file or device that the runner holds, whatever has
/// become of its name.
///
/// # Errors
/// What open(2) said.
pub fn open(target: &Target) -> io::Result<File> {
    let flags = match target.access {
        Access::Direct => libc::O_DIRECT,
        Access::Buffered => 0,
    };
    OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_CLOEXEC)
        .open(&target.path)
}

/// A target held open for the session's workers.
#[derive(Debug)]
struct Held {
    /// Keeps the descriptor, and with it a file without a name, alive.
    _file: File,
    target: Target,
    facts: facts::Facts,
}

impl Session for Held {
    fn target(&self) -> serde_json::Value {
        // A structure of numbers and strings always has a JSON form.
        serde_json::to_value(&self.target).unwrap_or_default()
    }

    fn label(&self) -> String {
        self.target.label.clone()
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::to_value(&self.facts).unwrap_or_default()
    }
}

/// What a session reads and what it writes, as far as it does.
#[derive(Debug)]
struct Targets {
    read: Option<Held>,
    /// A refusal here leaves the experiments that read alone.
    written: Option<Result<Held, Refusal>>,
}

impl Session for Targets {
    fn target(&self) -> serde_json::Value {
        self.read.as_ref().map(Held::target).unwrap_or_default()
    }

    fn label(&self) -> String {
        self.read.as_ref().map(Held::label).unwrap_or_default()
    }

    fn facts(&self) -> serde_json::Value {
        let written = self.written.as_ref().and_then(|held| held.as_ref().ok());
        serde_json::json!({
            "read": self.read.as_ref().map(Held::facts),
            "written": written.map(Held::facts),
        })
    }

    fn own(&self, key: &str) -> Result<Option<&dyn Session>, Refusal> {
        match &self.written {
            Some(Ok(held)) if writes(key) => Ok(Some(held)),
            Some(Err(refusal)) if writes(key) => Err(refusal.clone()),
            _ => Ok(None),
        }
    }
}

/// Sets up a session's targets.
///
/// # Errors
/// Why they cannot be, and what would help.
pub fn prepare(request: &SessionRequest) -> Result<Box<dyn Session>, Refusal> {
    prepare_sized(request, CREATED_BYTES)
}

/// The same with another size for what is created to be read; what is created
/// to be written is a quarter of it.
///
/// # Errors
/// As `prepare`.
pub fn prepare_sized(
    request: &SessionRequest,
    created_bytes: u64,
) -> Result<Box<dyn Session>, Refusal> {
    let needs = Needs::of(request);
    let root = Root::system();
    let drive = drive::asked(request, &needs)
        .map(|path| Drive::precondition(&root, request, &needs, &path))
        .transpose()?;
    let read = match (needs.reads, &drive) {
        (true, Some(drive)) => Some(drive.to_read(&root)?),
        (true, None) => Some(read_target(&root, request, created_bytes)?),
        (false, _) => None,
    };
    let bytes = created_bytes / WRITTEN_DIVISOR;
    let written = needs.writes.then(|| match &drive {
        Some(drive) => drive.to_write(&root, bytes),
        None => written::prepare(&root, request, bytes),
    });
    match (read, written) {
        (None, None) => Ok(Box::new(NoTarget)),
        // Nothing else is asked for, so there is nothing to go on with.
        (None, Some(Err(refusal))) => Err(refusal),
        (read, written) => Ok(Box::new(Targets { read, written })),
    }
}

fn read_target(
    root: &Root,
    request: &SessionRequest,
    created_bytes: u64,
) -> Result<Held, Refusal> {
    match choose(request) {
        Choice::Create { directory } => {
            let place = place::inspect(root, &directory)?;
            let (file, contents, written) =
                created::create(request, &place, created_bytes)?;
            let contents = Contents::Seeded(contents);
            // Without it there would be nothing to read: no word of it.
            let written = (request.precondition > 0).then_some(written);
            hold(root, file, created_bytes, contents, place, written)
        }
        Choice::Existing { path } => {
            let found = existing::open(root, &path)?;
            let (bytes, contents) = (found.bytes, Contents::Foreign);
            hold(root, found.file, bytes, contents, found.place, None)
        }
    }
}

/// What `prepare` would do.
///
/// # Errors
/// As `prepare`, as far as that can be told without writing.
pub fn forecast(request: &SessionRequest) -> Result<Forecast, Refusal> {
    let needs = Needs::of(request);
    let root = Root::system();
    if let Some(path) = drive::asked(request, &needs) {
        return drive::forecast(&root, request, &needs, &path);
    }
    let mut forecast = Forecast::default();
    if needs.reads {
        forecast_read(&root, request, &mut forecast)?;
    }
    if needs.writes {
        match forecast_written(&root, request, &mut forecast) {
            Err(refusal) if needs.reads => {
                let refused = written_ids(request).join(", ");
                forecast.touches.push(format!("{refused} refused: {refusal}"));
            }
            other => other?,
        }
    }
    Ok(forecast)
}

fn forecast_read(
    root: &Root,
    request: &SessionRequest,
    forecast: &mut Forecast,
) -> Result<(), Refusal> {
    let touch = match choose(request) {
        Choice::Create { directory } => {
            let place = place::inspect(root, &directory)?;
            created::check(&place, CREATED_BYTES)?;
            forecast.bytes_written +=
                u64::from(created::passes(request)) * CREATED_BYTES;
            created_text(request, &place, CREATED_BYTES)
        }
        Choice::Existing { path } => {
            let found = existing::open(root, &path)?;
            let label = found.place.label(found.bytes, false);
            format!("{}: {label}, opened for reading only", path.display())
        }
    };
    forecast.touches.push(touch);
    Ok(())
}

fn forecast_written(
    root: &Root,
    request: &SessionRequest,
    forecast: &mut Forecast,
) -> Result<(), Refusal> {
    // However often it is written, it takes room once.
    let passes = u64::from(created::passes(request));
    let beside = forecast.bytes_written / passes;
    let (bytes, touch) = written::forecast(root, request, beside)?;
    forecast.bytes_written += bytes;
    forecast.overwriting = writing_keys(request);
    forecast.touches.push(touch);
    Ok(())
}

fn created_text(
    request: &SessionRequest,
    place: &place::Place,
    bytes: u64,
) -> String {
    let passes = match request.precondition {
        0 => String::new(),
        passes => format!(", {}", times("written", passes)),
    };
    format!(
        "a file without a name in {}: {}{passes}, gone when the run ends",
        place.path.display(),
        place.label(bytes, true),
    )
}

/// What a session's experiments do with their targets. None named means all.
struct Needs {
    reads: bool,
    writes: bool,
}

impl Needs {
    fn of(request: &SessionRequest) -> Self {
        let all = request.experiments.is_empty();
        let any = |wanted: fn(&str) -> bool| {
            all || request.experiments.iter().any(|key| wanted(key))
        };
        Self {
            reads: any(|key| id_of(key) != NEEDS_NO_TARGET && !writes(key)),
            writes: any(writes),
        }
    }
}

/// Whether the experiment with this key writes.
fn writes(key: &str) -> bool {
    WRITING.contains(&id_of(key))
}

/// Keys of those that write of a session's experiments.
fn writing_keys(request: &SessionRequest) -> Vec<String> {
    let keys = request.experiments.iter();
    keys.filter(|key| writes(key)).cloned().collect()
}

/// Those that write of a session's experiments.
fn written_ids(request: &SessionRequest) -> Vec<&'static str> {
    let asked = |id: &&str| {
        let keys = &request.experiments;
        keys.is_empty() || keys.iter().any(|key| id_of(key) == *id)
    };
    WRITING.into_iter().filter(asked).collect()
}

/// Keys are ids with parameters behind a blank.
fn id_of(key: &str) -> &str {
    key.split(' ').next().unwrap_or(key)
}

enum Choice {
    Create { directory: PathBuf },
    Existing { path: PathBuf },
}

fn choose(request: &SessionRequest) -> Choice {
    match &request.target {
        // The directory for results may not have been made yet.
        None => Choice::Create {
            directory: request
                .default_directory
                .ancestors()
                .find(|part| part.is_dir())
                .unwrap_or(&request.default_directory)
                .to_owned(),
        },
        Some(path) if path.is_dir() => {
            Choice::Create { directory: path.clone() }
        }
        Some(path) => Choice::Existing { path: path.clone() },
    }
}

/// Lets workers inherit the descriptor and describes the target to them.
fn hold(
    root: &Root,
    file: File,
    bytes: u64,
    contents: Contents,
    place: place::Place,
    preconditioning: Option<Preconditioning>,
) -> Result<Held, Refusal> {
    let fd = file.as_raw_fd();
    keep_across_exec(fd)
        .map_err(|error| refusals::failed("fcntl", &place.path, &error))?;
    let created = matches!(contents, Contents::Seeded(_));
    let label = place.label(bytes, created);
    let interrupts = place
        .device
        .as_ref()
        .map(|device| interrupts::names(root, device))
        .unwrap_or_default();
    let mut device = place.device.clone();
    if let Some(device) = &mut device {
        device.forget_names();
    }
    let target = Target {
        path: PathBuf::from(format!("/proc/self/fd/{fd}")),
        bytes,
        contents,
        access: Access::Direct,
        writable: None,
        preconditioning,
        filesystem: place.filesystem.as_ref().map(|f| f.kind.clone()),
        device,
        interrupts,
        label,
    };
    let facts = facts::of(root, &file, &target, &place);
    Ok(Held { _file: file, target, facts })
}

/// Clears FD_CLOEXEC: a worker is this program, executed again.
fn keep_across_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open in the caller's `File`; F_SETFD takes an
    // integer and touches no memory.
    let status = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
