//! What was found of a target when its session began, for `run.json`.

use std::fs::File;

use harness::machine::{BlockDevice, Root, devices::BlockKind};
use serde::Serialize;

use super::{Preconditioning, Target, place::Place};
use crate::{
    extents::{self, Extents},
    nvme::facts as nvme,
};

/// Where a target lies, and how.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    label: String,
    bytes: u64,
    /// `None` where the run wrote nothing, or rows do not tell of it.
    preconditioning: Option<Preconditioning>,
    filesystem: Option<String>,
    /// Of the mount, then of the file system. Empty for a device.
    mount_options: Vec<String>,
    /// `None` for a device, and where the file system does not tell.
    extents: Option<Extents>,
    device: Option<BlockDevice>,
    /// Each NVMe drive at the bottom, in its own words.
    nvme: Vec<nvme::Facts>,
}

/// Gathers them; what cannot be read is left out.
pub(super) fn of(
    root: &Root,
    file: &File,
    target: &Target,
    place: &Place,
) -> Facts {
    let filesystem = place.filesystem.as_ref();
    let drives = target.device.iter().flat_map(BlockDevice::bottom);
    Facts {
        label: target.label.clone(),
        bytes: target.bytes,
        preconditioning: target.preconditioning,
        filesystem: target.filesystem.clone(),
        mount_options: filesystem.map_or_else(Vec::new, |f| f.options.clone()),
        extents: filesystem.and_then(|_| extents::of(file).ok()),
        device: target.device.clone(),
        nvme: drives
            .filter(|device| device.kind == BlockKind::Nvme)
            .map(|device| nvme::of(root, device))
            .collect(),
    }
}

impl Facts {
    /// Names of the drives at the bottom that say of themselves that they lose
    /// what was not flushed.
    pub(super) fn forgetful_drives(&self) -> Vec<String> {
        let drives = self.nvme.iter().filter(|drive| drive.forgets());
        drives.map(|drive| drive.device.clone()).collect()
    }
}
