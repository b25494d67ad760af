//! What all ways by UDP socket share: a connected socket on one side, and
//! calls on it that move one frame.

use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
    os::fd::AsRawFd,
    time::Duration,
};

use harness::{
    load::wait::Lost,
    measure::trial::{Evidence, TrialError},
};

use crate::{
    frame::{PAYLOAD_BYTES, Payload},
    lab::{Counts, Lab, Side},
    ways::SEND_REFUSED,
};

/// A blocked call looks up this often, to see whether the other thread is
/// gone.
pub(super) const LOOK_UP: Duration = Duration::from_millis(100);

/// So many look-ups make two seconds, as for ways that poll.
pub(super) const LOOK_UPS_MAX: u32 = 20;

/// A connected socket. It counts what the kernel did not take.
#[derive(Debug)]
pub struct Socket {
    pub(super) socket: UdpSocket,
    pub(super) refused: u64,
}

impl Socket {
    /// The socket of that side, made by the calling thread, which is there.
    ///
    /// # Errors
    /// What the system call said.
    pub fn open(lab: &Lab, side: Side) -> Result<Self, TrialError> {
        let open = || {
            let socket = UdpSocket::bind(lab.socket_address(side))?;
            socket.connect(lab.socket_address(side.peer()))?;
            Ok(socket)
        };
        let socket = open().map_err(|error: io::Error| {
            TrialError::setup(format!(
                "a UDP socket at {}: {error}",
                lab.socket_address(side)
            ))
        })?;
        Ok(Self { socket, refused: 0 })
    }

    /// Makes blocked calls look up from time to time (SO_RCVTIMEO).
    pub(super) fn look_up(self) -> Result<Self, TrialError> {
        self.socket.set_read_timeout(Some(LOOK_UP)).map_err(|error| {
            TrialError::setup(format!("SO_RCVTIMEO: {error}"))
        })?;
        Ok(self)
    }

    /// Sends one frame. A full buffer or a shortage of memory drops it, and
    /// counts it.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        payload: &Payload,
        flags: libc::c_int,
    ) -> Result<(), Lost> {
        // SAFETY: the pointer is to the payload's bytes, which the kernel
        // copies before the call returns.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                payload.0.as_ptr().cast(),
                PAYLOAD_BYTES,
                flags,
            )
        };
        if sent == PAYLOAD_BYTES.cast_signed() {
            return Ok(());
        }
        self.not_sent("send")
    }

    /// Counts a frame that the last system call did not take.
    #[cold]
    pub(super) fn not_sent(
        &mut self,
        operation: &'static str,
    ) -> Result<(), Lost> {
        self.refuse(operation, &io::Error::last_os_error())
    }

    /// Counts a frame that was not taken for this reason.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        operation: &'static str,
        error: &io::Error,
    ) -> Result<(), Lost> {
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EINTR) => {
                self.refused += 1;
                Ok(())
            }
            _ => Err(Lost::system(operation, error)),
        }
    }

    /// Receives one frame, or says that there is none.
    #[inline(always)]
    pub(super) fn receive(
        &self,
        flags: libc::c_int,
    ) -> Result<Option<Payload>, Lost> {
        // One byte more than a frame has, so that a longer one is noticed.
        let mut bytes = [0_u8; PAYLOAD_BYTES + 1];
        // SAFETY: the pointer is to as many writable bytes as the length says.
        let received = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                flags,
            )
        };
        match usize::try_from(received) {
            Ok(length) => Ok(Some(Payload::from_bytes(&bytes[..length]))),
            Err(_) => none("recv"),
        }
    }

    /// Adds what the kernel did not take.
    pub(super) fn count(&self, counts: &mut Counts) {
        counts.set(SEND_REFUSED, self.refused);
    }

    /// States the receive buffer, which decides how much a flood loses.
    pub(super) fn prove(&self, evidence: &mut Evidence) {
        if let Some(bytes) = receive_buffer_bytes(&self.socket) {
            evidence.prove("rcvbuf_bytes", bytes);
        }
    }
}

/// Nothing to receive is no error; a signal is not, either.
#[cold]
pub(super) fn none<T>(operation: &'static str) -> Result<Option<T>, Lost> {
    let error = io::Error::last_os_error();
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
        _ => Err(Lost::system(operation, &error)),
    }
}

fn receive_buffer_bytes(socket: &UdpSocket) -> Option<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&bytes)).ok()?;
    // SAFETY: value and length are live and of the sizes that socket(7) gives
    // for SO_RCVBUF.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw mut bytes).cast(),
            &raw mut length,
        )
    };
    (status == 0).then_some(bytes)
}
