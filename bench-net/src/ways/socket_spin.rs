//! The same calls, asking again at once instead of sleeping.

use harness::{
    load::wait::{Lost, Waiter},
    measure::trial::{Evidence, TrialError},
};

use super::{End, Flow, Link, Numbered, Receiver, Sender, Way, socket::Socket};
use crate::{
    arrivals::Arrivals,
    frame::Payload,
    lab::{Counts, Lab, Side},
};

/// `send` and `recv` with MSG_DONTWAIT.
#[derive(Debug)]
pub enum SocketSpin {}

impl Way for SocketSpin {
    const ID: &'static str = "socket-spin";
    const ABOUT: &'static str =
        "connected UDP sockets; recv with MSG_DONTWAIT until a frame is there";
    const SPINNING: bool = true;
}

/// A socket that is asked again and again.
#[derive(Debug)]
pub struct Spinning {
    socket: Socket,
    waiter: Waiter,
}

impl Spinning {
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self, TrialError> {
        Ok(Self { socket: Socket::open(lab, side)?, waiter: waiter.clone() })
    }

    #[inline(always)]
    fn next(&mut self) -> Result<Payload, Lost> {
        let socket = &self.socket;
        self.waiter.until(|| socket.receive(libc::MSG_DONTWAIT).transpose())?
    }
}

impl Link for SocketSpin {
    type End = Spinning;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Spinning, TrialError> {
        Spinning::open(lab, side, waiter)
    }
}

impl End for Spinning {
    #[inline(always)]
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.socket.send(payload, libc::MSG_DONTWAIT)
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

impl Flow for SocketSpin {
    const BATCH: u64 = 1;
    type Sender = Spinning;
    type Receiver = Spinning;

    fn sender(lab: &Lab, waiter: &Waiter) -> Result<Spinning, TrialError> {
        Spinning::open(lab, Side::A, waiter)
    }

    fn receiver(lab: &Lab, waiter: &Waiter) -> Result<Spinning, TrialError> {
        Spinning::open(lab, Side::B, waiter)
    }
}

impl Sender for Spinning {
    #[inline(always)]
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        self.socket.send(&frames.take(), libc::MSG_DONTWAIT)
    }

    fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
    }
}

impl Receiver for Spinning {
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
