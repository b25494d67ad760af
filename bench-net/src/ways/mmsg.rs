//! Many frames a call: `sendmmsg` and `recvmmsg`.

use std::os::fd::AsRawFd;

use harness::{
    load::wait::{Lifeline, Lost, Waiter},
    measure::trial::{Evidence, TrialError},
};

use super::{
    Flow, Numbered, Receiver, Sender, Way,
    slots::{SLOT_BYTES, Slots},
    socket::{LOOK_UPS_MAX, Socket, none},
};
use crate::{
    arrivals::Arrivals,
    frame::PAYLOAD_BYTES,
    lab::{Counts, Lab, Side},
};

/// Frames a call: enough to make the system call's share small, few enough to
/// stay in the first-level cache.
const FRAMES_A_CALL: libc::c_uint = 64;
const FRAMES: usize = FRAMES_A_CALL as usize;

/// One call for up to 64 frames, sleeping while there is none.
#[derive(Debug)]
pub enum Mmsg {}

impl Way for Mmsg {
    const ID: &'static str = "mmsg";
    const ABOUT: &'static str =
        "connected UDP sockets; sendmmsg and recvmmsg, 64 frames a call";
    const SPINNING: bool = false;
}

impl Flow for Mmsg {
    const BATCH: u64 = FRAMES as u64;
    type Sender = Batch;
    type Receiver = Batch;

    fn sender(lab: &Lab, waiter: &Waiter) -> Result<Batch, TrialError> {
        Batch::open(lab, Side::A, waiter, PAYLOAD_BYTES)
    }

    fn receiver(lab: &Lab, waiter: &Waiter) -> Result<Batch, TrialError> {
        Batch::open(lab, Side::B, waiter, SLOT_BYTES)
    }
}

/// A socket with one header per frame.
pub struct Batch {
    socket: Socket,
    lifeline: Lifeline,
    slots: Slots,
    headers: Box<[libc::mmsghdr]>,
    /// What the headers point to; never touched again.
    _vectors: Box<[libc::iovec]>,
}

impl Batch {
    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
        length: usize,
    ) -> Result<Self, TrialError> {
        let socket = Socket::open(lab, side)?.look_up()?;
        let slots = Slots::new(FRAMES)?;
        let mut vectors: Box<[libc::iovec]> = (0..FRAMES)
            .map(|slot| libc::iovec {
                iov_base: slots.address(slot).as_ptr().cast(),
                iov_len: length,
            })
            .collect();
        let first = vectors.as_mut_ptr();
        let headers = (0..FRAMES)
            .map(|slot| {
                // SAFETY: an all-zero mmsghdr is a valid value of that plain
                // C structure: no address, no control data.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = first.wrapping_add(slot);
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let lifeline = waiter.lifeline().clone();
        Ok(Self { socket, lifeline, slots, headers, _vectors: vectors })
    }

    /// Receives what one call brings and says how many frames that were.
    #[inline(always)]
    fn receive_some(
        &mut self,
        flags: libc::c_int,
        arrivals: &mut Arrivals,
    ) -> Result<Option<usize>, Lost> {
        // SAFETY: each header points to one vector and that to one slot, all
        // of which live as long as `self` and stay in place; their lengths
        // are those of the slots.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                FRAMES_A_CALL,
                flags,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            return none("recvmmsg");
        };
        for (slot, header) in self.headers[..received].iter().enumerate() {
            // An unsigned int is never wider than a pointer on Linux.
            let length = header.msg_len as usize;
            arrivals.see(&self.slots.read(slot, length));
        }
        Ok(Some(received))
    }
}

impl Sender for Batch {
    #[inline(always)]
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        for slot in 0..FRAMES {
            self.slots.write(slot, &frames.take());
        }
        let mut left = FRAMES_A_CALL;
        while left > 0 {
            let rest = &mut self.headers[FRAMES - left as usize..];
            // SAFETY: as in `receive_some`; the kernel copies the frames
            // before the call returns.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    left,
                    0,
                )
            };
            match libc::c_uint::try_from(sent) {
                Ok(sent) => left -= sent,
                Err(_) => {
                    // It says why the first of them was not taken.
                    self.socket.not_sent("sendmmsg")?;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    fn count(&self, counts: &mut Counts) {
        self.socket.count(counts);
    }
}

impl Receiver for Batch {
    #[inline(always)]
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        for _ in 0..LOOK_UPS_MAX {
            // It sleeps until the first, and takes what else is there.
            match self.receive_some(libc::MSG_WAITFORONE, arrivals)? {
                Some(_) => return Ok(()),
                None if self.lifeline.is_cut() => return Err(Lost::Closed),
                None => {}
            }
        }
        Err(Lost::TimedOut)
    }

    fn drain(&mut self, arrivals: &mut Arrivals) -> Result<(), Lost> {
        while self.receive_some(libc::MSG_DONTWAIT, arrivals)?.is_some() {}
        Ok(())
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.socket.prove(evidence);
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
