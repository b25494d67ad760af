//! A ring, a socket and the multishot request that brings its frames.

use std::{io, mem, os::fd::AsRawFd};

use harness::{
    load::wait::Lost,
    measure::trial::{Evidence, TrialError},
    uring::{Ring, Setup},
};
use io_uring::{cqueue, opcode, squeue, types::Fixed};

use super::{
    LOOK_UP, Room,
    provided::{GROUP, Provided},
};
use crate::{
    frame::Payload,
    lab::{Counts, Lab, Side},
    ways::socket::Socket,
};

/// The place of the socket among the ring's registered files.
pub(super) const SOCKET: Fixed = Fixed(0);

/// Marks completions of the multishot request.
const RECEIVE: u64 = u64::MAX;

/// How often the request is waited for when the ring is taken down, a tenth of
/// a second each.
const FAREWELLS_MAX: u32 = 20;

/// What a completion was.
pub(super) enum Done {
    /// A frame arrived.
    Frame(Payload),
    /// A send completed: bytes, or an error below 0.
    Sent(i32),
    /// The multishot request ended, or a buffer was missing.
    Other,
}

/// Makes a ring for one end's socket.
pub(super) fn open_ring(
    lab: &Lab,
    side: Side,
    setup: Setup,
    entries: usize,
) -> Result<(Ring, Socket), TrialError> {
    let socket = Socket::open(lab, side)?;
    let open = || -> io::Result<Ring> {
        let mut ring = setup.build(entries)?;
        ring.submitter().register_ring_fd()?;
        ring.submitter().register_files(&[socket.socket.as_raw_fd()])?;
        Ok(ring)
    };
    match open() {
        Ok(ring) => Ok((ring, socket)),
        Err(error) => Err(TrialError::setup(format!("io_uring: {error}"))),
    }
}

/// The receiving half of an end.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) ring: Ring,
    pub(super) socket: Socket,
    /// Taken when the ring does not let go of it.
    provided: Option<Provided>,
    armed: bool,
    rearmed: u64,
    given_back: bool,
    buffers: u16,
    /// System calls: one a frame where an end sleeps and one is in flight.
    entered: u64,
}

impl Receiving {
    /// Arms the request with so many buffers.
    pub(super) fn open(
        lab: &Lab,
        side: Side,
        setup: Setup,
        Room { entries, buffers }: Room,
    ) -> Result<Self, TrialError> {
        let (mut ring, socket) = open_ring(lab, side, setup, entries)?;
        let provided = Provided::new(&mut ring, buffers)?;
        let mut receiving = Self {
            ring,
            socket,
            provided: Some(provided),
            armed: false,
            rearmed: 0,
            given_back: false,
            buffers,
            entered: 0,
        };
        receiving
            .arm()
            .and_then(|()| receiving.submit())
            .map_err(|lost| TrialError::setup(lost.to_string()))?;
        Ok(receiving)
    }

    /// Gives buffers back that were read, and arms the request if it ended.
    #[inline(always)]
    pub(super) fn renew(&mut self) -> Result<(), Lost> {
        if self.given_back
            && let Some(provided) = &self.provided
        {
            provided.publish();
            self.given_back = false;
        }
        if self.armed { Ok(()) } else { self.arm() }
    }

    /// Submits what is pushed and waits a while for one completion.
    #[inline(always)]
    pub(super) fn wait(&mut self) -> Result<(), Lost> {
        self.entered += 1;
        self.ring
            .enter_within(1, &LOOK_UP)
            .map_err(|error| Lost::system("io_uring_enter", &error))
    }

    /// Submits what is pushed and works off what has completed; does not wait.
    #[inline(always)]
    pub(super) fn submit(&mut self) -> Result<(), Lost> {
        let queued = self.ring.publish();
        self.entered += 1;
        self.ring
            .enter(queued, 0, io_uring::EnterFlags::GETEVENTS)
            .map_err(|error| Lost::system("io_uring_enter", &error))?;
        // The queue knows only now what was taken; before, it looks full to
        // whoever asks whether there is anything to submit.
        self.ring.sq().sync();
        Ok(())
    }

    /// The next completion, if there is one.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<Done>, Lost> {
        let Some(completion) = self.ring.cq().next() else {
            return Ok(None);
        };
        let (mark, result) = (completion.user_data(), completion.result());
        if mark != RECEIVE {
            return Ok(Some(Done::Sent(result)));
        }
        let flags = completion.flags();
        if !cqueue::more(flags) {
            self.armed = false;
        }
        match (usize::try_from(result), cqueue::buffer_select(flags)) {
            (Ok(length), Some(buffer)) => {
                let Some(provided) = &mut self.provided else {
                    return Ok(Some(Done::Other));
                };
                let payload = provided.read(buffer, length);
                provided.give_back(buffer);
                self.given_back = true;
                Ok(Some(Done::Frame(payload)))
            }
            _ => ended(result).map(Some),
        }
    }

    #[cold]
    fn arm(&mut self) -> Result<(), Lost> {
        let entry =
            opcode::RecvMulti::new(SOCKET, GROUP).build().user_data(RECEIVE);
        // SAFETY: the request points to nothing: its memory is the provided
        // buffers, which outlive it (`drop`).
        unsafe { self.push(&entry) }?;
        self.armed = true;
        self.rearmed += 1;
        Ok(())
    }

    /// # Safety
    /// What the entry points to must stay valid until it has completed.
    #[inline(always)]
    pub(super) unsafe fn push(
        &mut self,
        entry: &squeue::Entry,
    ) -> Result<(), Lost> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.ring.sq().push(entry) }.map_err(|_| Lost::System {
            operation: "submission queue",
            errno: libc::EBUSY,
        })
    }

    pub(super) fn prove(&self, evidence: &mut Evidence) {
        self.socket.prove(evidence);
        evidence.prove("ring_flags", self.ring.flags());
        evidence.prove("receive", "multishot");
        evidence.prove("provided_buffers", self.buffers);
    }

    /// Adds what this end counted by itself.
    pub(super) fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
        counts.set("uring.enters", self.entered);
    }

    /// How often the request had to be armed.
    pub(super) fn armed(&self) -> u64 {
        self.rearmed
    }
}

/// The request ended: out of buffers for a moment, interrupted, or for good.
#[cold]
fn ended(result: i32) -> Result<Done, Lost> {
    let errno = result.saturating_neg();
    match errno {
        libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::ECANCELED | 0 => {
            Ok(Done::Other)
        }
        _ => Err(Lost::System { operation: "IORING_OP_RECV", errno }),
    }
}

impl Drop for Receiving {
    /// A ring that is closed is taken down in the background. The request is
    /// cancelled and seen to end first, because it writes to our buffers.
    fn drop(&mut self) {
        let any = io_uring::types::CancelBuilder::any();
        // ENOENT says that nothing was left to be cancelled.
        let _ = self.ring.submitter().register_sync_cancel(None, any);
        for _ in 0..FAREWELLS_MAX {
            self.ring.cq().sync();
            while let Ok(Some(_)) = self.next() {}
            if !self.armed {
                return;
            }
            if self.wait().is_err() {
                break;
            }
        }
        // The kernel may still write there: better lost than reused.
        mem::forget(self.provided.take());
    }
}
