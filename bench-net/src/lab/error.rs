//! Why there is no lab, and what to do about it.

use std::io;

use harness::{machine::Root, measure::trial::TrialError, suite::Availability};

use super::IpVersion;

/// Why a lab cannot be made or looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Neither rights nor a user namespace that would give them.
    #[error(
        "no CAP_SYS_ADMIN for a network namespace, and no user namespace \
         either: {cause}"
    )]
    UserNamespace {
        /// What the kernel said, with the setting that explains it.
        cause: String,
        /// What would change it.
        remedy: &'static str,
    },
    /// A user namespace is at hand, but it gives no rights over the network.
    #[error("no network namespace: {cause}")]
    NetworkNamespace {
        /// What the kernel said, with the setting that explains it.
        cause: String,
        /// What would change it.
        remedy: &'static str,
    },
    /// `setns` into a namespace of this lab.
    #[error("entering a namespace of the lab: {0}")]
    Enter(#[source] io::Error),
    /// The kernel knows no veth.
    #[error("this kernel has no veth ({0})")]
    NoVeth(#[source] io::Error),
    /// The name is used in that namespace.
    #[error("there is an interface {name} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A named interface cannot be lent to the lab.
    #[error("interface {name} {why}")]
    NotLent {
        /// The interface.
        name: String,
        /// What is in the way.
        why: String,
        /// What would change it.
        remedy: &'static str,
    },
    /// The frame does not fit.
    #[error(
        "an MTU of {mtu} bytes is too small for frames that carry {needed}"
    )]
    MtuTooSmall {
        /// What was asked for.
        mtu: u32,
        /// IP header, UDP header and payload.
        needed: u32,
    },
    /// Neither IPv4 nor IPv6 (or not the one that was asked for).
    #[error("no UDP socket: {tried}")]
    NoIp {
        /// Each version with what the kernel said.
        tried: String,
    },
    /// The link does not come up.
    #[error("{name} has no carrier after {waited_ms} ms")]
    NoCarrier {
        /// The interface.
        name: String,
        /// How long it was waited for.
        waited_ms: u128,
    },
    /// A netlink request was refused.
    #[error("netlink, {what}: {source}")]
    Netlink {
        /// The request in words.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An ethtool request was refused.
    #[error("ethtool, {what} of {name}: {source}")]
    Ethtool {
        /// The request in words.
        what: &'static str,
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file under `/proc` cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A child process that tries something out could not be had.
    #[error("trying it in a process of its own: {0}")]
    Child(String),
}

impl LabError {
    /// The next step.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotLent { remedy, .. }
            | Self::UserNamespace { remedy, .. }
            | Self::NetworkNamespace { remedy, .. } => remedy,
            Self::Enter(_) => {
                "allow setns in the seccomp profile, or run outside the \
                 container"
            }
            Self::NoVeth(_) => {
                "load the module (`modprobe veth`) or take a kernel with \
                 CONFIG_VETH"
            }
            Self::NameTaken { .. } => {
                "a fresh namespace has none: make the lab once per process"
            }
            Self::MtuTooSmall { .. } => "ask for a larger MTU or less payload",
            Self::NoIp { .. } => {
                "a kernel with CONFIG_INET, and a seccomp profile that allows \
                 AF_INET or AF_INET6 sockets"
            }
            Self::NoCarrier { .. } => {
                "look into the kernel log; both ends are up and the machine \
                 may be overloaded"
            }
            Self::Netlink { .. } => {
                "allow AF_NETLINK sockets in the seccomp profile, or run \
                 outside the container"
            }
            Self::Ethtool { .. } => {
                "allow ioctl(SIOCETHTOOL), or run outside the container"
            }
            Self::File { .. } => "mount /proc, readable for this user",
            Self::Child(_) => {
                "raise `ulimit -u` or the control group's pids.max"
            }
        }
    }

    /// The namespaces that could not be had: the cause of `error` as far as
    /// the settings under `/proc` tell.
    pub(super) fn no_user_namespace(error: &io::Error, root: &Root) -> Self {
        let (cause, remedy) = explain_user(error, root);
        Self::UserNamespace { cause, remedy }
    }

    pub(super) fn no_network_namespace(error: &io::Error, root: &Root) -> Self {
        let (cause, remedy) = explain_network(error, root);
        Self::NetworkNamespace { cause, remedy }
    }

    pub(super) fn no_ip(tried: &[(IpVersion, io::Error)]) -> Self {
        let tried: Vec<String> = tried
            .iter()
            .map(|(version, error)| format!("IPv{version} says {error}"))
            .collect();
        Self::NoIp { tried: tried.join(", ") }
    }
}

impl From<LabError> for TrialError {
    fn from(error: LabError) -> Self {
        Self::setup(format!("{error}; {}", error.remedy()))
    }
}

impl From<LabError> for Availability {
    fn from(error: LabError) -> Self {
        Self::unavailable(error.to_string(), error.remedy())
    }
}

const USER_LIMIT: &str = "proc/sys/user/max_user_namespaces";
const NETWORK_LIMIT: &str = "proc/sys/user/max_net_namespaces";
const DEBIAN: &str = "proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR: &str = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";

const APPARMOR_REMEDY: &str = "run as root, give the program an AppArmor \
     profile with `userns,`, or as root: \
     `sysctl kernel.apparmor_restrict_unprivileged_userns=0`";
const OUTSIDE: &str = "run as root, or outside the container (or with a \
     seccomp profile that allows unshare)";

/// unshare(2) with CLONE_NEWUSER: ENOSPC is a limit, EPERM a policy, EINVAL
/// several threads or a kernel without them.
fn explain_user(error: &io::Error, root: &Root) -> (String, &'static str) {
    let is_zero = |key| root.read_u64(key) == Some(0);
    match error.raw_os_error() {
        Some(libc::ENOSPC) if is_zero(USER_LIMIT) => (
            "user.max_user_namespaces is 0".to_owned(),
            "run as root, or as root: `sysctl user.max_user_namespaces=10000`",
        ),
        Some(libc::ENOSPC) => (
            "user.max_user_namespaces is used up, or 32 are nested (ENOSPC)"
                .to_owned(),
            "end what holds them, or as root raise \
             `sysctl user.max_user_namespaces`",
        ),
        Some(libc::EPERM) if is_zero(DEBIAN) => (
            "kernel.unprivileged_userns_clone is 0".to_owned(),
            "run as root, or as root: \
             `sysctl kernel.unprivileged_userns_clone=1`",
        ),
        Some(libc::EPERM | libc::EACCES)
            if root.read_u64(APPARMOR) == Some(1) =>
        {
            (
                "kernel.apparmor_restrict_unprivileged_userns is 1".to_owned(),
                APPARMOR_REMEDY,
            )
        }
        Some(libc::EPERM | libc::EACCES) => (
            format!(
                "unshare says {error}: a seccomp filter or a security module \
                 forbids it"
            ),
            OUTSIDE,
        ),
        Some(libc::EINVAL) => (
            "unshare says EINVAL: the kernel has no CONFIG_USER_NS, or this \
             process has several threads"
                .to_owned(),
            "run as root",
        ),
        _ => (format!("unshare says {error}"), OUTSIDE),
    }
}

fn explain_network(error: &io::Error, root: &Root) -> (String, &'static str) {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => (
            format!(
                "user.max_net_namespaces is {} (ENOSPC)",
                root.read_word(NETWORK_LIMIT)
                    .unwrap_or_else(|| "unknown".to_owned())
            ),
            "as root: `sysctl user.max_net_namespaces=10000`",
        ),
        Some(libc::EPERM | libc::EACCES)
            if root.read_u64(APPARMOR) == Some(1) =>
        {
            (
                "kernel.apparmor_restrict_unprivileged_userns is 1: the user \
                 namespace came without rights"
                    .to_owned(),
                APPARMOR_REMEDY,
            )
        }
        Some(libc::EINVAL) => (
            "unshare says EINVAL: the kernel has no CONFIG_NET_NS".to_owned(),
            "a kernel with CONFIG_NET_NS",
        ),
        _ => (format!("unshare says {error}"), OUTSIDE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(
        errno: i32,
        explain: fn(&io::Error, &Root) -> (String, &'static str),
        settings: &[(&str, &str)],
    ) -> (String, &'static str) {
        let tree = tempfile::tempdir().expect("temporary directory");
        for (path, value) in settings {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent"))
                .expect("directories");
            std::fs::write(path, value).expect("setting");
        }
        let error = io::Error::from_raw_os_error(errno);
        explain(&error, &Root::at(tree.path()))
    }

    #[test]
    fn settings_tell_the_causes_apart() {
        let user =
            |errno, settings: &[_]| explain(errno, explain_user, settings);
        let (cause, remedy) = user(libc::ENOSPC, &[(USER_LIMIT, "0\n")]);
        assert!(cause.contains("max_user_namespaces is 0"), "{cause}");
        assert!(remedy.contains("sysctl user.max"), "{remedy}");
        let (cause, _) = user(libc::ENOSPC, &[(USER_LIMIT, "4\n")]);
        assert!(cause.contains("used up"), "{cause}");
        let (cause, _) = user(libc::EPERM, &[(DEBIAN, "0\n")]);
        assert!(cause.contains("userns_clone is 0"), "{cause}");
        let (cause, remedy) = user(libc::EPERM, &[(APPARMOR, "1\n")]);
        assert!(cause.contains("apparmor"), "{cause}");
        assert!(remedy.contains("profile"), "{remedy}");
        let (cause, _) = user(libc::EPERM, &[(APPARMOR, "junk")]);
        assert!(cause.contains("seccomp"), "{cause}");
        let (cause, _) = user(libc::EINVAL, &[]);
        assert!(cause.contains("CONFIG_USER_NS"), "{cause}");
    }

    #[test]
    fn a_user_namespace_without_rights_is_recognised() {
        let network =
            |errno, settings: &[_]| explain(errno, explain_network, settings);
        let (cause, _) = network(libc::EPERM, &[(APPARMOR, "1\n")]);
        assert!(cause.contains("without rights"), "{cause}");
        let (cause, _) = network(libc::ENOSPC, &[(NETWORK_LIMIT, "3\n")]);
        assert!(cause.contains("max_net_namespaces is 3"), "{cause}");
    }
}
