//! Probes of the variants that pass NVMe commands through.

use std::{io, os::fd::AsRawFd};

use harness::{
    machine::{Buffer, Root},
    suite::{Availability, ProbeRequest},
    uring::probe::{
        Lack, PROBE_ENTRIES, availability, build_of, register_ring_fd,
    },
};
use io_uring::squeue::Entry128;

use super::{no_poll_queues, register_buffers, somewhere, target_of};
use crate::{
    contents::BLOCK_BYTES,
    engine::{
        commands::transfer,
        one_entry::complete,
        ring::{Big, Enters, Entries, Mixed, Setup},
    },
    nvme::{
        Namespace,
        command::{self, Command},
        identify, status,
    },
    target::Target,
};

/// A ring with large entries, and a target that is an NVMe namespace.
pub fn passthru(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || commands::<Big>(Setup::SingleIssuer, request))
}

/// The same with the experiment's buffers registered.
pub fn passthru_buffers(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || with_buffers::<Big>(Setup::SingleIssuer, request))
}

/// The same with completions that are large where they have to be.
pub fn passthru_mixed(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || with_buffers::<Mixed>(Setup::SingleIssuer, request))
}

/// The same with queues for polling. The kernel would accept the commands
/// without such queues too, and serve them by interrupt.
pub fn passthru_polled(request: &ProbeRequest<'_>) -> Availability {
    let tried =
        where_nvme(request, || with_buffers::<Big>(Setup::Polled, request));
    match (tried, target_of(request)) {
        (Availability::Undecided { .. }, None) => {
            somewhere::polling(&Root::system())
        }
        (Availability::Available, Some(Target { device, .. })) => device
            .filter(|device| device.io_poll == Some(false))
            .map_or(Availability::Available, |d| no_poll_queues(&d)),
        (answer, _) => answer,
    }
}

/// A namespace that may be written, with the word of its block device.
pub fn passthru_writes(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || {
        writable(request)?;
        with_buffers::<Big>(Setup::SingleIssuer, request)
    })
}

/// The same, of a controller that deallocates. Nothing is deallocated.
pub fn passthru_trims(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || {
        let namespace = writable(request)?;
        commands::<Big>(Setup::SingleIssuer, request)?;
        namespace.as_ref().map_or(Ok(()), deallocates)
    })
}

/// A namespace whose volatile cache can be flushed, with or without a word.
pub fn passthru_flushes(request: &ProbeRequest<'_>) -> Availability {
    where_nvme(request, || commands::<Big>(Setup::SingleIssuer, request))
}

/// What comes of trying; as long as there is no target, only where any device
/// here would do.
fn where_nvme(
    request: &ProbeRequest<'_>,
    attempt: impl FnOnce() -> Result<(), Lack>,
) -> Availability {
    if target_of(request).is_some() {
        return availability(attempt());
    }
    match somewhere::namespaces(&Root::system()) {
        lack @ Availability::Unavailable { .. } => lack,
        known => attempt().map_or_else(Availability::from, |()| known),
    }
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

fn with_buffers<E: Entries<Submission = Entry128>>(
    setup: Setup,
    request: &ProbeRequest<'_>,
) -> Result<(), Lack> {
    commands::<E>(setup, request)?;
    register_buffers(&mut build_of::<E>(setup)?, request)
}

fn commands<E: Entries<Submission = Entry128>>(
    setup: Setup,
    request: &ProbeRequest<'_>,
) -> Result<(), Lack> {
    build_of::<E>(setup).and_then(|mut ring| register_ring_fd(&mut ring))?;
    // Without a target there is no device to try.
    let Some(target) = target_of(request) else { return Ok(()) };
    let namespace = Namespace::of(&Root::system(), &target)?;
    read_first::<E>(setup, &namespace)
        .map_err(|error| namespace.explain(&error))
}

/// One read of the namespace's first block.
fn read_first<E: Entries<Submission = Entry128>>(
    setup: Setup,
    namespace: &Namespace,
) -> io::Result<()> {
    let buffer = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None)
        .map_err(io::Error::other)?;
    let address = buffer.as_non_null().as_ptr();
    let entry = transfer(namespace, Command::read, false, address, BLOCK_BYTES)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut ring = setup.build_of::<E>(PROBE_ENTRIES)?;
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
