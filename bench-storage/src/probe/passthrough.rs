//! Probes of the variants that pass NVMe commands through.

use std::{io, os::fd::AsRawFd};

use harness::{
    machine::{Buffer, Root},
    suite::{Availability, ProbeRequest},
    uring::probe::{
        Lack, PROBE_ENTRIES, availability, build_of, register_ring_fd,
    },
};

use super::{complete, no_poll_queues, register_buffers, target_of};
use crate::{
    contents::BLOCK_BYTES,
    engine::{
        passthrough_reads::template,
        ring::{Big, Setup},
    },
    nvme::{Namespace, status},
};

/// A ring with large entries, and a target that is an NVMe namespace.
pub fn passthru(request: &ProbeRequest<'_>) -> Availability {
    availability(commands(Setup::SingleIssuer, request))
}

/// The same with the experiment's buffers registered.
pub fn passthru_buffers(request: &ProbeRequest<'_>) -> Availability {
    availability(with_buffers(Setup::SingleIssuer, request))
}

/// The same with queues for polling. The kernel would accept the commands
/// without such queues too, and serve them by interrupt.
pub fn passthru_polled(request: &ProbeRequest<'_>) -> Availability {
    if let Err(lack) = with_buffers(Setup::Polled, request) {
        return lack.into();
    }
    match target_of(request).and_then(|target| target.device) {
        Some(device) if device.io_poll == Some(false) => {
            no_poll_queues(&device)
        }
        _ => Availability::Available,
    }
}

fn with_buffers(setup: Setup, request: &ProbeRequest<'_>) -> Result<(), Lack> {
    commands(setup, request)?;
    register_buffers(&mut build_of::<Big>(setup)?, request)
}

fn commands(setup: Setup, request: &ProbeRequest<'_>) -> Result<(), Lack> {
    build_of::<Big>(setup).and_then(|mut ring| register_ring_fd(&mut ring))?;
    // Without a target there is no device to try.
    let Some(target) = target_of(request) else { return Ok(()) };
    let namespace = Namespace::of(&Root::system(), &target)?;
    read_first(setup, &namespace).map_err(|error| namespace.explain(&error))
}

/// One read of the namespace's first block.
fn read_first(setup: Setup, namespace: &Namespace) -> io::Result<()> {
    let buffer = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None)
        .map_err(io::Error::other)?;
    let address = buffer.as_non_null().as_ptr();
    let entry = template(namespace, false, address, BLOCK_BYTES)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut ring = setup.build_of::<Big>(PROBE_ENTRIES)?;
    ring.submitter().register_files(&[namespace.file.as_raw_fd()])?;
    let result = complete(&mut ring, &entry);
    if result.is_err() {
        // The kernel may still write to it; a probe's block is no loss.
        std::mem::forget(buffer);
    }
    match result? {
        0 => Ok(()),
        code if code < 0 => {
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        code => Err(io::Error::other(status::text(
            u16::try_from(code).unwrap_or(u16::MAX),
        ))),
    }
}
