//! The XDP program: our frames go to the AF_XDP socket of their queue, all
//! others pass to the network stack, as if nothing were attached. A login on
//! the same interface survives it.
//!
//! Ours is what is addressed to our UDP port:
//!
//! - Ethernet II without a VLAN tag, and either
//! - IPv4 with a header of 20 bytes, no fragment, protocol UDP; or
//! - IPv6 with UDP as its first next header;
//! - and the UDP destination port is the one asked for.
//!
//! Everything unusual (options, tags, tunnels, fragments, extension headers)
//! is nobody's benchmark and passes. UDP was chosen over a private ethertype
//! because the variants by socket send the very same frames.

use super::instruction::{
    Assembler, Instruction, Label,
    Register::{self, R0, R1, R2, R3, R4},
    Width,
};

/// What the kernel does with a frame (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`
    Drop = 1,
    /// `XDP_PASS`: on to the network stack.
    Pass = 2,
    /// `XDP_REDIRECT`: here, to a socket.
    Redirect = 4,
}

/// Offsets within the context (`struct xdp_md`).
mod context {
    pub(super) const DATA: i16 = 0;
    pub(super) const DATA_END: i16 = 4;
    pub(super) const RX_QUEUE_INDEX: i16 = 16;
}

/// `bpf_redirect_map`
const REDIRECT_MAP: i32 = 51;

const ETHERTYPE: i16 = 12;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: i32 = 17;

/// Offsets in a frame with IPv4: Ethernet 14, IPv4 20, UDP 8 bytes.
mod ipv4 {
    pub(super) const VERSION_AND_LENGTH: i16 = 14;
    /// Version 4, five words of header.
    pub(super) const NO_OPTIONS: i32 = 0x45;
    pub(super) const FRAGMENT: i16 = 20;
    /// "More fragments" and the fragment's offset; not "don't fragment".
    pub(super) const FRAGMENT_MASK: u16 = 0x3fff;
    pub(super) const PROTOCOL: i16 = 23;
    pub(super) const DESTINATION_PORT: i16 = 36;
    pub(super) const HEADERS_BYTES: i32 = 42;
}

/// Offsets in a frame with IPv6: Ethernet 14, IPv6 40, UDP 8 bytes.
mod ipv6 {
    pub(super) const NEXT_HEADER: i16 = 20;
    pub(super) const DESTINATION_PORT: i16 = 56;
    pub(super) const HEADERS_BYTES: i32 = 62;
}

/// Where the filter keeps things. `R1` is the context until the call.
const DATA: Register = R2;
const DATA_END: Register = R3;
const SCRATCH: Register = R4;

/// Which frames are ours, and what becomes of them without a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The UDP destination port.
    pub port: u16,
    /// For our frames at a queue that has no socket.
    pub without_socket: Action,
}

impl Filter {
    /// Our frames to the sockets in the map; to the network stack where there
    /// is none.
    pub fn of_port(port: u16) -> Self {
        Self { port, without_socket: Action::Pass }
    }

    /// The program. `map` is the descriptor of an `XSKMAP` whose keys are
    /// queue numbers.
    pub fn assemble(&self, map: i32) -> Vec<Instruction> {
        let mut code = Assembler::default();
        let (is_ipv4, check_port, pass) =
            (code.label(), code.label(), code.label());

        code.load(DATA, Width::Four, R1, context::DATA);
        code.load(DATA_END, Width::Four, R1, context::DATA_END);
        // The verifier wants each length proven before a byte behind it is
        // read. This one is also the shortest frame that can be ours.
        pass_if_shorter(&mut code, ipv4::HEADERS_BYTES, pass);
        code.load(SCRATCH, Width::Two, DATA, ETHERTYPE);
        code.jump_if_equal(SCRATCH, network(ETHERTYPE_IPV4), is_ipv4);
        code.jump_if_not_equal(SCRATCH, network(ETHERTYPE_IPV6), pass);

        pass_if_shorter(&mut code, ipv6::HEADERS_BYTES, pass);
        code.load(SCRATCH, Width::One, DATA, ipv6::NEXT_HEADER);
        code.jump_if_not_equal(SCRATCH, PROTOCOL_UDP, pass);
        code.load(SCRATCH, Width::Two, DATA, ipv6::DESTINATION_PORT);
        code.jump_always(check_port);

        code.bind(is_ipv4);
        code.load(SCRATCH, Width::One, DATA, ipv4::VERSION_AND_LENGTH);
        code.jump_if_not_equal(SCRATCH, ipv4::NO_OPTIONS, pass);
        code.load(SCRATCH, Width::Two, DATA, ipv4::FRAGMENT);
        code.and(SCRATCH, network(ipv4::FRAGMENT_MASK));
        code.jump_if_not_equal(SCRATCH, 0, pass);
        code.load(SCRATCH, Width::One, DATA, ipv4::PROTOCOL);
        code.jump_if_not_equal(SCRATCH, PROTOCOL_UDP, pass);
        code.load(SCRATCH, Width::Two, DATA, ipv4::DESTINATION_PORT);

        code.bind(check_port);
        code.jump_if_not_equal(SCRATCH, network(self.port), pass);
        // bpf_redirect_map(map, queue, what to do without a socket there)
        code.load(R2, Width::Four, R1, context::RX_QUEUE_INDEX);
        code.set_map(R1, map);
        code.set(R3, self.without_socket as i32);
        code.call(REDIRECT_MAP);
        code.exit();

        code.bind(pass);
        code.set(R0, Action::Pass as i32);
        code.exit();
        code.finish()
    }
}

/// `if data + bytes > data_end goto pass`
fn pass_if_shorter(code: &mut Assembler, bytes: i32, pass: Label) {
    code.copy(SCRATCH, DATA);
    code.add(SCRATCH, bytes);
    code.jump_if_greater(SCRATCH, DATA_END, pass);
}

/// A number as a two-byte load of its network byte order finds it.
fn network(value: u16) -> i32 {
    i32::from(value.to_be())
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
