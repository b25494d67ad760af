//! Probes of the variants without a ring.

use std::{fs::File, io};

use harness::{
    machine::{Root, kernel_version},
    suite::{Availability, ProbeRequest},
};
use memmap2::{Advice, MmapOptions};

use super::{load_of, no_poll_queues, somewhere, target_of, whole_sectors};
use crate::{
    contents::BLOCK_BYTES,
    engine::{aio_calls::Context, blocking::ReadCall},
    moving::calls::can_copy_file_range,
    target::{self, Access, Target},
};

/// Blocking calls are always there; the target may not take ops so small.
pub fn blocking(request: &ProbeRequest<'_>) -> Availability {
    whole_sectors(request).unwrap_or(Availability::Available)
}

/// From this version on the kernel does not poll for a call that waits: commit
/// 9650b453a3d4, "block: ignore RWF_HIPRI hint for sync dio". Some older kernels
/// of distributions have it too (RHEL 9.1); their rows tell.
const HIPRI_IGNORED_SINCE: (u32, u32) = (5, 19);

/// A kernel that still polls for a call that waits, and a device that can be
/// polled. Nothing else says so: the flag is ignored where it cannot be served.
pub fn hipri(request: &ProbeRequest<'_>) -> Availability {
    let root = Root::system();
    if kernel_version(&root) >= Some(HIPRI_IGNORED_SINCE) {
        return Availability::unavailable(
            "since Linux 5.19 the kernel ignores RWF_HIPRI on calls that wait",
            "`uring-iopoll`, which is how a program polls today; Linux 5.18 \
             or earlier polls in such calls too",
        );
    }
    let Some(target) = target_of(request) else {
        return somewhere::polling(&root);
    };
    match target.device {
        Some(device) if device.io_poll == Some(false) => {
            no_poll_queues(&device)
        }
        _ => Availability::Available,
    }
}

/// A file system that can drop pages once they were read.
pub fn uncached(request: &ProbeRequest<'_>) -> Availability {
    let Some(target) = target_of(request) else {
        return Availability::undecided(
            "the target's file system, and Linux 6.14 or later",
        );
    };
    let buffered = Target { access: Access::Buffered, ..target };
    let call = ReadCall::Preadv2 { flags: libc::RWF_DONTCACHE };
    let tried = target::open(&buffered)
        .and_then(|file| call.read(&file, &mut [0; BLOCK_BYTES], 0));
    match tried {
        Ok(_) => Availability::Available,
        Err(error) => Availability::unavailable(
            format!(
                "preadv2 with RWF_DONTCACHE on {}: {error}",
                buffered.label
            ),
            "Linux 6.14 or later, and a file system that supports it, such \
             as ext4, xfs or btrfs",
        ),
    }
}

/// As many ops as any experiment has in flight on one CPU.
const DEEPEST: usize = 256;

/// Linux AIO with room for all of the experiment's ops, which the target takes.
pub fn aio(request: &ProbeRequest<'_>) -> Availability {
    if let Some(lack) = whole_sectors(request) {
        return lack;
    }
    // The kernel takes tens of milliseconds to take a context down: one that
    // has room for more answers for all.
    let has_room = request.in_common(|_| aio_at(DEEPEST));
    let in_flight = load_of(request).map_or(1, |load| load.in_flight());
    match has_room {
        Availability::Available if in_flight <= DEEPEST => has_room,
        _ => aio_at(in_flight),
    }
}

fn aio_at(ops: usize) -> Availability {
    match Context::new(ops) {
        Ok(_) => Availability::Available,
        Err(error) => explain_aio(ops, &error),
    }
}

fn explain_aio(ops: usize, error: &io::Error) -> Availability {
    let remedy = match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "as root: raise `sysctl fs.aio-max-nr`; fs.aio-nr shows what is \
             in use"
        }
        Some(libc::ENOSYS) => {
            "a kernel with CONFIG_AIO=y, and in a container a seccomp profile \
             that allows io_setup, io_submit and io_getevents"
        }
        _ => "in a container a seccomp profile that allows io_setup",
    };
    let reason = format!("io_setup for {ops} ops: {error}");
    Availability::unavailable(reason, remedy)
}

/// A target within which the kernel copies.
pub fn copy_file_range(request: &ProbeRequest<'_>) -> Availability {
    let Some(target) = target_of(request) else {
        return Availability::Available;
    };
    let mut options = File::options();
    options.read(true).write(target.writable.is_some());
    let tried = options.open(&target.path);
    match tried.and_then(|file| can_copy_file_range(&file)) {
        Ok(()) => Availability::Available,
        Err(error) => Availability::unavailable(
            format!("copy_file_range within {}: {error}", target.label),
            "Linux 4.5 or later, and a file: devices cannot be copied so",
        ),
    }
}

/// MADV_POPULATE_READ.
pub fn populate(request: &ProbeRequest<'_>) -> Availability {
    let Some(target) = target_of(request) else {
        return Availability::Available;
    };
    let buffered = Target { access: Access::Buffered, ..target };
    let tried = target::open(&buffered).and_then(|file| {
        // SAFETY: nothing is read through the mapping, which is gone before
        // this returns.
        let map = unsafe { MmapOptions::new().len(BLOCK_BYTES).map(&file) }?;
        map.advise(Advice::PopulateRead)
    });
    match tried {
        Ok(()) => Availability::Available,
        Err(error) => Availability::unavailable(
            format!("madvise(MADV_POPULATE_READ): {error}"),
            "Linux 5.14 or later",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_io_setup_has_a_next_step() {
        for (errno, step) in [
            (libc::EAGAIN, "fs.aio-max-nr"),
            (libc::ENOSYS, "CONFIG_AIO"),
            (libc::EPERM, "seccomp"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let Availability::Unavailable { reason, remedy } =
                explain_aio(32, &error)
            else {
                panic!("errno {errno} is a lack");
            };
            assert!(reason.contains("32 ops"), "{reason}");
            assert!(remedy.contains(step), "{remedy}");
        }
    }
}
