//! The veth pair: made, addressed, brought up and looked at over netlink.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind,
        InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
        State, Stats64, XdpAttached,
    },
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::{LabSpec, error::LabError, netlink::Netlink};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// One end of the pair to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Its name.
    pub(super) name: &'static str,
    /// Its Ethernet address.
    pub(super) mac: Mac,
}

/// Makes the pair: `near` in the socket's namespace, `far` in the other.
pub(super) fn create(
    netlink: &mut Netlink,
    spec: &LabSpec,
    [near, far]: [End; 2],
    far_namespace: BorrowedFd<'_>,
) -> Result<(), LabError> {
    let mut far_message = LinkMessage::default();
    far_message.attributes = attributes(spec, far);
    far_message
        .attributes
        .push(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()));
    let mut message = LinkMessage::default();
    message.attributes = attributes(spec, near);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far_message))),
    ]));
    let made = netlink.request(
        "making a veth pair",
        NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewLink(message),
    );
    made.map(drop).map_err(|error| match error {
        LabError::Netlink { what, source } => explain(what, source, near),
        other => other,
    })
}

fn explain(what: String, source: io::Error, near: End) -> LabError {
    match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => LabError::NoVeth(source),
        Some(libc::EEXIST) => {
            LabError::NameTaken { name: near.name.to_owned() }
        }
        _ => LabError::Netlink { what, source },
    }
}

fn attributes(spec: &LabSpec, end: End) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
        LinkAttribute::Mtu(spec.mtu),
        LinkAttribute::NumTxQueues(spec.queues),
        LinkAttribute::NumRxQueues(spec.queues),
    ]
}

/// What the kernel says of a link.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) index: u32,
    pub(super) mac: Mac,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) stats: Stats64,
    pub(super) xdp: Option<AttachedXdp>,
}

/// The XDP program of an interface, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// `native`, `generic`, `offloaded`, or `several` at once.
    pub mode: &'static str,
    /// The number by which the kernel knows the program; 0 for several.
    pub program: u32,
}

/// `IFLA_XDP` is there on every link; without a program it says "none".
fn attached(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::Driver) => Some("native"),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic"),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("offloaded"),
        LinkXdp::Attached(_) => Some("several"),
        _ => None,
    })?;
    let program = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    Some(AttachedXdp { mode, program: program.unwrap_or(0) })
}

/// Looks a link up by its name.
pub(super) fn look(
    netlink: &mut Netlink,
    name: &str,
) -> Result<Seen, LabError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let what = format!("looking at {name}");
    let answer =
        netlink.request(&what, 0, RouteNetlinkMessage::GetLink(message))?;
    let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
        let source = io::Error::other("no link in the answer");
        return Err(LabError::Netlink { what, source });
    };
    let mut seen = Seen {
        index: link.header.index,
        mac: Mac::default(),
        up: link.header.flags.contains(LinkFlags::Up),
        carrier: false,
        stats: Stats64::default(),
        xdp: None,
    };
    // The driver tells of its carrier at once; that the kernel has seen it,
    // and sends, is told by the operational state, later.
    let (mut told, mut noticed) = (false, false);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Carrier(carrier) => told = carrier == 1,
            LinkAttribute::OperState(state) => noticed = state == State::Up,
            LinkAttribute::Address(address) => {
                seen.mac = address.try_into().unwrap_or_default();
            }
            LinkAttribute::Stats64(stats) => seen.stats = stats,
            LinkAttribute::Xdp(xdp) => seen.xdp = attached(&xdp),
            _ => {}
        }
    }
    seen.carrier = told && noticed;
    Ok(seen)
}

/// Moves a link to another namespace, under its name.
pub(super) fn lend(
    netlink: &mut Netlink,
    index: u32,
    namespace: BorrowedFd<'_>,
) -> Result<(), LabError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let what = "moving an interface into the lab";
    netlink.request(what, 0, RouteNetlinkMessage::SetLink(message)).map(drop)
}

/// No address of its own making, so that no router is solicited and nothing
/// is said on the link but what we send.
pub(super) fn silence(
    netlink: &mut Netlink,
    index: u32,
) -> Result<(), LabError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![
        AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )]),
    ]));
    let asked = netlink.request(
        "setting addr_gen_mode",
        0,
        RouteNetlinkMessage::SetLink(message),
    );
    match asked {
        Err(LabError::Netlink { source, .. })
            // A kernel without IPv6 is silent anyway.
            if matches!(
                source.raw_os_error(),
                Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
            ) => Ok(()),
        asked => asked.map(drop),
    }
}

/// Brings a link up.
pub(super) fn up(netlink: &mut Netlink, index: u32) -> Result<(), LabError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink
        .request("bringing a link up", 0, RouteNetlinkMessage::SetLink(message))
        .map(drop)
}

/// Gives a link its address; IPv6 without looking for duplicates.
pub(super) fn add_address(
    netlink: &mut Netlink,
    index: u32,
    address: IpAddr,
    prefix_len: u8,
) -> Result<(), LabError> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix_len;
    message.header.family = family(address);
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    netlink
        .request(
            &format!("adding the address {address}"),
            NLM_F_CREATE | NLM_F_EXCL,
            RouteNetlinkMessage::NewAddress(message),
        )
        .map(drop)
}

/// Says who has an address, for good, so that nobody asks.
pub(super) fn add_neighbour(
    netlink: &mut Netlink,
    index: u32,
    address: IpAddr,
    mac: Mac,
) -> Result<(), LabError> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    netlink
        .request(
            &format!("adding the neighbour {address}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewNeighbour(message),
        )
        .map(drop)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
