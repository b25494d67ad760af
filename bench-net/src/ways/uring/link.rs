//! Round trips by ring: the answer is sent and the next frame waited for in
//! one system call.

use harness::{
    load::wait::{Lifeline, Lost, Waiter},
    measure::trial::{Evidence, TrialError},
    suite::Probe,
    uring::Setup,
};
use io_uring::{opcode, squeue};

use super::{
    probe,
    receiving::{Done, Receiving, SOCKET},
};
use crate::{
    frame::{PAYLOAD_BYTES_U32, Payload},
    lab::{Counts, Lab, Side},
    ways::{End, Link, Way, slots::Slots, socket::LOOK_UPS_MAX},
};

/// One frame is in flight; the rest is room for what nobody asked for.
const ENTRIES: usize = 8;
const BUFFERS: u16 = 16;

const SEND: u64 = 0;

/// Sleeps in `io_uring_enter`.
#[derive(Debug)]
pub enum UringSleep {}

/// Polls a flag in shared memory and enters only when there is something.
#[derive(Debug)]
pub enum UringSpin {}

impl Way for UringSleep {
    const ID: &'static str = "uring";
    const ABOUT: &'static str = "io_uring: send and multishot receive in one \
         io_uring_enter, sleeping there";
    const SPINNING: bool = false;
    const PROBE: Probe = probe::sleeping;
}

impl Way for UringSpin {
    const ID: &'static str = "uring-spin";
    const ABOUT: &'static str = "io_uring: the same, polling the ring's \
         TASKRUN flag instead of sleeping";
    const SPINNING: bool = true;
    const PROBE: Probe = probe::spinning;
}

impl Link for UringSleep {
    type End = Sleeping;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Sleeping, TrialError> {
        let lifeline = waiter.lifeline().clone();
        Ok(Sleeping {
            half: Half::open(lab, side, Setup::SingleIssuer)?,
            lifeline,
        })
    }
}

impl Link for UringSpin {
    type End = Polling;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Polling, TrialError> {
        let half = Half::open(lab, side, Setup::Flagged)?;
        Ok(Polling { half, waiter: waiter.clone(), unsubmitted: false })
    }
}

/// What both have.
#[derive(Debug)]
struct Half {
    // Before `slot`: its requests are over when it is dropped.
    receiving: Receiving,
    slot: Slots,
}

impl Half {
    fn open(lab: &Lab, side: Side, setup: Setup) -> Result<Self, TrialError> {
        let receiving = Receiving::open(lab, side, setup, ENTRIES, BUFFERS)?;
        Ok(Self { receiving, slot: Slots::new(1)? })
    }

    /// Queues a frame. The one before has long been sent: its answer, or the
    /// question after it, has arrived.
    #[inline(always)]
    fn push(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.slot.write(0, payload);
        let address = self.slot.address(0).as_ptr();
        let entry = opcode::Send::new(SOCKET, address, PAYLOAD_BYTES_U32)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND);
        // SAFETY: the slot stays until `receiving` has been dropped, which
        // comes first.
        unsafe { self.receiving.push(&entry) }
    }

    /// The next frame that is there.
    #[inline(always)]
    fn reap(&mut self) -> Result<Option<Payload>, Lost> {
        self.receiving.ring.cq().sync();
        loop {
            match self.receiving.next()? {
                None => return Ok(None),
                Some(Done::Frame(payload)) => return Ok(Some(payload)),
                // Only a send that failed says so.
                Some(Done::Sent(result)) => self.not_sent(result)?,
                Some(Done::Other) => {}
            }
        }
    }

    #[cold]
    fn not_sent(&mut self, result: i32) -> Result<(), Lost> {
        let error = std::io::Error::from_raw_os_error(result.saturating_neg());
        self.receiving.socket.refuse("IORING_OP_SEND", &error)
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.receiving.prove(evidence);
    }
}

/// An end that sleeps.
#[derive(Debug)]
pub struct Sleeping {
    half: Half,
    lifeline: Lifeline,
}

impl End for Sleeping {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.half.push(payload)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        self.half.receiving.submit()
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<Payload, Lost> {
        for _ in 0..LOOK_UPS_MAX {
            self.half.receiving.renew()?;
            self.half.receiving.wait()?;
            if let Some(payload) = self.half.reap()? {
                return Ok(payload);
            }
            if self.lifeline.is_cut() {
                return Err(Lost::Closed);
            }
        }
        Err(Lost::TimedOut)
    }

    fn count(&self, counts: &mut Counts) {
        self.half.receiving.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.half.prove(evidence);
    }
}

/// An end that polls.
#[derive(Debug)]
pub struct Polling {
    half: Half,
    waiter: Waiter,
    unsubmitted: bool,
}

impl Polling {
    #[inline(always)]
    fn poll(
        half: &mut Half,
        unsubmitted: &mut bool,
    ) -> Result<Option<Payload>, Lost> {
        half.receiving.renew()?;
        let sq = half.receiving.ring.sq();
        if *unsubmitted || !sq.is_empty() || sq.taskrun() {
            *unsubmitted = false;
            half.receiving.submit()?;
        }
        half.reap()
    }
}

impl End for Polling {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.unsubmitted = true;
        self.half.push(payload)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        self.half.receiving.submit()
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<Payload, Lost> {
        let Self { half, waiter, unsubmitted } = self;
        waiter.until(|| Self::poll(half, unsubmitted).transpose())?
    }

    fn count(&self, counts: &mut Counts) {
        self.half.receiving.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.half.prove(evidence);
    }
}
