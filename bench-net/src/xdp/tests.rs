//! Programs, sockets and the lab together, each time in a process of its own.

use std::{
    io::{Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use harness::{measure::trial::Evidence, suite::Availability};

use super::{
    bpf::{self, Mode},
    device::{Endpoint, EndpointError},
    packet, probe,
    socket::{Config, Statistics, Transfer},
};
use crate::{
    lab::{Counts, Lab, LabSpec, PORT, Side, Wire, child},
    testing,
};

const MODES: [Mode; 2] = [Mode::Native, Mode::Generic];

/// For what is due at once. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a check in a child that has a lab, or says why it cannot.
fn with_lab(check: impl FnOnce(&Lab)) {
    if let Availability::Unavailable { reason, remedy } = probe::loading() {
        eprintln!("SKIPPED: {reason}; {remedy}");
        return;
    }
    testing::with_lab(|lab| check(&lab));
}

/// Gives what is under way the time to come; what follows says what is wrong
/// if it has not.
fn wait_for(mut is_there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_there() && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
}

fn config(lab: &Lab, side: Side, receive: u32, send: u32) -> Config {
    Config {
        interface: lab.interface_index(side),
        queue: 0,
        receive_frames: receive,
        spare_frames: 0,
        send_frames: send,
        transfer: Transfer::Copy,
        send_budget: 64,
        node: None,
    }
}

fn sender(lab: &Lab, frames: u32) -> Endpoint {
    lab.enter(Side::A).expect("enter");
    let config = config(lab, Side::A, 0, frames);
    let mut endpoint =
        Endpoint::sender(lab, &config, Side::A, Mode::Native, PORT)
            .expect("sender");
    let macs = [lab.mac(Side::B), lab.mac(Side::A)];
    let packet = packet::build(lab.ip_version(), Side::A, macs, &[0; 18]);
    endpoint.socket.prepare(&packet);
    endpoint
}

fn try_receiver(
    lab: &Lab,
    frames: u32,
    mode: Mode,
) -> Result<Endpoint, EndpointError> {
    lab.enter(Side::B).expect("enter");
    let config = config(lab, Side::B, frames, 0);
    Endpoint::receiver(lab, &config, Side::B, mode, PORT)
}

fn receiver(lab: &Lab, frames: u32, mode: Mode) -> Endpoint {
    try_receiver(lab, frames, mode).expect("receiver")
}

/// Numbers, one in the payload of each packet.
struct Numbers {
    next: u64,
    at: usize,
}

impl Numbers {
    fn new(lab: &Lab) -> Self {
        Self { next: 0, at: packet::headers_bytes(lab.ip_version()) }
    }

    fn write(&mut self, packet: &mut [u8]) {
        let bytes = self.next.to_le_bytes();
        packet[self.at..self.at + 8].copy_from_slice(&bytes);
        self.next += 1;
    }

    fn check(&mut self, packet: &[u8]) {
        assert_eq!(packet.len(), self.at + 18);
        let bytes = &packet[self.at..self.at + 8];
        assert_eq!(bytes, self.next.to_le_bytes(), "packet {}", self.next);
        self.next += 1;
    }
}

/// Sends so many and waits until all of them are complete.
fn send_all(endpoint: &mut Endpoint, numbers: &mut Numbers, packets: u64) {
    let end = numbers.next + packets;
    let started = Instant::now();
    while numbers.next < end || endpoint.socket.in_flight() > 0 {
        let left = u32::try_from(end - numbers.next).expect("a few");
        endpoint.socket.send(left.min(64), |packet| numbers.write(packet));
        endpoint.socket.kick().expect("kick");
        endpoint.socket.reap();
        assert!(started.elapsed() < PATIENCE, "{endpoint:?}");
    }
}

/// What both sides counted since these looks.
fn since(lab: &Lab, before: &[Counts; 2]) -> [Counts; 2] {
    let [a, b] = looks(lab);
    [a.since(&before[0]), b.since(&before[1])]
}

fn looks(lab: &Lab) -> [Counts; 2] {
    Side::both().map(|side| lab.counts(side).expect("counts"))
}

/// Paced so that nothing can be lost: every packet is sent, seen by the
/// program, redirected, delivered, and counted once in each place.
#[test]
fn what_is_sent_at_leisure_is_delivered() {
    const BATCHES: u64 = 300;
    const BATCH: u64 = 16;
    for mode in MODES {
        with_lab(|lab| {
            let mut b = receiver(lab, 128, mode);
            let mut a = sender(lab, 32);
            let before = looks(lab);
            let (mut sent, mut seen) = (Numbers::new(lab), Numbers::new(lab));
            for _ in 0..BATCHES {
                send_all(&mut a, &mut sent, BATCH);
                let started = Instant::now();
                while seen.next < sent.next {
                    b.socket.receive(64, |packet| seen.check(packet));
                    assert!(started.elapsed() < PATIENCE, "{mode:?}");
                }
            }
            assert_eq!(seen.next, BATCHES * BATCH, "{mode:?}");
            for socket in [&a.socket, &b.socket] {
                let counted = socket.statistics().expect("statistics");
                // Times that a ring was found empty say nothing here.
                assert_eq!(counted.lost_in_copy_mode(), 0, "{counted:?}");
                assert_eq!(counted.rx_invalid + counted.tx_invalid, 0);
            }
            let [a, b] = since(lab, &before);
            let message = format!("{mode:?}: A: {a}; B: {b}");
            assert_eq!(a.get("link.tx_packets"), seen.next, "{message}");
            assert_eq!(a.get("link.tx_dropped"), 0, "{message}");
            assert_eq!(b.get("link.rx_packets"), seen.next, "{message}");
            assert_eq!(b.get("link.rx_dropped"), 0, "{message}");
            assert_eq!(b.get("ip.InReceives"), 0, "{message}");
            // Only the driver's own hook has these.
            let native = if mode == Mode::Native { seen.next } else { 0 };
            for (name, expected) in [
                ("device.rx_queue_0_xdp_packets", native),
                ("device.rx_queue_0_xdp_redirect", native),
                ("device.rx_queue_0_drops", 0),
            ] {
                assert_eq!(b.get(name), expected, "{name}: {message}");
            }
        });
    }
}

/// Nobody reads, so that most of it is lost: each packet is either delivered
/// or in a counter with a name, and each of the sent ones comes back.
#[test]
fn what_is_lost_is_counted_by_name() {
    const PACKETS: u64 = 1_000;
    const FRAMES: u32 = 64;
    for mode in MODES {
        with_lab(|lab| {
            let mut b = receiver(lab, FRAMES, mode);
            let mut a = sender(lab, 128);
            let before = looks(lab);
            let (mut sent, mut seen) = (Numbers::new(lab), Numbers::new(lab));
            send_all(&mut a, &mut sent, PACKETS);
            // A frame may be complete for its sender before it has arrived.
            let room = u64::from(FRAMES);
            wait_for(|| {
                let lost = b.socket.statistics().expect("statistics");
                lost.lost_in_copy_mode() + room >= PACKETS
            });
            // The first ones are there, since nothing took their frames away.
            b.socket.receive(u32::MAX, |packet| seen.check(packet));
            assert_eq!(seen.next, u64::from(FRAMES), "{mode:?}");
            let lost = b.socket.statistics().expect("statistics");
            let [a, b] = since(lab, &before);
            let message = format!("{mode:?}: {lost:?}; A: {a}; B: {b}");
            assert_eq!(
                PACKETS,
                seen.next + lost.lost_in_copy_mode(),
                "{message}"
            );
            assert!(lost.rx_fill_ring_empty > 0, "{message}");
            assert_eq!(a.get("link.tx_packets"), PACKETS, "{message}");
            if mode == Mode::Native {
                let packets = b.get("device.rx_queue_0_xdp_packets");
                let redirected = b.get("device.rx_queue_0_xdp_redirect");
                let drops = b.get("device.rx_queue_0_drops");
                assert_eq!(packets, PACKETS, "{message}");
                assert_eq!(redirected, seen.next, "{message}");
                assert_eq!(drops, lost.lost_in_copy_mode(), "{message}");
            }
        });
    }
}

#[test]
fn mode_and_transfer_are_read_back() {
    for mode in MODES {
        with_lab(|lab| {
            let b = receiver(lab, 64, mode);
            let mut evidence = Evidence::default();
            b.prove(lab, &mut evidence).expect("prove");
            assert_eq!(evidence.degraded, Vec::<String>::new());
            let mut expected = Evidence::default();
            expected.prove("zero_copy", "no");
            expected.prove("xdp", mode.word());
            assert_eq!(evidence.path, expected.path);
            assert_eq!(b.socket.statistics().ok(), Some(Statistics::default()));
            drop(b);
            assert_eq!(lab.xdp(Side::B).expect("look"), None);
        });
    }
}

/// Whatever is not ours goes on to the network stack: a datagram for another
/// port arrives at an ordinary socket, and only there.
#[test]
fn frames_of_others_pass() {
    for mode in MODES {
        with_lab(|lab| {
            let mut b = receiver(lab, 64, mode);
            let to = (Side::B.address(lab.ip_version()), PORT + 1);
            let theirs = UdpSocket::bind(to).expect("bind");
            theirs.set_read_timeout(Some(PATIENCE)).expect("time-out");
            let mut a = sender(lab, 64);
            let from = (Side::A.address(lab.ip_version()), 0);
            let socket = UdpSocket::bind(from).expect("bind");
            let (mut sent, mut seen) = (Numbers::new(lab), Numbers::new(lab));
            let mut buffer = [0; 64];
            for round in 0..10u8 {
                socket.send_to(&[round; 20], to).expect("send");
                send_all(&mut a, &mut sent, 1);
                assert_eq!(theirs.recv(&mut buffer).expect("receive"), 20);
                assert_eq!(buffer[..20], [round; 20]);
            }
            wait_for(|| {
                b.socket.receive(64, |packet| seen.check(packet));
                seen.next >= sent.next
            });
            assert_eq!(seen.next, 10, "{mode:?}");
        });
    }
}

#[test]
fn a_queue_that_was_just_left_can_be_bound_again() {
    with_lab(|lab| {
        for _ in 0..3 {
            for mode in MODES {
                drop(receiver(lab, 64, mode));
            }
        }
        drop(sender(lab, 64));
        drop(sender(lab, 64));
    });
}

#[test]
fn a_program_that_is_there_stays() {
    with_lab(|lab| {
        for first in MODES {
            let kept = receiver(lab, 64, first);
            let before = lab.xdp(Side::B).expect("look").expect("program");
            for second in MODES {
                lab.enter(Side::B).expect("enter");
                let map = bpf::SocketMap::new(1).expect("map");
                let filter = super::program::Filter::of_port(PORT);
                let other = bpf::Program::load(&filter, &map).expect("load");
                let index = lab.interface_index(Side::B);
                let error = bpf::Link::attach(&other, index, second)
                    .expect_err("there is one");
                let errno = error.source_error().raw_os_error();
                let errno = errno.expect("errno");
                assert!([libc::EBUSY, libc::EEXIST].contains(&errno));
                assert_eq!(lab.xdp(Side::B).expect("look"), Some(before));
            }
            drop(kept);
        }
    });
}

/// The message for it. The other program is on an interface whose queue is
/// free, as that of a firewall would be.
#[test]
fn a_taken_interface_is_named() {
    with_lab(|lab| {
        lab.enter(Side::B).expect("enter");
        let map = bpf::SocketMap::new(1).expect("map");
        let filter = super::program::Filter::of_port(1);
        let other = bpf::Program::load(&filter, &map).expect("load");
        let index = lab.interface_index(Side::B);
        let _link = bpf::Link::attach(&other, index, Mode::Generic);
        for mode in MODES {
            let error = try_receiver(lab, 64, mode).expect_err("taken");
            let text = error.to_string();
            assert!(text.contains("bypass-b has an XDP program"), "{text}");
            assert!(text.contains("generic"), "{text}");
            assert!(text.contains("never replaced"), "{text}");
        }
    });
}

#[test]
fn zero_copy_is_refused_by_veth_and_not_replaced_by_copying() {
    with_lab(|lab| {
        lab.enter(Side::B).expect("enter");
        let config = Config {
            transfer: Transfer::ZeroCopy,
            ..config(lab, Side::B, 64, 0)
        };
        let error =
            Endpoint::receiver(lab, &config, Side::B, Mode::Native, PORT)
                .expect_err("veth has none");
        assert!(error.to_string().contains("no zero-copy"), "{error}");
    });
}

/// Killed without a chance to clean up, a process leaves no program behind.
#[test]
fn a_killed_process_leaves_no_program() {
    let (mut ours, theirs) = UnixStream::pair().expect("pair");
    let mut skipped = true;
    if probe::loading() == Availability::Available && testing::can_have_lab() {
        skipped = false;
        let result = child::run(|| {
            let lab = Lab::new(&LabSpec::default(), &Wire::Veth).expect("lab");
            let b = receiver(&lab, 64, Mode::Native);
            let a = sender(&lab, 64);
            let program = lab.xdp(Side::B).expect("look").expect("program");
            (&theirs).write_all(&program.program.to_le_bytes()).expect("write");
            // SAFETY: ends this child.
            unsafe { libc::raise(libc::SIGKILL) };
            drop((a, b));
            Vec::new()
        });
        let error = result.expect_err("it was killed");
        assert!(error.to_string().contains("signal 9"), "{error}");
    }
    if skipped {
        eprintln!("SKIPPED: this test attaches an XDP program");
        return;
    }
    let mut id = [0; 4];
    ours.read_exact(&mut id).expect("number of the program");
    let id = u32::from_le_bytes(id);
    assert!(id > 0);
    let started = Instant::now();
    while bpf::testing::our_programs().expect("walk").contains(&id) {
        assert!(started.elapsed() < PATIENCE, "program {id} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}
