//! A pipe: one `write` and one `read` per message. A message is shorter than
//! `PIPE_BUF`, so that it is written whole (pipe(7)).

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, RawFd},
};

use harness::{
    measure::trial::{Evidence, TrialError},
    suite::{Availability, ProbeRequest},
};

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::{Message, WORDS_MAX},
    wait::{Lost, Waiter},
};

/// `pipe2(2)`, blocking.
#[derive(Debug)]
pub struct Pipe;

impl Way for Pipe {
    const ID: &'static str = "pipe";
    const ABOUT: &'static str = "a pipe, one write and read per message";
    const SPINNING: bool = false;

    fn probe(request: &ProbeRequest<'_>) -> Availability {
        // Experiments without a capacity take whatever a pipe has.
        let params = request.params();
        let capacity = params.number("capacity").unwrap_or(1);
        let bytes = params.number("op_bytes").unwrap_or(8) * capacity;
        match usize::try_from(bytes).map_err(io::Error::other).and_then(open) {
            Ok(_) => Availability::Available,
            Err(error) => Availability::unavailable(
                format!("no pipe of {bytes} B: {error}"),
                "raise /proc/sys/fs/pipe-max-size or pipe-user-pages-soft",
            ),
        }
    }
}

impl Queue for Pipe {
    type Sender<const WORDS: usize> = PipeWriter;
    type Receiver<const WORDS: usize> = PipeReader;

    fn open<const WORDS: usize>(
        capacity: usize,
        _waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        let bytes = capacity.saturating_mul(Message::<WORDS>::BYTES);
        let (reader, writer) = open(bytes).map_err(|error| {
            TrialError::setup(format!("a pipe of {bytes} B: {error}"))
        })?;
        Ok((writer, reader))
    }
}

/// A pipe that holds so many bytes, or the next size that the kernel has.
fn open(bytes: usize) -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    let size = i32::try_from(bytes)
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is open and F_SETPIPE_SZ takes an int; the
    // result is checked.
    let got =
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((reader, writer))
}

fn size_bytes(fd: RawFd) -> Option<u64> {
    // SAFETY: the descriptor is open as long as the pipe end that names it;
    // F_GETPIPE_SZ takes no argument.
    let size = unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) };
    u64::try_from(size).ok()
}

impl<const WORDS: usize> Sender<WORDS> for PipeWriter {
    #[inline]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        let mut bytes = [0; WORDS_MAX * size_of::<u64>()];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(message.0) {
            *place = word.to_ne_bytes();
        }
        self.write_all(&bytes[..Message::<WORDS>::BYTES]).map_err(|error| {
            match error.kind() {
                io::ErrorKind::BrokenPipe => Lost::Closed,
                _ => Lost::system("write", &error),
            }
        })
    }
}

impl<const WORDS: usize> Receiver<WORDS> for PipeReader {
    #[inline]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        let mut bytes = [0; WORDS_MAX * size_of::<u64>()];
        self.read_exact(&mut bytes[..Message::<WORDS>::BYTES]).map_err(
            |error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Lost::Closed,
                _ => Lost::system("read", &error),
            },
        )?;
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*place);
        }
        Ok(Message(words))
    }

    fn prove(&self, evidence: &mut Evidence) {
        if let Some(bytes) = size_bytes(self.as_raw_fd()) {
            evidence.prove("pipe_bytes", bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use harness::suite::Params;

    use super::*;

    #[test]
    fn holds_what_was_asked_for() {
        let (reader, writer) = open(8_192).expect("pipe");
        assert_eq!(size_bytes(reader.as_raw_fd()), Some(8_192));
        drop(writer);
        assert!(size_bytes(-1).is_none());
    }

    #[test]
    fn an_impossible_size_is_no_pipe() {
        let params =
            Params::new().with("op_bytes", 64).with("capacity", 1_u64 << 40);
        let target = Default::default();
        let request = ProbeRequest::new(&params, &[], &target);
        let Availability::Unavailable { reason, .. } = Pipe::probe(&request)
        else {
            panic!("64 TiB");
        };
        assert!(reason.contains("70368744177664 B"), "{reason}");
    }
}
