//! The filter on sample frames: by rbpf everywhere, by the kernel where it
//! lets us.

use super::*;
use crate::xdp::bpf;

const PORT: u16 = 40_064;
const MAP: i32 = 9;

/// An Ethernet header of this type and what follows it.
fn frame(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

fn udp(port: u16) -> Vec<u8> {
    let mut udp = vec![0x12, 0x34];
    udp.extend(port.to_be_bytes());
    udp.extend([0, 26, 0, 0]);
    udp.extend([0xaa; 18]);
    udp
}

fn ipv4(change: impl Fn(&mut [u8]), payload: &[u8]) -> Vec<u8> {
    let mut header = vec![
        0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    change(&mut header);
    header.extend(payload);
    frame(ETHERTYPE_IPV4, &header)
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 26, next_header, 64];
    header.extend([0xfd; 32]);
    header.extend(payload);
    frame(ETHERTYPE_IPV6, &header)
}

/// Name, frame, and whether it is ours.
fn samples() -> Vec<(&'static str, Vec<u8>, bool)> {
    let same = |_: &mut [u8]| {};
    let mut tagged = frame(0x8100, &[0, 5]);
    tagged.extend(&ipv4(same, &udp(PORT))[12..]);
    let mut arp = frame(0x0806, &[0; 46]);
    // What would be the port of an IPv4 frame.
    arp[36..38].copy_from_slice(&PORT.to_be_bytes());
    vec![
        ("ours by IPv4", ipv4(same, &udp(PORT)), true),
        ("ours by IPv6", ipv6(17, &udp(PORT)), true),
        ("ours without payload", ipv4(same, &udp(PORT)[..8]), true),
        ("may be fragmented", ipv4(|h| h[6] = 0, &udp(PORT)), true),
        ("ssh", ipv4(|h| h[9] = 6, &udp(22)), false),
        ("tcp to our port", ipv4(|h| h[9] = 6, &udp(PORT)), false),
        ("another port", ipv4(same, &udp(PORT + 1)), false),
        ("port bytes swapped", ipv4(same, &udp(PORT.swap_bytes())), false),
        ("another port by IPv6", ipv6(17, &udp(PORT + 1)), false),
        ("tcp by IPv6", ipv6(6, &udp(PORT)), false),
        ("IPv6 with options", ipv6(0, &udp(PORT)), false),
        ("IPv4 with options", ipv4(|h| h[0] = 0x46, &udp(PORT)), false),
        ("not IPv4 inside", ipv4(|h| h[0] = 0x65, &udp(PORT)), false),
        ("first fragment", ipv4(|h| h[6] = 0x20, &udp(PORT)), false),
        ("second fragment", ipv4(|h| h[7] = 1, &udp(PORT)), false),
        ("VLAN tag", tagged, false),
        ("ARP", arp, false),
        ("length field of 802.3", frame(46, &[0; 46]), false),
        ("nothing but a header", frame(ETHERTYPE_IPV4, &[]), false),
    ]
}

fn bytes(code: &[Instruction]) -> Vec<u8> {
    code.iter().flat_map(|i| i.to_bytes()).collect()
}

/// What the interpreter says: the program's result, which the helper makes
/// out of queue and fallback so that wrong arguments would show.
#[cfg(target_endian = "little")]
fn interpret(frame: &[u8]) -> Result<u64, String> {
    const QUEUE: u32 = 3;
    fn redirect(map: u64, queue: u64, other: u64, _: u64, _: u64) -> u64 {
        assert_eq!(map, MAP as u64);
        assert_eq!(queue, u64::from(QUEUE));
        assert_eq!(other, Action::Pass as u64);
        Action::Redirect as u64
    }
    let mut code = bytes(&Filter::of_port(PORT).assemble(MAP));
    // The kernel's verifier turns the two loads of 32-bit context fields into
    // loads of pointers (`xdp_convert_ctx_access`); so does this: eight bytes
    // each (0x79), the second at 8 instead of 4.
    assert_eq!((code[0], code[2], code[8], code[10]), (0x61, 0, 0x61, 4));
    code[0] = 0x79;
    code[8] = 0x79;
    code[10] = 8;
    let mut context = [0u8; 20];
    let start = frame.as_ptr().addr() as u64;
    context[..8].copy_from_slice(&start.to_le_bytes());
    let end = start + frame.len() as u64;
    context[8..16].copy_from_slice(&end.to_le_bytes());
    context[16..].copy_from_slice(&QUEUE.to_le_bytes());
    let mut machine =
        rbpf::EbpfVmMbuff::new(Some(&code)).map_err(|e| e.to_string())?;
    machine
        .register_helper(REDIRECT_MAP.unsigned_abs(), redirect)
        .map_err(|e| e.to_string())?;
    // It refuses to read outside `frame` and `context`.
    machine.execute_program(frame, &context).map_err(|e| e.to_string())
}

#[test]
#[cfg(target_endian = "little")]
fn only_ours_is_redirected() {
    for (name, frame, ours) in samples() {
        let expected = if ours { Action::Redirect } else { Action::Pass };
        assert_eq!(interpret(&frame), Ok(expected as u64), "{name}");
    }
}

/// However short a frame is, nothing behind its end is read, and it passes
/// as long as its UDP header is not complete.
#[test]
#[cfg(target_endian = "little")]
fn a_frame_cut_anywhere_passes() {
    for (name, frame, ours) in samples() {
        let headers = match (ours, name.contains("IPv6")) {
            (false, _) => usize::MAX,
            (true, true) => 62,
            (true, false) => 42,
        };
        for length in 0..frame.len() {
            let expected =
                if length < headers { Action::Pass } else { Action::Redirect };
            assert_eq!(
                interpret(&frame[..length]),
                Ok(expected as u64),
                "{name}, {length} bytes"
            );
        }
    }
}

#[test]
#[cfg(target_endian = "little")]
fn the_interpreter_would_notice_a_read_behind_the_end() {
    let mut code = Assembler::default();
    code.load(DATA, Width::Four, R1, 0);
    code.load(R0, Width::One, DATA, 5);
    code.exit();
    let mut code = bytes(&code.finish());
    code[0] = 0x79;
    let memory = vec![0u8; 4_096];
    let context = (memory.as_ptr().addr() as u64).to_le_bytes();
    let machine = rbpf::EbpfVmMbuff::new(Some(&code)).expect("program");
    assert!(machine.execute_program(&memory[..6], &context).is_ok());
    assert!(machine.execute_program(&memory[..5], &context).is_err());
}

/// The kernel's verifier accepts it, and its own run of the program agrees.
/// Our frames are told apart by what happens without a socket.
#[test]
fn the_kernel_agrees() {
    let filter = Filter { port: PORT, without_socket: Action::Drop };
    let Some(program) = bpf::testing::load_or_skip(&filter) else { return };
    for (name, frame, ours) in samples() {
        let expected = if ours { Action::Drop } else { Action::Pass };
        match bpf::testing::run(&program, &frame) {
            Ok(result) => assert_eq!(result, expected as u32, "{name}"),
            // Less than an Ethernet header and a byte is refused before the
            // program is run.
            Err(error) if frame.len() <= 14 => {
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{name}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn the_kernel_agrees_on_frames_cut_anywhere() {
    let filter = Filter { port: PORT, without_socket: Action::Drop };
    let Some(program) = bpf::testing::load_or_skip(&filter) else { return };
    let (_, frame, _) = samples().swap_remove(0);
    for length in 15..frame.len() {
        let expected = if length < 42 { Action::Pass } else { Action::Drop };
        let result = bpf::testing::run(&program, &frame[..length]);
        assert_eq!(result.ok(), Some(expected as u32), "{length} bytes");
    }
}
