//! Has this kernel a multishot receive and rings of provided buffers?

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

use harness::{
    machine::Buffer,
    suite::{Availability, ProbeRequest},
    uring::{
        Ring, Setup,
        probe::{Lack, build, register_ring_fd},
    },
};
use io_uring::{cqueue, opcode, types::BufRingEntry, types::Fd};

use super::LOOK_UP;
use crate::ways::usual_lab_can_be_had;

/// A ring that sleeps in `io_uring_enter`.
pub fn sleeping(request: &ProbeRequest<'_>) -> Availability {
    multishot(Setup::SingleIssuer, request)
}

/// One whose flag is polled.
pub fn spinning(request: &ProbeRequest<'_>) -> Availability {
    multishot(Setup::Flagged, request)
}

/// A small ring receives two datagrams by one request; then the lab is tried.
fn multishot(setup: Setup, request: &ProbeRequest<'_>) -> Availability {
    let tried = build(setup).and_then(|mut ring| {
        register_ring_fd(&mut ring)?;
        receive_two(&mut ring)
    });
    match tried {
        Ok(()) => usual_lab_can_be_had(request),
        Err(lack) => lack.into(),
    }
}

const GROUP: u16 = 0;
const BUFFERS: u16 = 2;
const BUFFER_BYTES: u32 = 64;
const PAGE_BYTES: usize = 4_096;

fn receive_two(ring: &mut Ring) -> Result<(), Lack> {
    let memory =
        Buffer::new(PAGE_BYTES, PAGE_BYTES, None).map_err(|error| {
            lack(format!("a page of memory: {error}"), "free some memory")
        })?;
    let result = register(ring, &memory).and_then(|()| {
        try_multishot(ring).map_err(|error| {
            lack(
                format!("a multishot receive says {error}"),
                "Linux 6.0 or later",
            )
        })
    });
    // The ring outlives this function, and may still point there.
    std::mem::forget(memory);
    result
}

/// The ring of buffers at the start of the page, the buffers behind it.
fn register(ring: &mut Ring, memory: &Buffer) -> Result<(), Lack> {
    let start = memory.as_non_null();
    for buffer in 0..BUFFERS {
        // SAFETY: two entries of 16 bytes are inside the page, which is
        // zeroed memory of our own.
        let entry =
            unsafe { start.cast::<BufRingEntry>().add(buffer.into()).as_mut() };
        let offset =
            PAGE_BYTES / 2 + usize::from(buffer) * BUFFER_BYTES as usize;
        entry.set_addr((start.as_ptr().addr() + offset) as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(buffer);
    }
    // SAFETY: the first entry is initialised; the kernel does not know the
    // ring yet.
    unsafe {
        let tail = BufRingEntry::tail(start.as_ptr().cast()).cast_mut();
        tail.write(BUFFERS);
    }
    let address = start.as_ptr().addr() as u64;
    // SAFETY: the page holds the entries and is never given back.
    let registered = unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)
    };
    registered.map_err(|error| {
        lack(
            format!("a ring of provided buffers says {error}"),
            "Linux 5.19 or later",
        )
    })
}

fn try_multishot(ring: &mut Ring) -> io::Result<()> {
    let (ours, theirs) = UnixDatagram::pair()?;
    let entry = opcode::RecvMulti::new(Fd(ours.as_raw_fd()), GROUP).build();
    // SAFETY: the request points to nothing but registered buffers.
    unsafe { ring.sq().push(&entry) }.map_err(io::Error::other)?;
    for byte in [1, 2] {
        theirs.send(&[byte])?;
        ring.enter_within(1, &LOOK_UP)?;
        ring.cq().sync();
        let completion = ring
            .cq()
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        if completion.result() < 0 {
            let errno = completion.result().saturating_neg();
            return Err(io::Error::from_raw_os_error(errno));
        }
        if !cqueue::more(completion.flags()) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
    }
    Ok(())
}

fn lack(reason: String, remedy: &str) -> Lack {
    Lack { reason, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use harness::suite::Params;

    use super::*;
    use crate::{lab::child, testing};

    /// What the probe says in a child in which io_uring_setup is refused so.
    fn refused(errno: i32) -> String {
        let said = child::run(|| {
            testing::refuse_call(libc::SYS_io_uring_setup, None, errno);
            let (params, target) = (Params::new(), Default::default());
            match sleeping(&ProbeRequest::new(&params, &[], &target)) {
                Availability::Available | Availability::Undecided { .. } => {
                    b"available".to_vec()
                }
                Availability::Unavailable { reason, remedy } => {
                    format!("{reason}; {remedy}").into_bytes()
                }
            }
        });
        String::from_utf8_lossy(&said.expect("child")).into_owned()
    }

    #[test]
    fn a_ring_that_is_refused_has_a_next_step() {
        let said = refused(libc::EPERM);
        assert!(said.contains("not permitted"), "{said}");
        assert!(said.contains("seccomp profile"), "{said}");
        let said = refused(libc::ENOSYS);
        assert!(said.contains("ENOSYS"), "{said}");
        let said = refused(libc::EINVAL);
        assert!(said.contains("Linux 6.1"), "{said}");
    }
}
