//! Can a ring be had, and if not, why not and what would help?

use std::io;

use super::{
    entries::Entries,
    parts::Enters,
    ring::{Ring, Setup},
};
use crate::{
    machine::{Root, memlock_limit_bytes},
    suite::Availability,
};

/// Entries of a ring that only probes.
pub const PROBE_ENTRIES: usize = 2;

/// Rings count against the limit up to Linux 5.11 and again in 6.18 (seen
/// there); registered buffers always do.
pub const MORE_LOCKED_MEMORY: &str = "`ulimit -l unlimited`, a `memlock` line in \
     /etc/security/limits.conf, or LimitMEMLOCK=infinity for a service";

/// What is missing, and what would bring it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// With the value that was seen.
    pub reason: String,
    /// The next step.
    pub remedy: String,
}

impl From<Lack> for Availability {
    fn from(lack: Lack) -> Self {
        Self::unavailable(lack.reason, lack.remedy)
    }
}

/// The answer of a probe that tried.
pub fn availability(tried: Result<(), Lack>) -> Availability {
    tried.map_or_else(Availability::from, |()| Availability::Available)
}

/// Makes a small ring, to see whether one can be had.
///
/// # Errors
/// What is missing.
pub fn build(setup: Setup) -> Result<Ring, Lack> {
    build_of(setup)
}

/// The same with entries of another size.
///
/// # Errors
/// What is missing.
pub fn build_of<E: Entries>(setup: Setup) -> Result<Ring<E>, Lack> {
    setup
        .build_of(PROBE_ENTRIES)
        .map_err(|error| explain_setup_of::<E>(setup, &error, &Root::system()))
}

/// What the error of `io_uring_setup` means for a ring with such entries.
pub fn explain_setup_of<E: Entries>(
    setup: Setup,
    error: &io::Error,
    root: &Root,
) -> Lack {
    match (error.raw_os_error(), E::NEEDS) {
        (Some(libc::EINVAL), Some((flag, kernel))) => Lack {
            reason: format!("io_uring_setup says EINVAL to {flag}"),
            remedy: kernel.to_owned(),
        },
        _ => explain_setup(setup, error, root),
    }
}

/// What the error of `io_uring_setup` means on this machine.
pub fn explain_setup(setup: Setup, error: &io::Error, root: &Root) -> Lack {
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
            Setup::SingleIssuer | Setup::Flagged | Setup::Polled => (
                "io_uring_setup says EINVAL to SINGLE_ISSUER and \
                 DEFER_TASKRUN"
                    .to_owned(),
                "Linux 6.1 or later",
            ),
            Setup::Hybrid => (
                "io_uring_setup says EINVAL to HYBRID_IOPOLL".to_owned(),
                "Linux 6.13 or later",
            ),
            Setup::Poller { cpu, .. } => (
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

/// Registers the ring's own descriptor.
///
/// # Errors
/// What is missing.
pub fn register_ring_fd<E: Entries>(ring: &mut Ring<E>) -> Result<(), Lack> {
    ring.submitter().register_ring_fd().map_err(|error| Lack {
        reason: format!("registering the ring's own descriptor: {error}"),
        remedy: "Linux 5.18 or later".to_owned(),
    })
}

/// An error of a ring, or of what is registered with one, as a trial tells it:
/// a probe may have found more memory than was left for the trial.
pub fn with_remedy(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => format!(
            "{error}: RLIMIT_MEMLOCK is {}, more with {MORE_LOCKED_MEMORY}",
            memlock_text()
        ),
        _ => error.to_string(),
    }
}

/// The limit of locked memory, in words.
pub fn memlock_text() -> String {
    match memlock_limit_bytes() {
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(bytes) => format!("{bytes} bytes"),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Big, Mixed, POLLER_IDLE_MS},
        *,
    };

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
        let newer = lack(Setup::Hybrid, libc::EINVAL);
        assert!(newer.remedy.contains("6.13"), "{newer:?}");
        let setup = Setup::SingleIssuer;
        let old = io::Error::from_raw_os_error(libc::EINVAL);
        let big = explain_setup_of::<Big>(setup, &old, &root);
        assert!(big.remedy.contains("6.1 "), "{big:?}");
        let mixed = explain_setup_of::<Mixed>(setup, &old, &root);
        assert!(mixed.reason.contains("CQE_MIXED"), "{mixed:?}");
        assert!(mixed.remedy.contains("6.18"), "{mixed:?}");
        let cpu = crate::machine::Cpu(7);
        let poller = Setup::Poller { cpu, idle_ms: POLLER_IDLE_MS };
        let outside = lack(poller, libc::EINVAL);
        assert!(outside.reason.contains("CPU 7"), "{outside:?}");
        let memory = lack(Setup::Plain, libc::ENOMEM);
        assert!(memory.reason.contains("RLIMIT_MEMLOCK"), "{memory:?}");
    }
}
