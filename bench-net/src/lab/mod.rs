//! The packet lab: two network namespaces without a name, and a veth pair
//! between them, or two interfaces of this machine.
//!
//! Each trial's worker makes its own at its start, while it has one thread,
//! and each measuring thread enters its side. Nothing is left when the worker
//! ends, however it ends: a namespace lives as long as a thread or descriptor
//! that holds it, and the links live as long as their namespaces.
//!
//! Nothing is heard on the link but what is sent on purpose: neighbours are
//! permanent, no address makes itself, no router is asked for.

pub mod borrowed;
pub mod child;
mod counts;
mod error;
mod ethtool;
mod link;
mod namespace;
mod netlink;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use self::{
    counts::Counts,
    error::LabError,
    link::{AttachedXdp, Mac},
};
use self::{
    counts::Protocols,
    ethtool::Ethtool,
    link::{End, Seen},
    netlink::Netlink,
};

/// Where the two ends of a trial's conversation are bound.
pub const PORT: u16 = 47_000;

/// Source port, destination port, length and checksum (RFC 768).
const UDP_HEADER_BYTES: u32 = 8;

/// A veth has carrier as soon as both ends are up; only the announcement is
/// left to a kernel worker, which may have to wait for a CPU.
const CARRIER_PATIENCE: Duration = Duration::from_secs(5);
/// A card is reset when it is brought up, when a program is attached and when
/// a zero-copy socket is bound, and then negotiates with its peer: igb needs 2
/// to 4 s each time.
const REAL_CARRIER_PATIENCE: Duration = Duration::from_secs(30);

/// The two ends of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both, in order.
    pub fn both() -> [Self; 2] {
        [Self::A, Self::B]
    }

    /// The other end.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The name of its end of a veth pair.
    pub fn veth(self) -> &'static str {
        match self {
            Self::A => "bypass-a",
            Self::B => "bypass-b",
        }
    }

    /// The Ethernet address of its end of a veth pair, locally administered.
    pub fn veth_mac(self) -> Mac {
        [0x02, 0x62, 0x79, 0x70, 0, if self == Self::A { 0xa } else { 0xb }]
    }

    /// Its address. IPv4 is from the range for benchmarks (RFC 2544), IPv6
    /// from that for private use (RFC 4193).
    pub fn address(self, version: IpVersion) -> IpAddr {
        let host = if self == Self::A { 1 } else { 2 };
        match version {
            IpVersion::V4 => Ipv4Addr::new(198, 18, 0, host).into(),
            IpVersion::V6 => {
                Ipv6Addr::new(0xfd62, 0x7970, 0, 0, 0, 0, 0, host.into()).into()
            }
        }
    }

    fn end(self) -> End {
        End { name: self.veth(), mac: self.veth_mac() }
    }
}

/// Which version of IP the lab speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// The first choice.
    V4,
    /// Where a kernel or a container has no IPv4.
    V6,
}

impl IpVersion {
    /// Bytes of the header, without options.
    pub fn header_bytes(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    fn prefix_len(self) -> u8 {
        match self {
            Self::V4 => 30,
            Self::V6 => 64,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "4",
            Self::V6 => "6",
        })
    }
}

/// What the lab is to be like.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// Bytes of an IP packet that the link carries.
    pub mtu: u32,
    /// Bytes behind the UDP header that have to fit.
    pub payload_bytes: u32,
    /// Queues of each end, in each direction.
    pub queues: u32,
    /// Whether senders leave UDP checksums to the device, which on veth means
    /// that nobody computes them. Off for whoever reads frames off the link.
    pub checksum_offload: bool,
    /// Generic receive offload. On veth it makes the receiving end use NAPI,
    /// which redirected frames need.
    pub gro: bool,
}

impl Default for LabSpec {
    /// As `ip link add type veth` would make it.
    fn default() -> Self {
        Self {
            mtu: 1_500,
            payload_bytes: 0,
            queues: 1,
            checksum_offload: true,
            gro: false,
        }
    }
}

/// The lab of this process.
#[derive(Debug)]
pub struct Lab {
    version: IpVersion,
    wire: Wire,
    sides: [LabSide; 2],
}

/// What the lab's two ends are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// A veth pair of its own.
    #[default]
    Veth,
    /// Two interfaces of this machine that something joins. They are moved
    /// into the lab's namespaces, and the kernel moves them back when the last
    /// holder of those is gone, whatever it died of.
    Interfaces([String; 2]),
}

impl Wire {
    /// As a session's target tells it to the workers.
    pub fn of(interfaces: Option<[String; 2]>) -> Self {
        interfaces.map_or(Self::Veth, Self::Interfaces)
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Veth => CARRIER_PATIENCE,
            Self::Interfaces(_) => REAL_CARRIER_PATIENCE,
        }
    }
}

/// One side, with what is needed to look at it from anywhere.
#[derive(Debug)]
struct LabSide {
    name: String,
    mac: Mac,
    namespace: File,
    index: u32,
    ethtool: Ethtool,
    readers: Mutex<Readers>,
}

#[derive(Debug)]
struct Readers {
    netlink: Netlink,
    protocols: Protocols,
}

impl Lab {
    /// Makes the lab. To be called once per process, while it has one thread;
    /// that thread is left in side B, and without its former rights over
    /// anything outside if it was an ordinary user's.
    ///
    /// # Errors
    /// What is missing, with a next step.
    pub fn new(spec: &LabSpec, wire: &Wire) -> Result<Self, LabError> {
        // In the namespace that interfaces are taken from.
        let mut outside = Netlink::open()?;
        if let Wire::Interfaces(names) = wire {
            borrowed::vet(&mut outside, names)?;
        }
        let namespace_a = namespace::acquire_rights()?;
        let version = ip_version()?;
        check_mtu(spec, version)?;
        let mut netlink_a = Netlink::open()?;
        let socket_a = ioctl_socket()?;
        let protocols_a = Protocols::open(version)?;
        let namespace_b = namespace::fresh()?;
        let netlink_b = Netlink::open()?;
        let socket_b = ioctl_socket()?;
        let protocols_b = Protocols::open(version)?;
        let namespaces = [namespace_a.as_fd(), namespace_b.as_fd()];
        let names = match wire {
            Wire::Veth => {
                let ends = [Side::A.end(), Side::B.end()];
                link::create(&mut netlink_a, spec, ends, namespaces[1])?;
                Side::both().map(|side| side.veth().to_owned())
            }
            Wire::Interfaces(names) => {
                borrowed::take(&mut outside, names, namespaces)?;
                names.clone()
            }
        };
        let [a, b] = names;
        let mut sides = [
            LabSide::new(a, namespace_a, netlink_a, socket_a, protocols_a)?,
            LabSide::new(b, namespace_b, netlink_b, socket_b, protocols_b)?,
        ];
        let macs = sides.each_ref().map(|side| side.mac);
        for (side, peer_mac) in Side::both().into_iter().zip([macs[1], macs[0]])
        {
            let at = &mut sides[side as usize];
            if *wire == Wire::Veth {
                at.set_offloads(spec)?;
            }
            at.address(version, side, peer_mac)?;
        }
        let lab = Self { version, wire: wire.clone(), sides };
        lab.wait_for_carrier()?;
        Ok(lab)
    }

    /// What its two ends are.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Waits until frames can pass. To be called once more when all ends are
    /// open: many a card is reset by that.
    ///
    /// # Errors
    /// The link does not come up.
    pub fn wait_for_carrier(&self) -> Result<(), LabError> {
        let patience = self.wire.patience();
        self.sides.iter().try_for_each(|side| side.wait_for_carrier(patience))
    }

    /// The name of that side's interface.
    pub fn interface(&self, side: Side) -> &str {
        &self.side(side).name
    }

    /// The Ethernet address of that side's interface.
    pub fn mac(&self, side: Side) -> Mac {
        self.side(side).mac
    }

    /// The driver of that side's interface: `veth`, `igb`.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn driver(&self, side: Side) -> Result<String, LabError> {
        self.side(side).ethtool.driver()
    }

    /// Which IP it speaks.
    pub fn ip_version(&self) -> IpVersion {
        self.version
    }

    /// Moves the calling thread to that side. Sockets are made there.
    ///
    /// # Errors
    /// setns(2) says no.
    pub fn enter(&self, side: Side) -> Result<(), LabError> {
        namespace::enter(&self.side(side).namespace)
    }

    /// The number of that side's interface in its namespace.
    pub fn interface_index(&self, side: Side) -> u32 {
        self.side(side).index
    }

    /// The namespace of that side.
    pub fn namespace(&self, side: Side) -> BorrowedFd<'_> {
        self.side(side).namespace.as_fd()
    }

    /// Where that side's end of the conversation is bound.
    pub fn socket_address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(side.address(self.version), PORT)
    }

    /// Bytes of the Ethernet frame, with its check sequence, that carries so
    /// many bytes of UDP payload.
    pub fn frame_bytes(&self, payload_bytes: u32) -> u32 {
        frame_bytes(self.version, payload_bytes)
    }

    /// What the kernel has counted at that side since the lab was made. Can
    /// be asked from any thread.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn counts(&self, side: Side) -> Result<Counts, LabError> {
        self.side(side).counts()
    }

    /// Whether the receiving side of that end works by NAPI, because of
    /// generic receive offload. An attached XDP program has the same effect.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn gro(&self, side: Side) -> Result<bool, LabError> {
        self.side(side).ethtool.gro()
    }

    /// The XDP program at that end, if it has one. Can be asked from any
    /// thread.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn xdp(&self, side: Side) -> Result<Option<AttachedXdp>, LabError> {
        Ok(self.side(side).look()?.xdp)
    }

    fn side(&self, side: Side) -> &LabSide {
        &self.sides[side as usize]
    }
}

impl LabSide {
    fn new(
        name: String,
        namespace: File,
        mut netlink: Netlink,
        socket: OwnedFd,
        protocols: Protocols,
    ) -> Result<Self, LabError> {
        let Seen { index, mac, .. } = link::look(&mut netlink, &name)?;
        let ethtool = Ethtool::new(socket, name.clone());
        let readers = Mutex::new(Readers { netlink, protocols });
        Ok(Self { name, mac, namespace, index, ethtool, readers })
    }

    fn set_offloads(&self, spec: &LabSpec) -> Result<(), LabError> {
        self.ethtool.set_tx_checksum(spec.checksum_offload)?;
        if self.ethtool.gro()? != spec.gro {
            self.ethtool.set_gro(spec.gro)?;
        }
        Ok(())
    }

    /// Brings it up as that side, which says nothing by itself.
    fn address(
        &mut self,
        version: IpVersion,
        side: Side,
        peer_mac: Mac,
    ) -> Result<(), LabError> {
        let index = self.index;
        let readers =
            self.readers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let netlink = &mut readers.netlink;
        link::silence(netlink, index)?;
        let address = side.address(version);
        link::add_address(netlink, index, address, version.prefix_len())?;
        link::up(netlink, index)?;
        let peer = side.peer().address(version);
        link::add_neighbour(netlink, index, peer, peer_mac)
    }

    fn wait_for_carrier(&self, patience: Duration) -> Result<(), LabError> {
        let started = Instant::now();
        loop {
            if self.look()?.carrier {
                return Ok(());
            }
            let waited = started.elapsed();
            if waited > patience {
                return Err(LabError::NoCarrier {
                    name: self.name.clone(),
                    waited_ms: waited.as_millis(),
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn look(&self) -> Result<Seen, LabError> {
        // A reader that panicked has left at most an answer unread, which the
        // next request skips by its number.
        let mut readers =
            self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        link::look(&mut readers.netlink, &self.name)
    }

    fn counts(&self) -> Result<Counts, LabError> {
        let mut counts = Counts::default();
        counts.add_link(&self.look()?.stats);
        counts.add_device(self.ethtool.counters()?);
        let mut readers =
            self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.protocols.read(&mut counts)?;
        Ok(counts)
    }
}

/// Bytes of the Ethernet frame, with its check sequence, that carries so many
/// bytes of UDP payload.
pub fn frame_bytes(version: IpVersion, payload_bytes: u32) -> u32 {
    const ETHERNET_HEADER_BYTES: u32 = 14;
    const CHECK_SEQUENCE_BYTES: u32 = 4;
    ETHERNET_HEADER_BYTES
        + version.header_bytes()
        + UDP_HEADER_BYTES
        + payload_bytes
        + CHECK_SEQUENCE_BYTES
}

/// The first version of IP for which this process gets a socket.
fn ip_version() -> Result<IpVersion, LabError> {
    let mut tried = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let any = match version {
            IpVersion::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpVersion::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        match UdpSocket::bind((any, 0)) {
            Ok(_) => return Ok(version),
            Err(error) => tried.push((version, error)),
        }
    }
    Err(LabError::no_ip(&tried))
}

fn check_mtu(spec: &LabSpec, version: IpVersion) -> Result<(), LabError> {
    let needed = version.header_bytes() + UDP_HEADER_BYTES + spec.payload_bytes;
    // linux/if_ether.h and RFC 8200: less is no Ethernet, or no IPv6.
    let least = match version {
        IpVersion::V4 => 68,
        IpVersion::V6 => 1_280,
    };
    if spec.mtu < needed.max(least) {
        let needed = needed.max(least);
        return Err(LabError::MtuTooSmall { mtu: spec.mtu, needed });
    }
    Ok(())
}

/// A socket to ask the namespace's interfaces through. It needs no protocol.
fn ioctl_socket() -> Result<OwnedFd, LabError> {
    std::os::unix::net::UnixDatagram::unbound().map(OwnedFd::from).map_err(
        |source: io::Error| LabError::Netlink {
            what: "opening a socket for ioctl".to_owned(),
            source,
        },
    )
}
