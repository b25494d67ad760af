//! AF_XDP: frames by rings of shared memory, past the network stack, with our
//! filter attached in the driver (native) or in the network core (generic).
//!
//! Packets are copied between frames and skbs (`XDP_COPY`): a veth has no
//! other way. A card whose driver can puts them into our frames itself
//! (`XDP_ZEROCOPY`). Whole packets are prepared once; what is written to each is the
//! payload.

use std::{fmt::Debug, marker::PhantomData};

use harness::{
    load::wait::{Lost, Waiter},
    measure::trial::{Evidence, TrialError},
    suite::{Availability, Probe},
};

use super::{Accounts, End, Flow, Link, Numbered, Receiver, Sender, Way};
use crate::{
    arrivals::Arrivals,
    frame::{PAYLOAD_BYTES, Payload},
    lab::{Counts, Lab, PORT, Side, Wire},
    ledger::Ledger,
    wire,
    xdp::{
        self,
        bpf::Mode,
        device::Endpoint,
        packet,
        socket::{Config, Socket, Transfer},
    },
};

/// Frames that are sent by one system call, and looked for at once.
const BATCH: u32 = 64;

/// About as many as a socket's default receive buffer holds (212,992 bytes,
/// 768 of them charged for a small frame: 277). More would absorb bursts that
/// the ways it is compared with must drop.
const STREAM_RECEIVE_FRAMES: u32 = 256;
/// What the card itself holds, and what is on the way: its ring (256 entries
/// by default with igb and virtio-net) is never short of frames, not while the
/// receive ring is full. Where it is, Linux's igb delivers frames a second
/// time, 256 after the first (seen with 7.3). Most likely it takes an old entry
/// of its ring for a new one: `igb_alloc_rx_buffers_zc` clears the length of the
/// next entry, but not when frames run out before the ring's end.
const STREAM_SPARE_FRAMES: u32 = 768;
/// Four batches. Few, so that they stay in the cache.
const STREAM_SEND_FRAMES: u32 = 256;
/// One frame is in flight; the rest is room for what nobody asked for.
const LINK_FRAMES: u32 = 64;

/// Names of what a receiving socket counts by itself.
const NO_FRAME: &str = "xsk_no_frame";
const RING_FULL: &str = "xsk_ring_full";

/// Where the filter is attached.
pub trait Hook: Debug + 'static {
    /// Where in the kernel.
    const MODE: Mode;
    /// Who moves the bytes. There is no falling back.
    const TRANSFER: Transfer;
    /// The variant's id.
    const ID: &'static str;
    /// The variant in one line.
    const ABOUT: &'static str;
}

/// In the driver.
#[derive(Debug)]
pub enum Native {}

impl Hook for Native {
    const MODE: Mode = Mode::Native;
    const TRANSFER: Transfer = Transfer::Copy;
    const ID: &'static str = "af-xdp-native";
    const ABOUT: &'static str = "AF_XDP, copy mode: our filter in the driver \
         redirects to the socket's ring; polling";
}

/// In the network core.
#[derive(Debug)]
pub enum Generic {}

impl Hook for Generic {
    const MODE: Mode = Mode::Generic;
    const TRANSFER: Transfer = Transfer::Copy;
    const ID: &'static str = "af-xdp-generic";
    const ABOUT: &'static str = "AF_XDP, copy mode: the same filter behind \
         the driver, on skbs, as every device can; polling";
}

/// In the driver, which uses our memory.
#[derive(Debug)]
pub enum ZeroCopy {}

impl Hook for ZeroCopy {
    const MODE: Mode = Mode::Native;
    const TRANSFER: Transfer = Transfer::ZeroCopy;
    const ID: &'static str = "af-xdp-zerocopy";
    const ABOUT: &'static str = "AF_XDP, zero-copy: the card puts packets \
         into our memory and takes them from there; polling";
}

/// Rings at both ends, with the filter attached at whichever receives, and
/// without a copy at both.
#[derive(Debug)]
pub struct AfXdp<H>(PhantomData<H>);

/// The filter in the driver.
pub type AfXdpNative = AfXdp<Native>;
/// The filter in the driver, and no copy.
pub type AfXdpZeroCopy = AfXdp<ZeroCopy>;
/// The filter in the network core.
pub type AfXdpGeneric = AfXdp<Generic>;

impl<H: Hook> Way for AfXdp<H> {
    const ID: &'static str = H::ID;
    const ABOUT: &'static str = H::ABOUT;
    const SPINNING: bool = true;
    const PROBE: Probe = |request| {
        let wire = wire::of_probe(request);
        if H::TRANSFER == Transfer::ZeroCopy && wire == Wire::Veth {
            return Availability::unavailable(
                "a veth has no memory of its own to spare a copy from",
                "name two interfaces of network cards with --interfaces",
            );
        }
        xdp::probe::availability(&Self::lab_spec(), &wire, |lab| {
            lab.enter(Side::B)?;
            let config = stream_receiver::<H>(lab);
            let receiver =
                Endpoint::receiver(lab, &config, Side::B, H::MODE, PORT)?;
            lab.enter(Side::A)?;
            // Both at once, as in a trial: memory is limited.
            let config = stream_sender::<H>(lab);
            let sender =
                Endpoint::sender(lab, &config, Side::A, H::MODE, PORT)?;
            Ok((sender, receiver))
        })
    };

    /// A frame that the socket does not take is counted by the socket; in the
    /// driver's hook by the device, too, whose counter has it as dropped.
    fn account(ledger: &mut Ledger, sides: &Accounts<'_>) {
        let Accounts { wire, sender, receiver, receiver_own, .. } = *sides;
        let (no_frame, full) =
            (receiver_own.get(NO_FRAME), receiver_own.get(RING_FULL));
        if *wire != Wire::Veth {
            // Whether a card's counters hold what a program took from it, and
            // what a full ring made it drop, is each driver's own affair.
            ledger.drop(NO_FRAME, no_frame);
            ledger.drop(RING_FULL, full);
            ledger.drop_the_rest("wire");
            return;
        }
        let tx = sender.get("link.tx_dropped");
        let rx = receiver.get("link.rx_dropped");
        // The backlog that generic XDP sits behind refuses a frame at both
        // devices at once.
        let counted_twice = match H::MODE {
            Mode::Native => no_frame + full,
            Mode::Generic => tx,
        };
        ledger.drop("device_tx", tx);
        ledger.drop("device_rx", rx.saturating_sub(counted_twice));
        ledger.drop(NO_FRAME, no_frame);
        ledger.drop(RING_FULL, full);
        // Nothing but ours is on the link, save what IPv6 says of groups.
        let others = sender.get("icmp.OutMsgs");
        let packets = sender.get("link.tx_packets").saturating_sub(others);
        ledger.agree("frames sent", ledger.sent(), packets + tx);
        if H::MODE == Mode::Native {
            let redirected = receiver.get("device.rx_queue_0_xdp_redirect");
            ledger.agree("frames received", ledger.received(), redirected);
        }
    }
}

fn config<H: Hook>(lab: &Lab, side: Side, receive: u32, send: u32) -> Config {
    Config {
        interface: lab.interface_index(side),
        queue: 0,
        receive_frames: receive,
        spare_frames: 0,
        send_frames: send,
        transfer: H::TRANSFER,
        send_budget: BATCH,
        // Local to the CPU that the calling thread is pinned to.
        node: None,
    }
}

/// A stream's ends take as much memory as a link's, or more.
fn stream_receiver<H: Hook>(lab: &Lab) -> Config {
    let spare_frames = match H::TRANSFER {
        Transfer::Copy => 0,
        Transfer::ZeroCopy => STREAM_SPARE_FRAMES,
    };
    let config = config::<H>(lab, Side::B, STREAM_RECEIVE_FRAMES, 0);
    Config { spare_frames, ..config }
}

fn stream_sender<H: Hook>(lab: &Lab) -> Config {
    config::<H>(lab, Side::A, 0, STREAM_SEND_FRAMES)
}

/// What both kinds of ends have: the socket, and where payloads are.
#[derive(Debug)]
struct Half {
    endpoint: Endpoint,
    /// Bytes of the headers.
    at: usize,
    waiter: Waiter,
    proof: Evidence,
}

impl Half {
    /// An end that receives, if it has frames for that.
    fn open(
        lab: &Lab,
        side: Side,
        config: &Config,
        mode: Mode,
        waiter: &Waiter,
    ) -> Result<Self, TrialError> {
        let mut endpoint = match config.receive_frames {
            0 => Endpoint::sender(lab, config, side, mode, PORT)?,
            _ => Endpoint::receiver(lab, config, side, mode, PORT)?,
        };
        let version = lab.ip_version();
        let macs = [lab.mac(side.peer()), lab.mac(side)];
        let packet = packet::build(version, side, macs, &[0; PAYLOAD_BYTES]);
        endpoint.socket.prepare(&packet);
        let mut proof = Evidence::default();
        endpoint.prove(lab, &mut proof)?;
        let at = packet::headers_bytes(version);
        Ok(Self { endpoint, at, waiter: waiter.clone(), proof })
    }

    /// Waits until the kernel has taken all that was handed over.
    #[inline(always)]
    fn push(&mut self) -> Result<(), Lost> {
        let Self { endpoint, waiter, .. } = self;
        waiter.until(|| match endpoint.socket.kick() {
            Ok(()) => (endpoint.socket.unsent() == 0).then_some(Ok(())),
            Err(error) => Some(Err(Lost::system("sendto", &error))),
        })?
    }

    /// Waits until all that was handed over has left the kernel: completions
    /// say so, not submissions.
    fn finish(&mut self) -> Result<(), Lost> {
        self.push()?;
        let Self { endpoint, waiter, .. } = self;
        waiter.until(|| {
            endpoint.socket.reap();
            (endpoint.socket.in_flight() == 0).then_some(())
        })
    }

    /// What the socket dropped, and what it should never have to drop.
    fn count(&self, counts: &mut Counts) {
        // Where the kernel does not tell, the account will not balance.
        let Ok(seen) = self.endpoint.socket.statistics() else { return };
        counts.set(NO_FRAME, seen.rx_dropped);
        counts.set(RING_FULL, seen.rx_ring_full);
    }
}

/// Shows up to so many payloads, which start at `at` in their packets.
#[inline(always)]
fn receive(
    socket: &mut Socket,
    at: usize,
    limit: u32,
    mut see: impl FnMut(&Payload),
) -> u32 {
    socket.receive(limit, |packet| {
        see(&Payload::from_bytes(packet.get(at..).unwrap_or_default()));
    })
}

/// An end of a link.
#[derive(Debug)]
pub struct XdpEnd(Half);

impl<H: Hook> Link for AfXdp<H> {
    type End = XdpEnd;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<XdpEnd, TrialError> {
        let config = config::<H>(lab, side, LINK_FRAMES, LINK_FRAMES);
        Half::open(lab, side, &config, H::MODE, waiter).map(XdpEnd)
    }

    /// As for streams.
    fn open_one_way(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<XdpEnd, TrialError> {
        let config = match side {
            Side::A => stream_sender::<H>(lab),
            Side::B => stream_receiver::<H>(lab),
        };
        let mut half = Half::open(lab, side, &config, H::MODE, waiter)?;
        if side == Side::B {
            half.proof.prove("receive_frames", STREAM_RECEIVE_FRAMES);
        }
        Ok(XdpEnd(half))
    }
}

impl End for XdpEnd {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        let Half { endpoint, at, waiter, .. } = &mut self.0;
        let (socket, at) = (&mut endpoint.socket, *at);
        // There is an idle frame at once: all but one have come back.
        waiter.until(|| {
            socket.reap();
            let sent = socket.send(1, |packet| {
                packet[at..].copy_from_slice(&payload.0);
            });
            (sent == 1).then_some(())
        })?;
        self.0.push()
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<Payload, Lost> {
        let Half { endpoint, at, waiter, .. } = &mut self.0;
        waiter.until(|| {
            let mut received = None;
            receive(&mut endpoint.socket, *at, 1, |payload| {
                received = Some(*payload);
            });
            received
        })
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        let Half { endpoint, at, .. } = &mut self.0;
        let mut received = None;
        receive(&mut endpoint.socket, *at, 1, |payload| {
            received = Some(*payload);
        });
        Ok(received)
    }

    fn finish(&mut self) -> Result<(), Lost> {
        self.0.finish()
    }

    fn count(&self, counts: &mut Counts) {
        self.0.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        evidence.absorb(self.0.proof.clone());
    }
}

impl<H: Hook> Flow for AfXdp<H> {
    const BATCH: u64 = BATCH as u64;
    type Sender = XdpSender;
    type Receiver = XdpReceiver;

    fn sender(lab: &Lab, waiter: &Waiter) -> Result<XdpSender, TrialError> {
        Half::open(lab, Side::A, &stream_sender::<H>(lab), H::MODE, waiter)
            .map(XdpSender)
    }

    fn receiver(lab: &Lab, waiter: &Waiter) -> Result<XdpReceiver, TrialError> {
        let config = stream_receiver::<H>(lab);
        Half::open(lab, Side::B, &config, H::MODE, waiter).map(XdpReceiver)
    }
}

/// The sending end of a stream.
#[derive(Debug)]
pub struct XdpSender(Half);

impl Sender for XdpSender {
    #[inline(always)]
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        let Half { endpoint, at, waiter, .. } = &mut self.0;
        let (socket, at) = (&mut endpoint.socket, *at);
        waiter.until(|| {
            socket.reap();
            let sent = socket.send(BATCH, |packet| {
                packet[at..].copy_from_slice(&frames.take().0);
            });
            // Also with nothing new: what a call before did not send yet is
            // what there is to wait for.
            match socket.kick() {
                Ok(()) => (sent > 0).then_some(Ok(())),
                Err(error) => Some(Err(Lost::system("sendto", &error))),
            }
        })?
    }

    fn finish(&mut self) -> Result<(), Lost> {
        self.0.finish()
    }

    fn prove(&self, evidence: &mut Evidence) {
        evidence.absorb(self.0.proof.clone());
        let budget = self.0.endpoint.socket.send_budget();
        evidence.prove("send_budget", budget.unwrap_or(32));
    }
}

/// The receiving end of a stream.
#[derive(Debug)]
pub struct XdpReceiver(Half);

impl Receiver for XdpReceiver {
    #[inline(always)]
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        let Half { endpoint, at, waiter, .. } = &mut self.0;
        let socket = &mut endpoint.socket;
        waiter.until(|| {
            let count = receive(socket, *at, BATCH, |payload| {
                arrivals.see(payload);
            });
            (count > 0).then_some(())
        })
    }

    fn drain(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        let Half { endpoint, at, .. } = &mut self.0;
        let socket = &mut endpoint.socket;
        while receive(socket, *at, BATCH, |payload| arrivals.see(payload)) > 0 {
        }
        Ok(())
    }

    fn count(&self, counts: &mut Counts) {
        self.0.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        evidence.absorb(self.0.proof.clone());
        // The buffer that decides how much a flood loses.
        evidence.prove("receive_frames", STREAM_RECEIVE_FRAMES);
    }
}
