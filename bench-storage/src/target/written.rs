//! What experiments write to: a file made for the run, or a block device that
//! the guard has cleared and whose word was said. Never a file that was there
//! before.

use std::path::Path;

use harness::{
    machine::Root,
    suite::{Refusal, SessionRequest},
};

use super::{
    Choice, Contents, Held, Preconditioning, Seeded, Writable, choose, created,
    fill::Fill,
    hold,
    place::{self, Place, size_text},
    refusals::{self, describe},
};
use crate::{
    contents::BLOCK_BYTES,
    durability::bears_on_durability,
    guard::{self, Cleared, Unsafe},
};

/// 16 writers get 16 MiB each, the size of a log segment of PostgreSQL.
pub const WRITTEN_BYTES: u64 = 256 << 20;

/// Who asks for it, for refusals.
const ASKED_BY: &str = "this experiment writes";

/// A device with less has no room for 16 regions worth the name.
const DEVICE_MIN_BYTES: u64 = 16 << 20;

/// Writes it whole, so that trials overwrite and nothing is allocated while
/// measuring.
///
/// # Errors
/// `--target` names what may not be written, or the file cannot be created.
pub(super) fn prepare(
    root: &Root,
    request: &SessionRequest,
    bytes: u64,
) -> Result<Held, Refusal> {
    let (file, contents, written, place) = match choose(request) {
        Choice::Create { directory } => {
            let place = place::inspect(root, &directory)?;
            let (file, contents, written) =
                created::create(request, &place, bytes)?;
            (file, contents, written, place)
        }
        Choice::Existing { path } => {
            let said = request.allow_destroy.as_deref();
            let Cleared { file, device } = guard::clear(root, &path, said)
                .map_err(|reason| refuse(&path, &reason, ASKED_BY))?;
            let bytes = room(&path, device.size_bytes, bytes)?;
            let (run_id, seed) = (request.run_id, request.seed);
            let contents = Seeded { run_id, seed };
            Fill {
                file: &file,
                path: &path,
                bytes,
                contents,
                passes: 1,
                grows: false,
                meanwhile: &request.meanwhile,
            }
            .write()?;
            let written = Preconditioning { passes: 1, bytes };
            let device = Some(device);
            let place = Place { path, filesystem: None, device };
            (file, contents, written, place)
        }
    };
    let options = place.filesystem.iter().flat_map(|f| f.options.iter());
    let mount_options =
        options.filter(|o| bears_on_durability(o)).cloned().collect();
    let contents = Contents::Seeded(contents);
    let mut held =
        hold(root, file, written.bytes, contents, place, Some(written))?;
    let forgetful_drives = held.facts.forgetful_drives();
    held.target.writable = Some(Writable { mount_options, forgetful_drives });
    Ok(held)
}

/// What `prepare` would write, beside so many bytes elsewhere, in words.
///
/// # Errors
/// As `prepare`, as far as that can be told without writing.
pub(super) fn forecast(
    root: &Root,
    request: &SessionRequest,
    beside: u64,
) -> Result<(u64, String), Refusal> {
    match choose(request) {
        Choice::Create { directory } => {
            let place = place::inspect(root, &directory)?;
            created::check(&place, WRITTEN_BYTES + beside)?;
            let text = super::created_text(request, &place, WRITTEN_BYTES);
            let bytes = u64::from(created::passes(request)) * WRITTEN_BYTES;
            Ok((bytes, format!("{text}; trials overwrite it")))
        }
        Choice::Existing { path } => {
            let said = request.allow_destroy.as_deref();
            // Closing what was open for writing makes udev look at it anew.
            let allowed = guard::allow(root, &path, said)
                .map_err(|reason| refuse(&path, &reason, ASKED_BY))?;
            let size = allowed.device().size_bytes;
            let bytes = room(&path, size, WRITTEN_BYTES)?;
            let text = format!(
                "{}: its first {} are overwritten, and what is there is lost",
                path.display(),
                size_text(bytes)
            );
            Ok((bytes, text))
        }
    }
}

/// How much of a device is written.
pub(super) fn room(
    path: &Path,
    size: Option<u64>,
    wanted: u64,
) -> Result<u64, Refusal> {
    let size = size.unwrap_or(0);
    if size < DEVICE_MIN_BYTES {
        return Err(refusals::usage(
            format!(
                "{} has {}; at least {} are needed to write",
                path.display(),
                size_text(size),
                size_text(DEVICE_MIN_BYTES)
            ),
            "name a larger device, or a directory to create a file in",
        ));
    }
    let block = BLOCK_BYTES as u64;
    Ok(size.min(wanted) / block * block)
}

/// Why a path is not written to, as `asked_by` would.
pub(super) fn refuse(path: &Path, reason: &Unsafe, asked_by: &str) -> Refusal {
    const DIRECTORY: &str = "name a directory with `--target DIR`, or leave \
         `--target` out: the run then creates a file to write to";
    const DEVICES: &str = "`bypass list --devices` tells what may be done to \
         which device, and its word; or name a directory with `--target DIR` \
         to write to a file in it";
    match (reason, path.metadata()) {
        (Unsafe::NoDevice(name), Ok(_)) => refusals::unsafe_target(
            format!(
                "{name} was there before the run, and {asked_by}; a run \
                 writes to no file but its own"
            ),
            DIRECTORY,
        ),
        (Unsafe::NoDevice(name), Err(error)) => {
            refusals::usage(format!("{name}: {}", describe(&error)), DIRECTORY)
        }
        _ => refusals::unsafe_target(reason.to_string(), DEVICES),
    }
}
