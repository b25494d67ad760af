//! Whether this machine has what a variant needs. A probe makes a small ring,
//! tries, and drops it.

mod calls;
mod passthrough;
mod somewhere;
mod trim;

use std::{
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use harness::{
    machine::{BlockDevice, Buffer, Root},
    suite::{Availability, ProbeRequest},
    uring::probe::{
        Lack, MORE_LOCKED_MEMORY, PROBE_ENTRIES, availability, build,
        memlock_text, register_ring_fd,
    },
};
use io_uring::{opcode, types::Fd};

use crate::{
    contents::BLOCK_BYTES,
    engine::{
        one_entry::complete,
        ring::{Entries, POLLER_IDLE_MS, Ring, Setup},
        ring_reads::register_buffer,
    },
    load::Load,
    target::{self, Target},
};

pub use calls::{aio, blocking, copy_file_range, hipri, populate, uncached};
pub use passthrough::{
    passthru, passthru_buffers, passthru_flushes, passthru_mixed,
    passthru_polled, passthru_trims, passthru_writes,
};
pub use trim::{trim, uring_discard, uring_fallocate};

/// Can a ring be had at all?
pub fn plain(request: &ProbeRequest<'_>) -> Availability {
    whole_sectors(request)
        .unwrap_or_else(|| availability(build(Setup::Plain).map(drop)))
}

/// What stands against ops of less than a block: a target whose logical
/// blocks are larger. It is asked by a read, since file systems may want more
/// than their device.
fn whole_sectors(request: &ProbeRequest<'_>) -> Option<Availability> {
    let target = target_of(request)?;
    let op_bytes = load_of(request).map_or(BLOCK_BYTES, |load| load.op_bytes);
    if op_bytes >= BLOCK_BYTES {
        return None;
    }
    let mut sector = Buffer::new(op_bytes, BLOCK_BYTES, None).ok()?;
    let offset = op_bytes as u64;
    let tried = target::open(&target)
        .and_then(|file| file.read_at(&mut sector, offset));
    match tried {
        Ok(read) if read == op_bytes => None,
        Ok(_) => Some(too_small(&target, op_bytes, "fell short")),
        Err(error) => {
            Some(too_small(&target, op_bytes, &format!("says {error}")))
        }
    }
}

fn too_small(target: &Target, op_bytes: usize, what: &str) -> Availability {
    let device = target.device.as_ref();
    let logical = device
        .and_then(|device| device.logical_block_bytes)
        .map(|bytes| format!("; its device's logical blocks are {bytes} bytes"))
        .unwrap_or_default();
    Availability::unavailable(
        format!(
            "a read of {op_bytes} bytes of {} past the page cache \
             {what}{logical}",
            target.label
        ),
        "a device formatted with logical blocks of 512 bytes (`nvme id-ns`, \
         `lsblk -o NAME,LOG-SEC`), or a larger op_bytes",
    )
}

/// A ring for one issuer, as NOPs use it.
pub fn single_issuer(_: &ProbeRequest<'_>) -> Availability {
    availability(
        build(Setup::SingleIssuer)
            .and_then(|mut ring| register_ring_fd(&mut ring)),
    )
}

/// A ring whose own descriptor can be registered.
pub fn ring(_: &ProbeRequest<'_>) -> Availability {
    availability(
        build(Setup::Plain).and_then(|mut ring| register_ring_fd(&mut ring)),
    )
}

/// The same with the experiment's buffers registered.
pub fn buffers(request: &ProbeRequest<'_>) -> Availability {
    all_registered(Setup::Plain, request)
}

/// The same for one issuer.
pub fn fixed(request: &ProbeRequest<'_>) -> Availability {
    all_registered(Setup::SingleIssuer, request)
}

fn all_registered(setup: Setup, request: &ProbeRequest<'_>) -> Availability {
    if let Some(lack) = whole_sectors(request) {
        return lack;
    }
    let tried = build(setup).and_then(|mut ring| {
        register_ring_fd(&mut ring)?;
        register_buffers(&mut ring, request)
    });
    availability(tried)
}

/// A ring with a kernel thread on the trial's second CPU, if it has one.
pub fn poller(request: &ProbeRequest<'_>) -> Availability {
    let cpus = request.cpus();
    let Some(&cpu) = cpus.get(1).or(cpus.first()) else {
        return buffers(request);
    };
    let idle_ms = POLLER_IDLE_MS;
    all_registered(Setup::Poller { cpu, idle_ms }, request)
}

/// A ring that polls for completions, and a device that can be polled.
pub fn polled(request: &ProbeRequest<'_>) -> Availability {
    polled_by(Setup::Polled, request)
}

/// The same for a ring that sleeps before it polls.
pub fn hybrid(request: &ProbeRequest<'_>) -> Availability {
    polled_by(Setup::Hybrid, request)
}

fn polled_by(setup: Setup, request: &ProbeRequest<'_>) -> Availability {
    let target = target_of(request);
    let known = match &target {
        // Cheaper to see than whether there is a ring.
        None => somewhere::polling(&Root::system()),
        Some(_) => Availability::Available,
    };
    if let lack @ Availability::Unavailable { .. } = known {
        return lack;
    }
    let tried = build(setup).and_then(|mut ring| register_ring_fd(&mut ring));
    if let Err(lack) = tried {
        return lack.into();
    }
    let Some(target) = target else { return known };
    // Both are asked: before Linux 6.11 a device without poll queues served
    // polled reads by interrupt, and said nothing.
    if let Some(device) = &target.device
        && device.io_poll == Some(false)
    {
        return no_poll_queues(device);
    }
    match polled_read(setup, &target) {
        Ok(()) => all_registered(setup, request),
        Err(error) => polled_read_refused(&target, &error),
    }
}

/// `None` where nothing was prepared, as for `bypass list`.
fn target_of(request: &ProbeRequest<'_>) -> Option<Target> {
    serde_json::from_value(request.target().clone()).ok()
}

/// `None` where the parameters are none of a load.
fn load_of(request: &ProbeRequest<'_>) -> Option<Load> {
    let cpus = request.cpus().len().max(1);
    Load::from_params(request.params(), cpus).ok()
}

/// Registers as much as all rings of the trial together, since the limit
/// counts per user and not per ring.
fn register_buffers<E: Entries>(
    ring: &mut Ring<E>,
    request: &ProbeRequest<'_>,
) -> Result<(), Lack> {
    let bytes =
        load_of(request).map_or(BLOCK_BYTES, |load| load.buffer_bytes());
    let buffer =
        Buffer::new(bytes, BLOCK_BYTES, None).map_err(|error| Lack {
            reason: format!("{bytes} bytes of buffers: {error}"),
            remedy: "free some memory".to_owned(),
        })?;
    let registered = register_buffer(ring, buffer.as_non_null(), bytes);
    registered.map_err(|error| explain_buffers(bytes, &error))
}

fn explain_buffers(bytes: usize, error: &io::Error) -> Lack {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        return Lack {
            reason: format!(
                "registering {bytes} bytes of buffers says ENOMEM: \
                 RLIMIT_MEMLOCK is {}",
                memlock_text()
            ),
            remedy: MORE_LOCKED_MEMORY.to_owned(),
        };
    }
    Lack {
        reason: format!("registering {bytes} bytes of buffers: {error}"),
        remedy: "allow io_uring_register in the seccomp profile".to_owned(),
    }
}

/// One polled read of the target's first block.
fn polled_read(setup: Setup, target: &Target) -> io::Result<()> {
    let file = target::open(target)?;
    let buffer = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None)
        .map_err(io::Error::other)?;
    let length = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    let address = buffer.as_non_null().as_ptr();
    let entry = opcode::Read::new(Fd(file.as_raw_fd()), address, length);
    let mut ring = setup.build(PROBE_ENTRIES)?;
    // SAFETY: the entry points to the buffer, which is there until the ring is
    // done with it, and leaked below where that is not known.
    let result = unsafe { complete(&mut ring, &entry.build()) };
    if result.is_err() {
        // The kernel may still write to it; a probe's block is no loss.
        std::mem::forget(buffer);
    }
    match result? {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

fn polled_read_refused(target: &Target, error: &io::Error) -> Availability {
    let what = &target.label;
    match (error.raw_os_error(), &target.device) {
        (Some(libc::EOPNOTSUPP), device) => Availability::unavailable(
            format!("a polled read of {what} says EOPNOTSUPP"),
            device.as_ref().map_or_else(no_polling, poll_queues_remedy),
        ),
        _ => Availability::unavailable(
            format!("a polled read of {what}: {error}"),
            no_polling(),
        ),
    }
}

fn no_poll_queues(device: &BlockDevice) -> Availability {
    let reason = format!(
        "/sys/block/{}/queue/io_poll is 0: the device has no poll queues",
        device.name
    );
    Availability::unavailable(reason, poll_queues_remedy(device))
}

fn no_polling() -> String {
    "a file system and a device that can be polled: ext4, xfs or the device \
     itself, on NVMe or virtio-blk"
        .to_owned()
}

fn poll_queues_remedy(device: &BlockDevice) -> String {
    use harness::machine::devices::BlockKind;
    let set = |parameter: &str, since: &str| {
        format!(
            "`{parameter}=2` on the kernel command line{since}, as far as the \
             device has queues to spare"
        )
    };
    match device.kind {
        BlockKind::Nvme => set("nvme.poll_queues", ""),
        BlockKind::Virtio => {
            set("virtio_blk.poll_queues", " (Linux 5.19 or later)")
        }
        _ => no_polling(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_registration_has_a_next_step() {
        let buffers =
            explain_buffers(4096, &io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(buffers.remedy.contains("ulimit -l"), "{buffers:?}");
    }
}
