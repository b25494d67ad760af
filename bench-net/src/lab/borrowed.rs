//! Two interfaces of this machine, lent to the lab.
//!
//! They are moved into its namespaces. When the last thread and descriptor
//! that holds such a namespace is gone, the kernel moves them back to the
//! machine's own namespace, down and without an address
//! (`default_device_exit_net`), which is how they must have been before: so
//! there is nothing to put back, whatever the holder died of. Nothing else is
//! set on them: not the name, the address of the hardware, the MTU, a feature.

use std::{
    os::fd::BorrowedFd,
    thread,
    time::{Duration, Instant},
};

use harness::machine::Root;

use super::{
    error::LabError,
    ethtool::{self, Ethtool},
    link,
    netlink::Netlink,
};

/// How long after the end of an earlier trial the kernel may take to move an
/// interface back: a worker of its own does that, behind all else.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

const SET_DOWN: &str = "if nothing needs it: `ip address flush dev NAME; ip \
     link set NAME down`. Interfaces that are up are never touched";

/// Looks at both once more, from where they are: a worker is told their names
/// by whoever starts it, and much may have changed since the session began.
///
/// # Errors
/// What is in the way.
pub(super) fn vet(
    outside: &mut Netlink,
    names: &[String; 2],
) -> Result<(), LabError> {
    for name in names {
        wait_for(outside, name)?;
        check(&Root::system(), name)?;
        ask(name)?;
    }
    Ok(())
}

/// Moves both from where `outside` was opened into these namespaces.
pub(super) fn take(
    outside: &mut Netlink,
    names: &[String; 2],
    namespaces: [BorrowedFd<'_>; 2],
) -> Result<(), LabError> {
    let mut indices = [0; 2];
    // Both are looked at before either is touched.
    for (index, name) in indices.iter_mut().zip(names) {
        let seen = wait_for(outside, name)?;
        if seen.up {
            return Err(refused(name, "is up", SET_DOWN));
        }
        *index = seen.index;
    }
    for (index, namespace) in indices.into_iter().zip(namespaces) {
        link::lend(outside, index, namespace).map_err(|error| match error {
            LabError::Netlink { what, source }
                if source.raw_os_error() == Some(libc::EPERM) =>
            {
                refused(&what, &format!("is refused: {source}"), "run as root")
            }
            other => other,
        })?;
    }
    Ok(())
}

/// Looks, and looks again for one that is on its way back.
fn wait_for(outside: &mut Netlink, name: &str) -> Result<link::Seen, LabError> {
    let started = Instant::now();
    loop {
        match link::look(outside, name) {
            Err(LabError::Netlink { source, .. })
                if source.raw_os_error() == Some(libc::ENODEV) =>
            {
                if started.elapsed() > PATIENCE {
                    return Err(refused(
                        name,
                        "is not here",
                        "name one that `ip link` lists, in the namespace \
                         that the program is started in",
                    ));
                }
                thread::sleep(PAUSE);
            }
            seen => return seen,
        }
    }
}

/// Whether an interface may be lent, as far as the machine tells without
/// asking it anything that would take a right.
///
/// # Errors
/// What is in the way.
pub fn check(root: &Root, name: &str) -> Result<(), LabError> {
    const UP: u64 = 1; // IFF_UP of linux/if.h
    let at = format!("sys/class/net/{name}");
    let Some(flags) = flags(root, &at) else {
        let remedy = "name one that `ip link` lists";
        return Err(refused(name, "is not here", remedy));
    };
    if !root.exists(format!("{at}/device")) {
        return Err(refused(
            name,
            "has no device: the kernel would remove it with the lab, and not \
             move it back",
            "name an interface of a network card, or none: the lab makes a \
             veth pair of its own",
        ));
    }
    if flags & UP != 0 {
        return Err(refused(name, "is up", SET_DOWN));
    }
    let beside = root.entries(&at);
    let other = beside.iter().find(|entry| {
        *entry == "master"
            || entry.starts_with("upper_")
            || entry.starts_with("lower_")
    });
    if let Some(other) = other {
        return Err(refused(
            name,
            &format!("is part of another ({other})"),
            "take it out of its bridge, bond or VLAN first, or name another",
        ));
    }
    Ok(())
}

/// Hexadecimal, as `0x1003`.
fn flags(root: &Root, at: &str) -> Option<u64> {
    let text = root.read_word(format!("{at}/flags"))?;
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// What has to be asked of the kernel: whether it has an IPv4 address, which a
/// move would take away (IPv6 ones are gone from an interface that is down),
/// and how many queues share what arrives. The files tell the latter only of
/// an interface that is up.
///
/// # Errors
/// What is in the way, or the kernel does not tell.
pub fn ask(name: &str) -> Result<(), LabError> {
    let asked = |what: &str, source| LabError::Netlink {
        what: format!("{what} of {name}"),
        source,
    };
    let address = ethtool::ipv4_address(name);
    if let Some(address) = address.map_err(|e| asked("the address", e))? {
        let why = format!("has the address {address}");
        return Err(refused(name, &why, SET_DOWN));
    }
    let ethtool = Ethtool::new(super::ioctl_socket()?, name.to_owned());
    match ethtool.receive_queues()? {
        1 => Ok(()),
        queues => Err(refused(
            name,
            &format!("has {queues} receive queues, which share what arrives"),
            "`ethtool -L NAME combined 1`; note the number before",
        )),
    }
}

fn refused(name: &str, why: &str, remedy: &'static str) -> LabError {
    LabError::NotLent { name: name.to_owned(), why: why.to_owned(), remedy }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said of an interface with these files.
    fn said(files: &[(&str, &str)]) -> Result<(), String> {
        let tree = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = tree.path().join("sys/class/net/eth1").join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        check(&Root::at(tree.path()), "eth1").map_err(|e| e.to_string())
    }

    const DOWN: (&str, &str) = ("flags", "0x1002\n");
    const CARD: (&str, &str) = ("device/vendor", "0x8086\n");

    #[test]
    fn only_an_idle_card_is_lent() {
        assert_eq!(said(&[DOWN, CARD]), Ok(()));
        for (files, word) in [
            (&[][..], "not here"),
            (&[("flags", "junk"), CARD], "not here"),
            (&[("flags", "0x1003\n"), CARD], "is up"),
            (&[DOWN], "no device"),
            (&[DOWN, CARD, ("master/x", "")], "(master)"),
            (&[DOWN, CARD, ("upper_vlan3/x", "")], "(upper_vlan3)"),
        ] {
            let refused = said(files).expect_err("refused");
            assert!(refused.contains(word), "{refused}");
        }
    }

    /// The machine's own, whichever it is, is never up for lending.
    #[test]
    fn loopback_is_not_lent() {
        let root = Root::system();
        if root.exists("sys/class/net/lo") {
            assert!(check(&root, "lo").is_err());
        }
        // Down, it has no address; a veth or a loopback has one queue.
        if let Err(error) = ask("lo") {
            assert!(error.to_string().contains("127."), "{error}");
        }
    }
}
