//! The lab for real, each time in a process of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::testing::{can_have_lab, in_child, refuse_call, without_rights};

/// `nobody`, as everywhere.
const NOBODY: u32 = 65_534;

fn new() -> Result<Lab, LabError> {
    Lab::new(&LabSpec::default(), &Wire::Veth)
}

fn with_lab(check: impl FnOnce(&Lab)) {
    crate::testing::with_lab(|lab| check(&lab));
}

/// The error that a lab ends with in a child that `refuse` has prepared;
/// `None`, and loudly, where that is not possible here.
fn refused(refuse: impl FnOnce() -> io::Result<()>) -> Option<String> {
    const SKIPPED: &str = "SKIPPED: ";
    let said = child::run(|| match (refuse(), new()) {
        (Err(error), _) => format!("{SKIPPED}{error}").into_bytes(),
        (Ok(()), Ok(_)) => panic!("there is a lab"),
        (Ok(()), Err(error)) => {
            format!("{error}; {}", error.remedy()).into_bytes()
        }
    });
    let said = String::from_utf8_lossy(&said.expect("child")).into_owned();
    if said.starts_with(SKIPPED) {
        eprintln!("{said}");
        return None;
    }
    Some(said)
}

fn socket(lab: &Lab, side: Side) -> UdpSocket {
    lab.enter(side).expect("enter");
    let socket = UdpSocket::bind(lab.socket_address(side)).expect("bind");
    socket.connect(lab.socket_address(side.peer())).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("time-out");
    socket
}

/// Ten datagrams from A to B are ten frames on the link, ten datagrams at B,
/// and nothing else anywhere.
fn carries_exactly_what_is_sent(lab: &Lab) {
    const DATAGRAMS: u64 = 10;
    let before = Side::both().map(|side| lab.counts(side).expect("counts"));
    thread::scope(|scope| {
        let b = scope.spawn(|| socket(lab, Side::B)).join().expect("B");
        let a = scope.spawn(|| socket(lab, Side::A)).join().expect("A");
        let mut buffer = [0; 64];
        for number in 0..10_u8 {
            a.send(&[number; 18]).expect("send");
            assert_eq!(b.recv(&mut buffer).expect("receive"), 18);
            assert_eq!(buffer[0], number);
        }
    });
    let [a, b] = Side::both().map(|side| lab.counts(side).expect("counts"));
    let (a, b) = (a.since(&before[0]), b.since(&before[1]));
    let message = format!("A: {a}; B: {b}");
    for (counts, name, expected) in [
        (&a, "link.tx_packets", DATAGRAMS),
        (&a, "link.rx_packets", 0),
        (&a, "udp.OutDatagrams", DATAGRAMS),
        (&b, "link.rx_packets", DATAGRAMS),
        (&b, "link.tx_packets", 0),
        (&b, "udp.InDatagrams", DATAGRAMS),
        (&b, "udp.RcvbufErrors", 0),
        (&b, "udp.InCsumErrors", 0),
    ] {
        assert_eq!(counts.get(name), expected, "{name}: {message}");
    }
}

#[test]
fn a_lab_carries_exactly_what_is_sent() {
    with_lab(carries_exactly_what_is_sent);
}

#[test]
fn the_driver_counts_by_name() {
    with_lab(|lab| {
        let counts = lab.counts(Side::A).expect("counts");
        let text = format!("{counts:?}");
        assert!(text.contains("device.rx_queue_0_xdp_packets"), "{text}");
        assert!(lab.interface_index(Side::A) > 1);
        assert!(!lab.gro(Side::A).expect("gro"));
    });
}

#[test]
fn queues_checksums_and_offload_are_as_asked() {
    in_child(|| {
        let spec = LabSpec {
            mtu: 3_498,
            queues: 2,
            checksum_offload: false,
            gro: true,
            ..LabSpec::default()
        };
        let lab = Lab::new(&spec, &Wire::Veth)?;
        assert!(lab.gro(Side::A).expect("gro"));
        let counts = format!("{:?}", lab.counts(Side::B).expect("counts"));
        assert!(counts.contains("rx_queue_1_xdp_packets"), "{counts}");
        carries_exactly_what_is_sent(&lab);
        Ok(())
    });
}

#[test]
fn nobody_can_have_one_too() {
    if !is_root() {
        eprintln!("SKIPPED: this test drops root, and is not root");
        return;
    }
    in_child(|| {
        become_nobody();
        carries_exactly_what_is_sent(&new()?);
        Ok(())
    });
}

#[test]
fn without_user_namespaces_there_is_a_next_step() {
    let limit = "/proc/sys/user/max_user_namespaces";
    let Some(error) = refused(|| without(limit)) else { return };
    assert!(error.contains("user.max_user_namespaces is 0"), "{error}");
    assert!(error.contains("run as root"), "{error}");
}

#[test]
fn without_network_namespaces_there_is_a_next_step() {
    let limit = "/proc/sys/user/max_net_namespaces";
    let Some(error) = refused(|| without(limit)) else { return };
    assert!(error.contains("user.max_net_namespaces is 0"), "{error}");
    assert!(error.contains("sysctl"), "{error}");
}

#[test]
fn a_filter_that_forbids_unshare_is_told_apart() {
    let error = refused(|| {
        without_rights();
        refuse_call(libc::SYS_unshare, None, libc::EPERM);
        Ok(())
    });
    let error = error.expect("nothing to skip");
    // A setting of this machine that would forbid it as well comes first.
    let causes = [
        "seccomp",
        "unprivileged_userns_clone is 0",
        "apparmor_restrict_unprivileged_userns is 1",
    ];
    assert!(causes.iter().any(|cause| error.contains(cause)), "{error}");
    assert!(error.contains("as root"), "{error}");
}

#[test]
fn without_ipv4_it_speaks_ipv6() {
    in_child(|| {
        refuse_call(libc::SYS_socket, Some(libc::AF_INET), libc::EAFNOSUPPORT);
        let lab = new()?;
        assert_eq!(lab.ip_version(), IpVersion::V6);
        settle(&lab);
        carries_exactly_what_is_sent(&lab);
        Ok(())
    });
}

/// IPv6 reports the groups that an address joins, a few times within the first
/// seconds (RFC 3810): no more frames of that kind are due after them.
fn settle(lab: &Lab) {
    let mut quiet_since = Instant::now();
    let mut last = BTreeMap::new();
    while quiet_since.elapsed() < Duration::from_secs(3) {
        let now: BTreeMap<_, _> = Side::both()
            .map(|side| {
                let counts = lab.counts(side).expect("counts");
                (side.veth(), counts.get("icmp.OutMsgs"))
            })
            .into();
        if now != last {
            last = now;
            quiet_since = Instant::now();
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn without_any_ip_there_is_a_next_step() {
    if !can_have_lab() {
        return;
    }
    let error = refused(|| {
        for family in [libc::AF_INET, libc::AF_INET6] {
            refuse_call(libc::SYS_socket, Some(family), libc::EAFNOSUPPORT);
        }
        Ok(())
    });
    let error = error.expect("nothing to skip");
    assert!(error.contains("IPv4 says") && error.contains("IPv6"), "{error}");
    assert!(error.contains("CONFIG_INET"), "{error}");
}

#[test]
fn an_mtu_below_the_frame_is_refused() {
    if !can_have_lab() {
        return;
    }
    let said = child::run(|| {
        let spec =
            LabSpec { mtu: 1_000, payload_bytes: 1_472, ..LabSpec::default() };
        Lab::new(&spec, &Wire::Veth)
            .expect_err("too small")
            .to_string()
            .into_bytes()
    })
    .expect("child");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("1000 bytes is too small"), "{said}");
    assert!(said.contains("1500"), "{said}");
}

#[test]
fn a_name_that_is_taken_is_named() {
    with_lab(|lab| {
        lab.enter(Side::A).expect("enter");
        let mut netlink = Netlink::open().expect("netlink");
        let error = link::create(
            &mut netlink,
            &LabSpec::default(),
            [Side::A.end(), End { name: "other", mac: [2, 0, 0, 0, 0, 9] }],
            lab.namespace(Side::B),
        )
        .expect_err("taken");
        assert!(error.to_string().contains("bypass-a already"), "{error}");
    });
}

/// The specification of a worker may name anything: what has no device goes
/// with the namespace that it is moved to.
#[test]
fn what_would_not_come_back_is_never_taken() {
    in_child(|| {
        let own = namespace::acquire_rights()?;
        let mut netlink = Netlink::open()?;
        let ends = Side::both().map(Side::end);
        link::create(&mut netlink, &LabSpec::default(), ends, own.as_fd())?;
        let names = Side::both().map(|side| side.veth().to_owned());
        let wire = Wire::Interfaces(names.clone());
        let error = Lab::new(&LabSpec::default(), &wire).expect_err("lent");
        assert!(matches!(error, LabError::NotLent { .. }), "{error}");
        for name in names {
            link::look(&mut netlink, &name)?;
        }
        Ok(())
    });
}

#[test]
fn nothing_is_left_of_it() {
    let said = child::run(|| match new() {
        Ok(lab) => Side::both()
            .map(|side| {
                let metadata = lab.side(side).namespace.metadata();
                metadata.expect("namespace").ino().to_string()
            })
            .join(" ")
            .into_bytes(),
        Err(error) => error.to_string().into_bytes(),
    });
    let said = String::from_utf8_lossy(&said.expect("child")).into_owned();
    let inodes: Vec<u64> =
        said.split(' ').filter_map(|inode| inode.parse().ok()).collect();
    if inodes.is_empty() {
        eprintln!("SKIPPED: {said}");
        return;
    }
    // A number may be given to another test's namespace at once, so it must
    // be gone at some moment, not for good.
    let started = Instant::now();
    while inodes.iter().any(|inode| is_held(*inode)) {
        assert!(started.elapsed() < Duration::from_secs(30), "{inodes:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_held(inode: u64) -> bool {
    fs::read_dir("/proc").expect("/proc").flatten().any(|entry| {
        fs::metadata(entry.path().join("ns/net"))
            .is_ok_and(|namespace| namespace.ino() == inode)
    })
}

fn is_root() -> bool {
    // SAFETY: geteuid always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// Drops root for good, in this child.
fn become_nobody() {
    // SAFETY: these calls change the credentials of this child alone and
    // touch no memory. It stays "dumpable", or its files under /proc would
    // belong to root.
    let status = unsafe {
        libc::setgroups(0, std::ptr::null())
            | libc::setresgid(NOBODY, NOBODY, NOBODY)
            | libc::setresuid(NOBODY, NOBODY, NOBODY)
            | libc::prctl(libc::PR_SET_DUMPABLE, 1)
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

/// Sets a limit of namespaces to 0, in a user namespace of this child alone,
/// and gives up all rights there if it is that of user namespaces.
///
/// # Errors
/// A container or a security module forbids it.
fn without(limit: &str) -> io::Result<()> {
    let write = |path: &str, text: &str| {
        fs::write(path, text)
            .map_err(|error| io::Error::other(format!("{path}: {error}")))
    };
    // SAFETY: as in `namespace::acquire_rights`.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: unshare changes no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::other(format!("unshare: {error}")));
    }
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    write(limit, "0")?;
    if limit.contains("user_namespaces") {
        without_rights();
    }
    Ok(())
}
