//! Whether this machine has what a variant needs. A probe makes a small ring,
//! tries, and drops it.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use harness::{
    machine::{BlockDevice, Buffer, Root, memlock_limit_bytes},
    suite::{Availability, ProbeRequest},
};
use io_uring::{EnterFlags, opcode, types::Fd};

use crate::{
    contents::BLOCK_BYTES,
    engine::{
        ring::{Ring, Setup},
        ring_reads::register_buffer,
    },
    load::Load,
    target::{self, Target},
};

/// Entries of a ring that only probes.
const PROBE_ENTRIES: usize = 2;

/// Rings count against the limit up to Linux 5.11 and again in 6.18 (seen
/// there); registered buffers always do.
const MORE_LOCKED_MEMORY: &str = "`ulimit -l unlimited`, a `memlock` line in \
     /etc/security/limits.conf, or LimitMEMLOCK=infinity for a service";

/// Blocking calls are always there.
pub fn blocking(_: &ProbeRequest<'_>) -> Availability {
    Availability::Available
}

/// Can a ring be had at all?
pub fn plain(_: &ProbeRequest<'_>) -> Availability {
    availability(build(Setup::Plain).map(drop))
}

/// A ring for one issuer, as NOPs use it.
pub fn single_issuer(_: &ProbeRequest<'_>) -> Availability {
    availability(
        build(Setup::SingleIssuer)
            .and_then(|mut ring| register_ring_fd(&mut ring)),
    )
}

/// The same with the experiment's buffers registered.
pub fn fixed(request: &ProbeRequest<'_>) -> Availability {
    let tried = build(Setup::SingleIssuer).and_then(|mut ring| {
        register_ring_fd(&mut ring)?;
        register_buffers(&mut ring, request)
    });
    availability(tried)
}

/// A ring with a kernel thread on the trial's second CPU, if it has one.
pub fn poller(request: &ProbeRequest<'_>) -> Availability {
    let Some(&cpu) = request.cpus.get(1).or(request.cpus.first()) else {
        return plain(request);
    };
    availability(build(Setup::Poller { cpu }).map(drop))
}

/// A ring that polls for completions, and a device that can be polled.
pub fn polled(request: &ProbeRequest<'_>) -> Availability {
    let tried =
        build(Setup::Polled).and_then(|mut ring| register_ring_fd(&mut ring));
    if let Err(lack) = tried {
        return lack.into();
    }
    // Where nothing was prepared there is no device to try.
    let Ok(target) = serde_json::from_value::<Target>(request.target.clone())
    else {
        return Availability::Available;
    };
    // Both are asked: before Linux 6.11 a device without poll queues served
    // polled reads by interrupt, and said nothing.
    if let Some(device) = &target.device
        && device.io_poll == Some(false)
    {
        let reason = format!(
            "/sys/block/{}/queue/io_poll is 0: the device has no poll queues",
            device.name
        );
        return Availability::unavailable(reason, poll_queues_remedy(device));
    }
    match polled_read(&target) {
        Ok(()) => fixed(request),
        Err(error) => polled_read_refused(&target, &error),
    }
}

/// What is missing, and what would bring it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lack {
    reason: String,
    remedy: String,
}

impl From<Lack> for Availability {
    fn from(lack: Lack) -> Self {
        Self::unavailable(lack.reason, lack.remedy)
    }
}

fn availability(tried: Result<(), Lack>) -> Availability {
    tried.map_or_else(Availability::from, |()| Availability::Available)
}

fn build(setup: Setup) -> Result<Ring, Lack> {
    setup
        .build(PROBE_ENTRIES)
        .map_err(|error| explain_setup(setup, &error, &Root::system()))
}

fn explain_setup(setup: Setup, error: &io::Error, root: &Root) -> Lack {
    let (reason, remedy) = match error.raw_os_error() {
        Some(libc::ENOSYS) => (
            "io_uring_setup says ENOSYS: this kernel has no io_uring, or a \
             seccomp filter hides it"
                .to_owned(),
            "Linux 5.6 or later with CONFIG_IO_URING=y; in a container a \
             seccomp profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register",
        ),
        Some(libc::EPERM | libc::EACCES) => forbidden(root),
        Some(libc::ENOMEM) => (
            format!(
                "io_uring_setup says ENOMEM: RLIMIT_MEMLOCK is {}",
                memlock_text()
            ),
            MORE_LOCKED_MEMORY,
        ),
        Some(libc::EINVAL) => match setup {
            Setup::Plain => (
                "io_uring_setup says EINVAL to a ring without flags".to_owned(),
                "Linux 5.6 or later",
            ),
            Setup::SingleIssuer | Setup::Polled => (
                "io_uring_setup says EINVAL to SINGLE_ISSUER and \
                 DEFER_TASKRUN"
                    .to_owned(),
                "Linux 6.1 or later",
            ),
            Setup::Poller { cpu } => (
                format!(
                    "io_uring_setup says EINVAL to an SQPOLL thread on CPU \
                     {cpu}"
                ),
                "CPUs that are online and inside this process's cpuset \
                 (`--cpus`)",
            ),
        },
        _ => (
            format!("io_uring_setup: {error}"),
            "look into the kernel log for the reason",
        ),
    };
    Lack { reason, remedy: remedy.to_owned() }
}

/// EPERM has three causes, and the sysctl of Linux 6.6 tells them apart.
fn forbidden(root: &Root) -> (String, &'static str) {
    const KEY: &str = "proc/sys/kernel/io_uring_disabled";
    match root.read_u64(KEY) {
        Some(2) => (
            "kernel.io_uring_disabled is 2: nobody may use io_uring".to_owned(),
            "as root: `sysctl kernel.io_uring_disabled=0`",
        ),
        Some(1) => {
            let group = root
                .read_word("proc/sys/kernel/io_uring_group")
                .unwrap_or_else(|| "unknown".to_owned());
            (
                format!(
                    "kernel.io_uring_disabled is 1: only root and the group \
                     of kernel.io_uring_group ({group}) may use io_uring"
                ),
                "run as root or in that group, or as root: \
                 `sysctl kernel.io_uring_disabled=0`",
            )
        }
        seen => {
            let seen = seen.map_or("absent".to_owned(), |n| n.to_string());
            (
                format!(
                    "io_uring_setup is not permitted (EPERM) although \
                     kernel.io_uring_disabled is {seen}: a seccomp filter or \
                     a security module forbids it"
                ),
                "run outside the container, or with a seccomp profile that \
                 allows io_uring_setup, io_uring_enter and io_uring_register",
            )
        }
    }
}

fn register_ring_fd(ring: &mut Ring) -> Result<(), Lack> {
    ring.submitter().register_ring_fd().map_err(|error| Lack {
        reason: format!("registering the ring's own descriptor: {error}"),
        remedy: "Linux 5.18 or later".to_owned(),
    })
}

/// Registers as much as all rings of the trial together, since the limit
/// counts per user and not per ring.
fn register_buffers(
    ring: &mut Ring,
    request: &ProbeRequest<'_>,
) -> Result<(), Lack> {
    let bytes = Load::from_params(request.params, request.cpus.len().max(1))
        .map_or(BLOCK_BYTES, |load| load.buffer_bytes());
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

fn memlock_text() -> String {
    match memlock_limit_bytes() {
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(bytes) => format!("{bytes} bytes"),
        None => "unknown".to_owned(),
    }
}

/// One polled read of the target's first block.
fn polled_read(target: &Target) -> io::Result<()> {
    let file = target::open(target)?;
    let buffer = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None)
        .map_err(io::Error::other)?;
    let mut ring = Setup::Polled.build(PROBE_ENTRIES)?;
    let result = read_block(&mut ring, file.as_raw_fd(), &buffer);
    if result.is_err() {
        // The kernel may still write to it; a probe's block is no loss.
        std::mem::forget(buffer);
    }
    match result? {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

/// The result of the completion; an error is that of the ring.
fn read_block(
    ring: &mut Ring,
    file: RawFd,
    buffer: &Buffer,
) -> io::Result<i32> {
    let length = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    let address = buffer.as_non_null().as_ptr();
    let entry = opcode::Read::new(Fd(file), address, length).build();
    // SAFETY: the buffer outlives the request: the caller keeps it until the
    // completion has been seen, or for ever.
    unsafe { ring.sq().push(&entry) }.map_err(io::Error::other)?;
    loop {
        let queued = ring.publish();
        ring.enter(queued, 1, EnterFlags::GETEVENTS)?;
        ring.cq().sync();
        if let Some(completion) = ring.cq().next() {
            return Ok(completion.result());
        }
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

    fn root_with(value: Option<&str>) -> (tempfile::TempDir, Root) {
        let tree = tempfile::tempdir().expect("temporary directory");
        let directory = tree.path().join("proc/sys/kernel");
        std::fs::create_dir_all(&directory).expect("directories");
        if let Some(value) = value {
            std::fs::write(directory.join("io_uring_disabled"), value)
                .expect("write");
            std::fs::write(directory.join("io_uring_group"), "1500\n")
                .expect("write");
        }
        let root = Root::at(tree.path());
        (tree, root)
    }

    #[test]
    fn the_sysctl_tells_the_causes_of_eperm_apart() {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        for (value, reason, remedy) in [
            (Some("2\n"), "io_uring_disabled is 2", "sysctl"),
            (Some("1\n"), "kernel.io_uring_group (1500)", "that group"),
            (Some("0\n"), "seccomp", "container"),
            (None, "io_uring_disabled is absent", "seccomp"),
            (Some("junk"), "io_uring_disabled is absent", "seccomp"),
        ] {
            let (_tree, root) = root_with(value);
            let lack = explain_setup(Setup::Plain, &error, &root);
            assert!(lack.reason.contains(reason), "{value:?}: {lack:?}");
            assert!(lack.remedy.contains(remedy), "{value:?}: {lack:?}");
        }
    }

    #[test]
    fn each_error_of_setup_has_a_next_step() {
        let root = Root::at("/nonexistent");
        let lack = |setup, errno| {
            let error = io::Error::from_raw_os_error(errno);
            explain_setup(setup, &error, &root)
        };
        let plain = lack(Setup::Plain, libc::ENOSYS);
        assert!(plain.remedy.contains("CONFIG_IO_URING"), "{plain:?}");
        let old = lack(Setup::SingleIssuer, libc::EINVAL);
        assert!(old.remedy.contains("6.1"), "{old:?}");
        let cpu = harness::machine::Cpu(7);
        let outside = lack(Setup::Poller { cpu }, libc::EINVAL);
        assert!(outside.reason.contains("CPU 7"), "{outside:?}");
        let memory = lack(Setup::Plain, libc::ENOMEM);
        assert!(memory.reason.contains("RLIMIT_MEMLOCK"), "{memory:?}");
        let buffers =
            explain_buffers(4096, &io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(buffers.remedy.contains("ulimit -l"), "{buffers:?}");
    }
}
