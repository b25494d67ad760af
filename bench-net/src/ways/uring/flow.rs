//! Streams by ring: 64 sends a call, and one request that receives them all.

use harness::{
    load::wait::{Lifeline, Lost, Waiter},
    measure::trial::{Evidence, TrialError},
    suite::Probe,
    uring::{Ring, Setup},
};
use io_uring::{opcode, squeue::Entry};

use super::{
    LOOK_UP, MANY, probe,
    receiving::{Done, Receiving, SOCKET, open_ring},
};
use crate::{
    arrivals::Arrivals,
    frame::{PAYLOAD_BYTES, PAYLOAD_BYTES_U32},
    lab::{Counts, Lab, Side},
    ledger::metric,
    ways::{
        Flow, Numbered, Receiver, Sender, Way,
        slots::Slots,
        socket::{LOOK_UPS_MAX, Socket},
    },
};

/// Sends a call, as with `mmsg`.
const FRAMES: usize = 64;

/// A request that brings fewer frames than that has little of a multishot.
const FRAMES_PER_ARM_MIN: u64 = 8;

/// Batched sends and a multishot receive, sleeping while there is nothing.
#[derive(Debug)]
pub enum Uring {}

impl Way for Uring {
    const ID: &'static str = "uring";
    const ABOUT: &'static str = "io_uring: 64 sends a call; multishot receive \
         into provided buffers, sleeping";
    const SPINNING: bool = false;
    const PROBE: Probe = probe::sleeping;
}

impl Flow for Uring {
    const BATCH: u64 = FRAMES as u64;
    type Sender = Sending;
    type Receiver = Taking;

    fn sender(lab: &Lab, _: &Waiter) -> Result<Sending, TrialError> {
        let (ring, socket) =
            open_ring(lab, Side::A, Setup::SingleIssuer, FRAMES)?;
        let slots = Slots::new(FRAMES)?;
        let entries = (0..FRAMES)
            .map(|slot| {
                let address = slots.address(slot).as_ptr();
                opcode::Send::new(SOCKET, address, PAYLOAD_BYTES_U32).build()
            })
            .collect();
        Ok(Sending { ring, socket, slots, entries })
    }

    fn receiver(lab: &Lab, waiter: &Waiter) -> Result<Taking, TrialError> {
        let receiving =
            Receiving::open(lab, Side::B, Setup::SingleIssuer, MANY)?;
        let lifeline = waiter.lifeline().clone();
        Ok(Taking { receiving, lifeline, frames: 0 })
    }
}

/// The sending end. No request is in flight between two calls of `send`.
pub struct Sending {
    ring: Ring,
    socket: Socket,
    slots: Slots,
    entries: Box<[Entry]>,
}

impl Sender for Sending {
    #[inline(always)]
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        // The kernel has taken the batch before; its places are free.
        self.ring.sq().sync();
        for (slot, entry) in self.entries.iter().enumerate() {
            self.slots.write(slot, &frames.take());
            // SAFETY: the slot stays, and is not written to, until all sends
            // have completed below; where they do not, the trial ends and
            // nothing writes to it any more.
            unsafe { self.ring.sq().push(entry) }.map_err(|_| {
                Lost::System {
                    operation: "submission queue",
                    errno: libc::EBUSY,
                }
            })?;
        }
        let mut left = FRAMES;
        let mut look_ups = 0;
        loop {
            self.ring
                .enter_within(left, &LOOK_UP)
                .map_err(|error| Lost::system("io_uring_enter", &error))?;
            self.ring.cq().sync();
            while let Some(completion) = self.ring.cq().next() {
                left -= 1;
                let result = completion.result();
                if usize::try_from(result) != Ok(PAYLOAD_BYTES) {
                    self.not_sent(result)?;
                }
            }
            if left == 0 {
                return Ok(());
            }
            look_ups += 1;
            if look_ups > LOOK_UPS_MAX {
                return Err(Lost::TimedOut);
            }
        }
    }

    fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        evidence.prove("ring_flags", self.ring.flags());
    }
}

impl Sending {
    #[cold]
    fn not_sent(&mut self, result: i32) -> Result<(), Lost> {
        let error = std::io::Error::from_raw_os_error(result.saturating_neg());
        self.socket.refuse("IORING_OP_SEND", &error)
    }
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending")
            .field("ring", &self.ring)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Taking {
    receiving: Receiving,
    lifeline: Lifeline,
    frames: u64,
}

impl Taking {
    /// Shows all that has completed, and says whether it was anything.
    #[inline(always)]
    fn reap(&mut self, arrivals: &mut Arrivals) -> Result<bool, Lost> {
        let mut any = false;
        self.receiving.ring.cq().sync();
        while let Some(done) = self.receiving.next()? {
            if let Done::Frame(payload) = done {
                arrivals.see(&payload);
                self.frames += 1;
                any = true;
            }
        }
        Ok(any)
    }
}

impl Receiver for Taking {
    #[inline(always)]
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        for _ in 0..LOOK_UPS_MAX {
            self.receiving.renew()?;
            self.receiving.wait()?;
            if self.reap(arrivals)? {
                return Ok(());
            }
            if self.lifeline.is_cut() {
                return Err(Lost::Closed);
            }
        }
        Err(Lost::TimedOut)
    }

    fn drain(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        loop {
            self.receiving.renew()?;
            self.receiving.submit()?;
            if !self.reap(arrivals)? {
                return Ok(());
            }
        }
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.receiving.prove(evidence);
        let armed = self.receiving.armed();
        evidence.metrics.push(metric("receive_armed", "times", "none", armed));
        if armed > 1 + self.frames / FRAMES_PER_ARM_MIN {
            evidence.degraded.push(format!(
                "the multishot receive was armed {armed} times for {} frames",
                self.frames
            ));
        }
    }
}
