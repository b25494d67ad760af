//! The ways to move frames between the two sides, one per file.
//!
//! A way has its two ends in two namespaces, on two threads. Each end is
//! opened **on the thread that uses it**, after that thread was pinned and has
//! entered its side: rings with a single issuer and busy polling need that.
//!
//! A way of round trips is a [`Link`]: two equal ends, which paced frames
//! cross in one direction. A way of streams is a [`Flow`]: a sender on side A
//! and a receiver on side B. Everything is generic and compiled once per way.

pub mod af_xdp;
pub mod mmsg;
mod slots;
pub mod socket;
pub mod socket_blocking;
pub mod socket_spin;
pub mod uring;

use std::fmt::Debug;

use harness::{
    load::wait::{Lost, Waiter},
    measure::trial::{Evidence, TrialError},
    suite::{Availability, Probe, ProbeRequest},
};

use crate::{
    arrivals::Arrivals,
    frame::{PAYLOAD_BYTES_U32, Payload, Series},
    lab::{Counts, Lab, LabSpec, Side, Wire},
    ledger::Ledger,
    probe, wire,
};

/// The lab of all ways that need nothing special.
fn usual_lab() -> LabSpec {
    LabSpec { payload_bytes: PAYLOAD_BYTES_U32, ..LabSpec::default() }
}

/// Can it be had?
fn usual_lab_can_be_had(request: &ProbeRequest<'_>) -> Availability {
    request
        .in_common(|request| probe::lab(&usual_lab(), &wire::of_probe(request)))
}

/// What a variant says about itself.
pub trait Way: 'static {
    /// Short and stable.
    const ID: &'static str;
    /// What it does, in one line.
    const ABOUT: &'static str;
    /// Neither end ever sleeps.
    const SPINNING: bool;

    /// Can it run here? To be asked in a process with threads; leaves
    /// nothing. Ways that need the same have the same one, so that it need
    /// be asked only once.
    const PROBE: Probe = usual_lab_can_be_had;

    /// The lab it needs.
    fn lab_spec() -> LabSpec {
        usual_lab()
    }

    /// Names what became of the frames of one direction, from what the kernel
    /// counted at both sides and what both ends say of themselves.
    fn account(ledger: &mut Ledger, sides: &Accounts<'_>) {
        let refused = sides.sender_own.get(SEND_REFUSED);
        // Every card has a ring that frames are taken from by NAPI.
        let napi = Self::lab_spec().gro || *sides.wire != Wire::Veth;
        ledger.udp(refused, sides.sender, sides.receiver, napi);
        if *sides.wire != Wire::Veth {
            ledger.drop_the_rest("wire");
        }
    }
}

/// The name under which an end counts frames that its kernel did not take.
pub const SEND_REFUSED: &str = "send_refused";

/// What was counted in one direction since the ends were opened.
#[derive(Clone, Copy, Debug)]
pub struct Accounts<'a> {
    /// What the frames went over.
    pub wire: &'a Wire,
    /// By the kernel, at the side that sent.
    pub sender: &'a Counts,
    /// By the sending end itself (`End::count`, `Sender::count`).
    pub sender_own: &'a Counts,
    /// By the kernel, at the side that received.
    pub receiver: &'a Counts,
    /// By the receiving end itself (`End::count`, `Receiver::count`).
    pub receiver_own: &'a Counts,
}

/// Two ends that answer each other.
pub trait Link: Way {
    /// One of them.
    type End: End;

    /// Opens the end of that side, on the thread that will use it.
    ///
    /// # Errors
    /// It cannot be had.
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self::End, TrialError>;

    /// The same for frames that only go from side A to side B and that nobody
    /// answers. Many may be on their way at once, so that there has to be as
    /// much room for them as a socket's default receive buffer has.
    ///
    /// # Errors
    /// It cannot be had.
    fn open_one_way(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self::End, TrialError> {
        Self::open(lab, side, waiter)
    }
}

/// One end of a link.
pub trait End: Debug {
    /// Hands a frame over. It may leave only with the next `receive` or
    /// `flush`, one of which always follows.
    ///
    /// # Errors
    /// It could not be handed over.
    fn send(&mut self, payload: &Payload) -> Result<(), Lost>;

    /// Makes sure that what was handed over leaves, with nothing to receive.
    ///
    /// # Errors
    /// It could not be handed over.
    fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    /// Waits for the next frame. A frame that is not one of ours comes out as
    /// a payload that no series recognises.
    ///
    /// # Errors
    /// None came in time ([`Lost::TimedOut`]), or none will.
    fn receive(&mut self) -> Result<Payload, Lost>;

    /// The next frame, if one is there already.
    ///
    /// # Errors
    /// It cannot be looked for.
    fn try_receive(&mut self) -> Result<Option<Payload>, Lost>;

    /// Waits until all that was handed over has left.
    ///
    /// # Errors
    /// It does not leave.
    fn finish(&mut self) -> Result<(), Lost> {
        self.flush()
    }

    /// Adds what this end counted by itself, such as a ring's own drops.
    fn count(&self, _counts: &mut Counts) {}

    /// Adds what is known about the path that frames took.
    fn prove(&self, _evidence: &mut Evidence) {}
}

/// A sender on side A and a receiver on side B.
pub trait Flow: Way {
    /// Frames that are handed over together.
    const BATCH: u64;
    /// Where frames go in.
    type Sender: Sender;
    /// Where they come out.
    type Receiver: Receiver;

    /// Opens the sending end, on the thread that will use it.
    ///
    /// # Errors
    /// It cannot be had.
    fn sender(lab: &Lab, waiter: &Waiter) -> Result<Self::Sender, TrialError>;

    /// Opens the receiving end, on the thread that will use it. It is there
    /// before the first frame is sent.
    ///
    /// # Errors
    /// It cannot be had.
    fn receiver(
        lab: &Lab,
        waiter: &Waiter,
    ) -> Result<Self::Receiver, TrialError>;
}

/// Consecutive frames to be sent.
#[derive(Clone, Debug)]
pub struct Numbered {
    series: Series,
    next: u64,
}

impl Numbered {
    /// From the first one on.
    pub fn new(series: Series) -> Self {
        Self { series, next: 0 }
    }

    /// The next frame, which thereby counts as sent: it is delivered, or
    /// dropped by name.
    #[inline(always)]
    pub fn take(&mut self) -> Payload {
        let payload = self.series.payload(self.next);
        self.next += 1;
        payload
    }

    /// Frames taken so far.
    pub fn taken(&self) -> u64 {
        self.next
    }
}

/// The sending end of a flow.
pub trait Sender: Debug {
    /// Takes [`Flow::BATCH`] frames, or as many as there is room for after
    /// waiting for some, and hands them over.
    ///
    /// # Errors
    /// They could not be handed over.
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost>;

    /// Waits until all that was handed over has left.
    ///
    /// # Errors
    /// It does not leave.
    fn finish(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    /// Adds what this end counted by itself.
    fn count(&self, _counts: &mut Counts) {}

    /// Adds what is known about the path that frames took.
    fn prove(&self, _evidence: &mut Evidence) {}
}

/// The receiving end of a flow.
pub trait Receiver: Debug {
    /// Waits until there are frames and shows each to `arrivals`.
    ///
    /// # Errors
    /// None came in time ([`Lost::TimedOut`]), or none will.
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost>;

    /// Shows `arrivals` what is there already; waits for nothing.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn drain(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost>;

    /// Adds what this end counted by itself.
    fn count(&self, _counts: &mut Counts) {}

    /// Adds what is known about the path that frames took.
    fn prove(&self, _evidence: &mut Evidence) {}
}
