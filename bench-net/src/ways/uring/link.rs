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
    FEW, MANY, Room, probe,
    receiving::{Done, Receiving, SOCKET},
};
use crate::{
    frame::{PAYLOAD_BYTES_U32, Payload},
    lab::{Counts, Lab, Side},
    ways::{End, Link, Way, slots::Slots, socket::LOOK_UPS_MAX},
};

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
        Sleeping::open(lab, side, waiter, FEW)
    }

    fn open_one_way(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Sleeping, TrialError> {
        Sleeping::open(lab, side, waiter, MANY)
    }
}

impl Link for UringSpin {
    type End = Polling;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Polling, TrialError> {
        Polling::open(lab, side, waiter, FEW)
    }

    fn open_one_way(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Polling, TrialError> {
        Polling::open(lab, side, waiter, MANY)
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
    fn open(
        lab: &Lab,
        side: Side,
        setup: Setup,
        room: Room,
    ) -> Result<Self, TrialError> {
        let receiving = Receiving::open(lab, side, setup, room)?;
        Ok(Self { receiving, slot: Slots::new(1)? })
    }

    /// Queues a frame. The one before was sent or refused by the call that
    /// submitted it (MSG_DONTWAIT): one that finds no room would else be tried
    /// again later, out of a slot that holds another frame by then.
    #[inline(always)]
    fn push(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.slot.write(0, payload);
        let address = self.slot.address(0).as_ptr();
        let entry = opcode::Send::new(SOCKET, address, PAYLOAD_BYTES_U32)
            .flags(libc::MSG_DONTWAIT)
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

    /// Submits what is queued, where nothing is to be received.
    #[inline(always)]
    fn flush(&mut self) -> Result<(), Lost> {
        self.receiving.submit()?;
        self.receiving.ring.cq().sync();
        while let Some(done) = self.receiving.next()? {
            if let Done::Sent(result) = done {
                self.not_sent(result)?;
            }
        }
        Ok(())
    }

    /// The next frame, without waiting for one.
    fn look(&mut self) -> Result<Option<Payload>, Lost> {
        self.receiving.renew()?;
        self.receiving.submit()?;
        self.reap()
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

impl Sleeping {
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
        room: Room,
    ) -> Result<Self, TrialError> {
        let half = Half::open(lab, side, Setup::SingleIssuer, room)?;
        Ok(Self { half, lifeline: waiter.lifeline().clone() })
    }
}

impl End for Sleeping {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.half.push(payload)
    }

    #[inline(always)]
    fn flush(&mut self) -> Result<(), Lost> {
        self.half.flush()
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.half.look()
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
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
        room: Room,
    ) -> Result<Self, TrialError> {
        let half = Half::open(lab, side, Setup::Flagged, room)?;
        Ok(Self { half, waiter: waiter.clone(), unsubmitted: false })
    }

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

    #[inline(always)]
    fn flush(&mut self) -> Result<(), Lost> {
        self.half.flush()
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.half.look()
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
