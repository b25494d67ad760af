//! Whole packets, headers included, as AF_XDP sends and receives them.

use std::net::IpAddr;

use crate::lab::{IpVersion, Mac, PORT, Side};

const ETHERNET_BYTES: usize = 14;
const UDP_BYTES: usize = 8;
/// Any router may pass it on; there is none.
const HOPS: u8 = 64;
const UDP: u8 = 17;

/// Bytes in front of the payload.
pub fn headers_bytes(version: IpVersion) -> usize {
    ETHERNET_BYTES + version.header_bytes() as usize + UDP_BYTES
}

/// A packet from `side` to its peer: Ethernet with these two addresses, IP,
/// UDP, and this payload.
///
/// The UDP checksum is 0, "not computed": by RFC 768 with IPv4; with IPv6 only
/// a receiver that does not look at it, such as ours, takes that. So nothing
/// but the payload has to be changed from packet to packet.
///
/// # Panics
/// The payload is longer than a packet may be.
pub fn build(
    version: IpVersion,
    side: Side,
    [to, from]: [Mac; 2],
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(UDP_BYTES + payload.len())
        .ok()
        .filter(|length| *length <= 1_480)
        .expect("a payload for an MTU of 1,500");
    let peer = side.peer();
    let mut packet = Vec::with_capacity(headers_bytes(version) + payload.len());
    ethernet(&mut packet, to, from, version);
    match (side.address(version), peer.address(version)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ipv4(&mut packet, from.octets(), to.octets(), length);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ipv6(&mut packet, from.octets(), to.octets(), length);
        }
        (from, to) => unreachable!("{from} and {to} are of one version"),
    }
    // RFC 768: source port, destination port, length, checksum.
    for word in [PORT, PORT, length, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

fn ethernet(packet: &mut Vec<u8>, to: Mac, from: Mac, version: IpVersion) {
    packet.extend(to);
    packet.extend(from);
    packet.extend(match version {
        IpVersion::V4 => [0x08, 0x00],
        IpVersion::V6 => [0x86, 0xdd],
    });
}

/// RFC 791, without options and not to be fragmented.
fn ipv4(packet: &mut Vec<u8>, from: [u8; 4], to: [u8; 4], length: u16) {
    let start = packet.len();
    packet.extend([0x45, 0]);
    packet.extend((20 + length).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    let checksum = checksum(&packet[start..]);
    packet[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 8200.
fn ipv6(packet: &mut Vec<u8>, from: [u8; 16], to: [u8; 16], length: u16) {
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([UDP, HOPS]);
    packet.extend(from);
    packet.extend(to);
}

/// RFC 1071, of an even number of bytes.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded to 16 bits above.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

    /// The example of RFC 1071's usual explanations.
    #[test]
    fn the_checksum_is_that_of_the_internet() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0,
            1, 0xc0, 0xa8, 0, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn a_packet_has_the_size_that_the_lab_states() {
        for version in [IpVersion::V4, IpVersion::V6] {
            let packet = build(version, Side::A, MACS, &[7; 18]);
            let frame = crate::lab::frame_bytes(version, 18) as usize;
            // Without the four bytes of the check sequence.
            assert_eq!(packet.len(), frame - 4);
            assert_eq!(packet[headers_bytes(version)..], [7; 18]);
        }
    }

    #[test]
    fn a_built_ipv4_header_checks_to_zero() {
        let packet = build(IpVersion::V4, Side::B, MACS, &[1; 18]);
        assert_eq!(checksum(&packet[14..34]), 0);
        assert_eq!(packet[..6], MACS[0]);
        assert_eq!(packet[6..12], MACS[1]);
        assert_eq!(packet[26..30], [198, 18, 0, 2]);
        assert_eq!(packet[30..34], [198, 18, 0, 1]);
    }
}
