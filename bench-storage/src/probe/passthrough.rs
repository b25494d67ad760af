//! Probes of the variants that pass NVMe commands through.

use std::{io, os::fd::AsRawFd};

use harness::{
    machine::{Buffer, Root},
    suite::{Availability, ProbeRequest},
    uring::probe::{
        Lack, PROBE_ENTRIES, availability, build_of, register_ring_fd,
    },
};

use super::{no_poll_queues, register_buffers, target_of};
use crate::{
    contents::BLOCK_BYTES,
    engine::{
        commands::transfer,
        lone::complete,
        ring::{Big, Setup},
    },
    nvme::{
        Namespace,
        command::{self, Command},
        identify, status,
    },
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

/// A namespace that may be written, with the word of its block device.
pub fn passthru_writes(request: &ProbeRequest<'_>) -> Availability {
    let tried = writable(request)
        .and_then(|_| with_buffers(Setup::SingleIssuer, request));
    availability(tried)
}

/// The same, of a controller that deallocates. Nothing is deallocated.
pub fn passthru_trims(request: &ProbeRequest<'_>) -> Availability {
    let tried = writable(request).and_then(|namespace| {
        commands(Setup::SingleIssuer, request)?;
        namespace.as_ref().map_or(Ok(()), deallocates)
    });
    availability(tried)
}

/// `None` where nothing was prepared.
fn writable(request: &ProbeRequest<'_>) -> Result<Option<Namespace>, Lack> {
    target_of(request)
        .map(|target| Namespace::to_write(&Root::system(), &target))
        .transpose()
}

fn deallocates(namespace: &Namespace) -> Result<(), Lack> {
    let data = command::identify(&namespace.file, 0, identify::CONTROLLER)
        .map_err(|error| namespace.explain(&error))?;
    match identify::controller(&data) {
        Some(controller) if controller.deallocates => Ok(()),
        _ => Err(Lack {
            reason: format!(
                "{} has no dataset management (ONCS, bit 2)",
                namespace.path.display()
            ),
            remedy: "a drive that deallocates (`nvme id-ctrl`)".to_owned(),
        }),
    }
}

/// A namespace whose volatile cache can be flushed, with or without a word.
pub fn passthru_flushes(request: &ProbeRequest<'_>) -> Availability {
    availability(commands(Setup::SingleIssuer, request))
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
    let entry = transfer(namespace, Command::read, false, address, BLOCK_BYTES)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut ring = setup.build_of::<Big>(PROBE_ENTRIES)?;
    ring.submitter().register_files(&[namespace.file.as_raw_fd()])?;
    // SAFETY: the entry points to the buffer, which is there until the ring is
    // done with it, and leaked below where that is not known.
    let result = unsafe { complete(&mut ring, &entry) };
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
