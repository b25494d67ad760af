//! Whether this machine and this user can have AF_XDP: a map and a program
//! first, then the very ends of a trial, attached and bound in a lab. All that
//! is tried is held by descriptors, which are closed again: nothing is left.

use std::{io, mem};

use harness::{
    machine::{Root, memlock_limit_bytes},
    suite::Availability,
};

use super::{
    bpf::{BpfError, Program, SocketMap},
    device::EndpointError,
    program::Filter,
    socket::{CREATING, REGISTERING, SocketError},
};
use crate::{
    lab::{Lab, LabSpec, Wire},
    probe,
};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_SYS_ADMIN`, `CAP_BPF` of
/// capabilities(7), which attach, open and load.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// Loads a program, then opens ends in a lab.
pub fn availability<T>(
    spec: &LabSpec,
    wire: &Wire,
    open: impl FnOnce(&Lab) -> Result<T, EndpointError>,
) -> Availability {
    match loading() {
        Availability::Available => {}
        missing => return missing,
    }
    // What this process holds; a user namespace makes it look like more.
    let root = Root::system();
    let nested = !holds(&root, &[SYS_ADMIN]);
    probe::in_lab(spec, wire, |lab| match open(lab) {
        Ok(ends) => {
            // This process is there for the question only and closes them as
            // it ends: after it has answered, for that takes long.
            mem::forget(ends);
            Availability::Available
        }
        Err(_) if nested => Availability::unavailable(
            "the lab is in a user namespace, where no XDP program may be \
             loaded; missing: CAP_SYS_ADMIN",
            RUN_AS_ROOT,
        ),
        Err(EndpointError::Lab(error)) => error.into(),
        Err(error) => Refusal::from(error).explain(&root),
    })
}

/// Tries a map and the program. First, in this process: whoever may load it
/// may open the socket, and where both fail it is the program that decides.
pub fn loading() -> Availability {
    match load() {
        Ok(()) => Availability::Available,
        Err(error) => explain_bpf(&error, &Root::system()),
    }
}

fn load() -> Result<(), BpfError> {
    let map = SocketMap::new(1)?;
    Program::load(&Filter::of_port(1), &map).map(|_| ())
}

/// The first thing that could not be had.
#[derive(Debug)]
enum Refusal {
    Socket(io::Error),
    Memory(io::Error),
    Bpf(BpfError),
    NoMemory(String),
    Other(String),
}

impl From<EndpointError> for Refusal {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Bpf(error) => Self::Bpf(error),
            EndpointError::Socket(SocketError::Step { step, source }) => {
                match step {
                    REGISTERING => Self::Memory(source),
                    CREATING => Self::Socket(source),
                    step => {
                        let error = SocketError::Step { step, source };
                        Self::Other(error.to_string())
                    }
                }
            }
            EndpointError::Socket(error @ SocketError::Memory(_)) => {
                Self::NoMemory(error.to_string())
            }
            error => Self::Other(error.to_string()),
        }
    }
}

impl Refusal {
    fn explain(&self, root: &Root) -> Availability {
        match self {
            Self::Bpf(error) => explain_bpf(error, root),
            Self::Socket(error) => match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT) => Availability::unavailable(
                    "this kernel has no AF_XDP sockets (EAFNOSUPPORT)",
                    "a kernel with CONFIG_XDP_SOCKETS",
                ),
                Some(libc::EPERM) => Availability::unavailable(
                    format!(
                        "no right to open an AF_XDP socket; {}",
                        missing(root, &[NET_RAW])
                    ),
                    RUN_AS_ROOT,
                ),
                _ => Availability::unavailable(
                    format!("opening an AF_XDP socket: {error}"),
                    OUTSIDE,
                ),
            },
            Self::Memory(source) => {
                let limit = memlock_limit_bytes()
                    .map_or("unknown".to_owned(), |limit| limit.to_string());
                Availability::unavailable(
                    format!(
                        "registering packet memory: {source} \
                         (RLIMIT_MEMLOCK is {limit} bytes)"
                    ),
                    "raise `ulimit -l`, or run with CAP_IPC_LOCK",
                )
            }
            Self::NoMemory(what) => Availability::unavailable(
                what.clone(),
                "free some memory, or name another node",
            ),
            Self::Other(what) => Availability::unavailable(
                format!("trying it in a lab: {what}"),
                OUTSIDE,
            ),
        }
    }
}

/// The rights that it takes, for whoever lacks them.
pub const RUN_AS_ROOT: &str = "run as root, or as root: `setcap \
     cap_bpf,cap_net_admin,cap_net_raw,cap_sys_admin,cap_ipc_lock+ep \
     BINARY`; the rights that a user namespace gives do not count";
const OUTSIDE: &str = "run outside the container, or with a seccomp profile \
     that allows bpf(2) and AF_XDP sockets";

const UNPRIVILEGED: &str = "proc/sys/kernel/unprivileged_bpf_disabled";
const LOCKDOWN: &str = "sys/kernel/security/lockdown";

fn explain_bpf(error: &BpfError, root: &Root) -> Availability {
    let what = error.to_string();
    match error.source_error().raw_os_error() {
        Some(libc::ENOSYS) => Availability::unavailable(
            format!("{what}: this kernel has no bpf(2)"),
            "a kernel with CONFIG_BPF_SYSCALL",
        ),
        // The map's type is the first thing that bpf(2) looks at.
        Some(libc::EINVAL) if matches!(error, BpfError::Map(_)) => {
            Availability::unavailable(
                format!("{what}: this kernel knows no map of AF_XDP sockets"),
                "a kernel with CONFIG_XDP_SOCKETS",
            )
        }
        Some(libc::EPERM) if holds(root, &[NET_ADMIN, BPF]) => {
            // With the rights it is a policy, or the memory limit of kernels
            // before 5.11, which count maps there.
            let lockdown = root
                .read_word(LOCKDOWN)
                .filter(|word| !word.contains("[none]"))
                .map(|word| format!("; kernel lockdown is {word}"));
            Availability::unavailable(
                format!(
                    "{what}, though CAP_BPF and CAP_NET_ADMIN are there{}",
                    lockdown.unwrap_or_default()
                ),
                "a seccomp filter, a security module, a user namespace, or \
                 before Linux 5.11 `ulimit -l` forbids it: run as root outside \
                 the container",
            )
        }
        Some(libc::EPERM | libc::EACCES) => {
            let setting = root
                .read_word(UNPRIVILEGED)
                .map(|word| {
                    format!("; kernel.unprivileged_bpf_disabled is {word}")
                })
                .unwrap_or_default();
            Availability::unavailable(
                format!(
                    "no right to load an XDP program; {}{setting}",
                    missing(root, &[NET_ADMIN, BPF, SYS_ADMIN])
                ),
                RUN_AS_ROOT,
            )
        }
        _ => Availability::unavailable(what, OUTSIDE),
    }
}

fn effective(root: &Root) -> Option<u64> {
    let status = root.read("proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn holds(root: &Root, capabilities: &[u32]) -> bool {
    effective(root).is_some_and(|effective| {
        capabilities.iter().all(|c| effective & (1 << c) != 0)
    })
}

/// Which of these this process does not have.
fn missing(root: &Root, capabilities: &[u32]) -> String {
    let Some(effective) = effective(root) else {
        return "capabilities unknown".to_owned();
    };
    let names: Vec<&str> = capabilities
        .iter()
        .filter(|c| effective & (1 << **c) == 0)
        .map(|c| match *c {
            NET_ADMIN => "CAP_NET_ADMIN",
            NET_RAW => "CAP_NET_RAW",
            BPF => "CAP_BPF",
            _ => "CAP_SYS_ADMIN",
        })
        .collect();
    if names.is_empty() {
        "all capabilities for it are there".to_owned()
    } else {
        format!("missing: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said of a refusal on a machine with these files.
    fn explain(refusal: &Refusal, files: &[(&str, &str)]) -> (String, String) {
        let tree = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        match refusal.explain(&Root::at(tree.path())) {
            Availability::Available | Availability::Undecided { .. } => {
                panic!("it was refused")
            }
            Availability::Unavailable { reason, remedy } => (reason, remedy),
        }
    }

    fn map(errno: i32) -> Refusal {
        let error = io::Error::from_raw_os_error(errno);
        Refusal::Bpf(BpfError::Map(error))
    }

    const NONE: (&str, &str) =
        ("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
    const ALL: (&str, &str) =
        ("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");

    #[test]
    fn an_ordinary_user_learns_which_rights_are_missing() {
        let (reason, remedy) =
            explain(&map(libc::EPERM), &[NONE, (UNPRIVILEGED, "2\n")]);
        assert!(reason.contains("CAP_NET_ADMIN, CAP_BPF"), "{reason}");
        assert!(reason.contains("unprivileged_bpf_disabled is 2"), "{reason}");
        assert!(remedy.contains("setcap"), "{remedy}");
        assert!(remedy.contains("user namespace"), "{remedy}");
    }

    #[test]
    fn with_all_rights_it_is_a_policy() {
        let lockdown = (LOCKDOWN, "[integrity]\n");
        let (reason, remedy) = explain(&map(libc::EPERM), &[ALL, lockdown]);
        assert!(reason.contains("lockdown is [integrity]"), "{reason}");
        assert!(remedy.contains("seccomp"), "{remedy}");
    }

    #[test]
    fn an_old_or_small_kernel_is_told_apart() {
        let (reason, remedy) = explain(&map(libc::EINVAL), &[ALL]);
        assert!(reason.contains("no map of AF_XDP"), "{reason}");
        assert!(remedy.contains("CONFIG_XDP_SOCKETS"), "{remedy}");
        let none = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        let (reason, _) = explain(&Refusal::Socket(none), &[ALL]);
        assert!(reason.contains("EAFNOSUPPORT"), "{reason}");
        let (reason, _) = explain(&map(libc::ENOSYS), &[]);
        assert!(reason.contains("no bpf(2)"), "{reason}");
    }

    #[test]
    fn memory_is_told_with_the_limit() {
        let source = io::Error::from_raw_os_error(libc::ENOBUFS);
        let error = SocketError::Step { step: REGISTERING, source };
        let refusal = Refusal::from(EndpointError::from(error));
        let (reason, remedy) = explain(&refusal, &[ALL]);
        assert!(reason.contains("RLIMIT_MEMLOCK is"), "{reason}");
        assert!(remedy.contains("ulimit -l"), "{remedy}");
    }

    #[test]
    fn probing_leaves_nothing_open() {
        let open = || {
            fs::read_dir("/proc/self/fd")
                .expect("/proc/self/fd")
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .filter(|link| link.to_string_lossy().contains("bpf-map"))
                .count()
        };
        // Other tests of this process open and close maps, too.
        let said = crate::lab::child::run(|| {
            let before = open();
            let said = format!("{:?}", loading());
            assert_eq!(open(), before);
            said.into_bytes()
        });
        let said = said.expect("child");
        eprintln!("{}", String::from_utf8_lossy(&said));
    }
}
