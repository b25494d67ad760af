//! `send` and `recv`, one frame a call, sleeping while there is none.

use harness::{
    load::wait::{Lifeline, Lost, Waiter},
    measure::trial::{Evidence, TrialError},
};

use super::{
    End, Flow, Link, Numbered, Receiver, Sender, Way,
    socket::{LOOK_UPS_MAX, Socket},
};
use crate::{
    arrivals::Arrivals,
    frame::Payload,
    lab::{Counts, Lab, Side},
};

/// The baseline of all experiments.
#[derive(Debug)]
pub enum SocketBlocking {}

impl Way for SocketBlocking {
    const ID: &'static str = "socket-blocking";
    const ABOUT: &'static str =
        "connected UDP sockets; send and recv, one frame a call, sleeping";
    const SPINNING: bool = false;
}

/// A socket and what ties it to the other thread.
#[derive(Debug)]
pub struct Blocking {
    socket: Socket,
    lifeline: Lifeline,
}

impl Blocking {
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self, TrialError> {
        let socket = Socket::open(lab, side)?.look_up()?;
        Ok(Self { socket, lifeline: waiter.lifeline().clone() })
    }

    #[cold]
    fn look_up(&self, look_ups: &mut u32) -> Result<(), Lost> {
        *look_ups += 1;
        if self.lifeline.is_cut() {
            Err(Lost::Closed)
        } else if *look_ups >= LOOK_UPS_MAX {
            Err(Lost::TimedOut)
        } else {
            Ok(())
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<Payload, Lost> {
        let mut look_ups = 0;
        loop {
            match self.socket.receive(0)? {
                Some(payload) => return Ok(payload),
                None => self.look_up(&mut look_ups)?,
            }
        }
    }
}

impl Link for SocketBlocking {
    type End = Blocking;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Blocking, TrialError> {
        Blocking::open(lab, side, waiter)
    }
}

impl End for Blocking {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.socket.send(payload, 0)
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<Payload, Lost> {
        self.next()
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.socket.receive(libc::MSG_DONTWAIT)
    }

    fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.socket.prove(evidence);
    }
}

impl Flow for SocketBlocking {
    const BATCH: u64 = 1;
    type Sender = Blocking;
    type Receiver = Blocking;

    fn sender(lab: &Lab, waiter: &Waiter) -> Result<Blocking, TrialError> {
        Blocking::open(lab, Side::A, waiter)
    }

    fn receiver(lab: &Lab, waiter: &Waiter) -> Result<Blocking, TrialError> {
        Blocking::open(lab, Side::B, waiter)
    }
}

impl Sender for Blocking {
    #[inline(always)]
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        self.socket.send(&frames.take(), 0)
    }

    fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
    }
}

impl Receiver for Blocking {
    #[inline(always)]
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        arrivals.see(&self.next()?);
        Ok(())
    }

    fn drain(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        while let Some(payload) = self.socket.receive(libc::MSG_DONTWAIT)? {
            arrivals.see(&payload);
        }
        Ok(())
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.socket.prove(evidence);
    }
}
