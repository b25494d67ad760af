//! The file that experiments write: made for the run, never one that was
//! there before.

use std::path::Path;

use harness::{
    machine::Root,
    suite::{Refusal, SessionRequest},
};

use super::{
    Choice, Contents, Held, Seeded, Writable, choose, created, hold,
    place::{self, Place},
    refusals::{self, describe},
};
use crate::durability::bears_on_durability;

/// 16 writers get 16 MiB each, the size of a log segment of PostgreSQL.
pub const WRITTEN_BYTES: u64 = 256 << 20;

/// Creates the file and writes it whole, so that trials overwrite and nothing
/// is allocated while measuring.
///
/// # Errors
/// `--target` names something to read, or the file cannot be.
pub(super) fn prepare(
    root: &Root,
    request: &SessionRequest,
    bytes: u64,
) -> Result<Held, Refusal> {
    let place = place_for(root, request)?;
    let contents = Seeded { run_id: request.run_id, seed: request.seed };
    let file = created::create(&place, bytes, contents)?;
    let options = place.filesystem.iter().flat_map(|f| f.options.iter());
    let mount_options =
        options.filter(|o| bears_on_durability(o)).cloned().collect();
    let contents = Contents::Seeded(contents);
    let mut held = hold(root, file, bytes, contents, place)?;
    held.target.writable = Some(Writable { mount_options });
    Ok(held)
}

/// Where it would be created.
///
/// # Errors
/// As `prepare`, as far as that can be told without writing.
pub(super) fn place_for(
    root: &Root,
    request: &SessionRequest,
) -> Result<Place, Refusal> {
    match choose(request) {
        Choice::Create { directory } => place::inspect(root, &directory),
        Choice::Existing { path } => Err(refuse(&path)),
    }
}

fn refuse(path: &Path) -> Refusal {
    let name = path.display();
    const REMEDY: &str = "name a directory with `--target DIR`, or leave \
         `--target` out: the run then creates a file to write to";
    match path.metadata() {
        Ok(_) => refusals::unsafe_target(
            format!(
                "{name} was there before the run, and this experiment writes; \
                 it writes to nothing but a file of its own"
            ),
            REMEDY,
        ),
        Err(error) => {
            refusals::usage(format!("{name}: {}", describe(&error)), REMEDY)
        }
    }
}
