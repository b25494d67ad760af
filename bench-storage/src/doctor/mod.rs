//! What storage wants of a machine beside what every suite wants: the place
//! that files are made in, and the device below it.

mod device;
mod health;
mod place;

use harness::machine::{
    BlockDevice,
    doctor::{Check, Patient, Unknown, io_uring},
};

/// The checks, in the order in which they are told.
pub fn checks() -> Vec<Check> {
    [io_uring::CHECKS, place::CHECKS, device::CHECKS, health::CHECKS].concat()
}

/// The block device below the target.
fn device(patient: &Patient) -> Result<&BlockDevice, Unknown> {
    patient.block_device().ok_or_else(|| {
        // Findings go into run.json, which is to be shown around: the path
        // stays out of it.
        Unknown::because("no block device is known below the target")
            .with_fix("name a file system or device with --target")
    })
}
