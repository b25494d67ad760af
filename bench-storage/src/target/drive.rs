//! A device that is preconditioned: written from end to end before the first
//! trial, by whoever has said its word. Then trials read it, or write to it.
//!
//! Reads are worth it too: an SSD answers reads of blocks that were never
//! written, or that were trimmed, without a look at its flash.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use harness::{
    machine::{BlockDevice, Root},
    suite::{Forecast, Refusal, SessionRequest},
};

use super::{
    Choice, Contents, Held, Needs, Preconditioning, Seeded, Writable, choose,
    existing,
    fill::Fill,
    hold,
    place::{Place, size_text},
    refusals, times,
    written::{WRITTEN_BYTES, refuse, room},
};
use crate::{
    contents::BLOCK_BYTES,
    guard::{self, Cleared},
};

/// What trials write to of a device that is full, as a multiple of what they
/// write to otherwise: the more, the less of it fits into a drive's cache, and
/// the longer the reading back of what was written takes after each trial.
const SPAN_TIMES: u64 = 16;

/// Who asks for it, for refusals.
const ASKED_BY: &str = "`--precondition` writes";

/// A device that was written whole.
#[derive(Debug)]
pub(super) struct Drive {
    file: File,
    place: Place,
    contents: Seeded,
    written: Preconditioning,
    is_written_by_trials: bool,
}

/// What a session is to precondition that was there before.
pub(super) fn asked(
    request: &SessionRequest,
    needs: &Needs,
) -> Option<PathBuf> {
    let used = needs.reads || needs.writes;
    match choose(request) {
        Choice::Existing { path } if request.precondition > 0 && used => {
            Some(path)
        }
        _ => None,
    }
}

impl Drive {
    /// Writes the device that the request names.
    ///
    /// # Errors
    /// It may not be written, is too small, or was not written to its end.
    pub(super) fn precondition(
        root: &Root,
        request: &SessionRequest,
        needs: &Needs,
        path: &Path,
    ) -> Result<Self, Refusal> {
        let said = request.allow_destroy.as_deref();
        let Cleared { file, device } = guard::clear(root, path, said)
            .map_err(|reason| refuse(path, &reason, ASKED_BY))?;
        let bytes = whole(root, path, &device, needs)?;
        let contents = Seeded { run_id: request.run_id, seed: request.seed };
        Fill {
            file: &file,
            path,
            bytes,
            contents,
            passes: request.precondition,
            grows: false,
            meanwhile: &request.meanwhile,
        }
        .write()?;
        let place = Place {
            path: path.to_owned(),
            filesystem: None,
            device: Some(device),
        };
        let written = Preconditioning { passes: request.precondition, bytes };
        let is_written_by_trials = needs.writes;
        Ok(Self { file, place, contents, written, is_written_by_trials })
    }

    /// For trials that read it, all of it.
    pub(super) fn to_read(&self, root: &Root) -> Result<Held, Refusal> {
        // What trials write in between, reads do not know.
        let contents = match self.is_written_by_trials {
            true => Contents::Foreign,
            false => Contents::Seeded(self.contents),
        };
        self.held(root, self.written.bytes, contents)
    }

    /// For trials that write to it; to so many bytes if it were not full.
    pub(super) fn to_write(
        &self,
        root: &Root,
        bytes: u64,
    ) -> Result<Held, Refusal> {
        let bytes = span(self.written.bytes, bytes);
        let mut held =
            self.held(root, bytes, Contents::Seeded(self.contents))?;
        let forgetful_drives = held.facts.forgetful_drives();
        held.target.writable =
            Some(Writable { forgetful_drives, ..Writable::default() });
        Ok(held)
    }

    fn held(
        &self,
        root: &Root,
        bytes: u64,
        contents: Contents,
    ) -> Result<Held, Refusal> {
        let path = &self.place.path;
        let file = self
            .file
            .try_clone()
            .map_err(|error| refusals::failed("dup", path, &error))?;
        let (place, written) = (self.place.clone(), Some(self.written));
        hold(root, file, bytes, contents, place, written)
    }
}

/// What `precondition` would write and trials would then do, in words.
///
/// # Errors
/// As `precondition`, as far as that can be told without writing.
pub(super) fn forecast(
    root: &Root,
    request: &SessionRequest,
    needs: &Needs,
    path: &Path,
) -> Result<Forecast, Refusal> {
    let said = request.allow_destroy.as_deref();
    // Closing what was open for writing makes udev look at it anew.
    let allowed = guard::allow(root, path, said)
        .map_err(|reason| refuse(path, &reason, ASKED_BY))?;
    let bytes = whole(root, path, allowed.device(), needs)?;
    let passes = request.precondition;
    let then = match needs.writes {
        true => format!(
            "; trials then write to its first {}",
            size_text(span(bytes, WRITTEN_BYTES))
        ),
        false => "; trials then read it".to_owned(),
    };
    let text = format!(
        "{}: all of its {} are {}, and what is there is lost{then}",
        path.display(),
        size_text(bytes),
        times("overwritten", passes),
    );
    Ok(Forecast {
        bytes_written: u64::from(passes) * bytes,
        overwriting: super::writing_keys(request),
        touches: vec![text],
    })
}

/// How much of a device that is full trials write to.
fn span(whole: u64, otherwise: u64) -> u64 {
    whole.min(otherwise.saturating_mul(SPAN_TIMES))
}

/// The length of a device, in whole blocks.
fn whole(
    root: &Root,
    path: &Path,
    device: &BlockDevice,
    needs: &Needs,
) -> Result<u64, Refusal> {
    if needs.reads {
        // What stands against reading it is better known before it is written.
        existing::open(root, path)?;
    }
    let size = device.size_bytes.unwrap_or(0);
    let blocks = size / BLOCK_BYTES as u64;
    room(path, device.size_bytes, blocks * BLOCK_BYTES as u64)
}
