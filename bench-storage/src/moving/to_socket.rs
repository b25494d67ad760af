//! Chunks that go through a TCP connection over the loopback interface, to a
//! thread on the trial's second CPU that takes and checks them.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
};

use harness::{
    load::{peer::Peer, wait::Lifeline},
    machine::Buffer,
    measure::trial::{Evidence, Trial, TrialError},
};

use super::{
    Destination, Step,
    route::{Moves, Route},
};
use crate::{
    checker::{Checked, Checker},
    contents::BLOCK_BYTES,
};

/// What the other end has taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    chunks: u64,
    checked: Checked,
}

/// The sending end.
#[derive(Debug)]
pub struct ToSocket {
    // First, so that it is dropped first: the other end then ends.
    stream: TcpStream,
    receiver: Peer<Result<Taken, TrialError>>,
    sent: u64,
}

impl ToSocket {
    /// Connects, and starts the thread at the other end.
    ///
    /// # Errors
    /// No connection, or no second CPU.
    pub fn new(trial: &Trial, route: &Route) -> Result<Self, TrialError> {
        let (stream, other) = connection().map_err(|error| {
            TrialError::setup(format!("a connection over loopback: {error}"))
        })?;
        let (moves, checker) = (route.moves(), route.checker());
        let bytes = route.load().op_bytes;
        let receiver = Peer::start(trial, &Lifeline::default(), move || {
            receive(other, moves, checker, bytes)
        })?;
        Ok(Self { stream, receiver, sent: 0 })
    }
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let own = stream.local_addr()?;
    // Anybody on this machine may connect to the port meanwhile.
    let other = loop {
        let (other, address) = listener.accept()?;
        if address == own {
            break other;
        }
    };
    stream.set_nodelay(true)?;
    Ok((stream, other))
}

/// Takes chunks until the stream ends.
fn receive(
    mut stream: TcpStream,
    mut moves: Moves,
    mut checker: Checker,
    bytes: usize,
) -> Result<Taken, TrialError> {
    let mut buffer = Buffer::new(bytes, BLOCK_BYTES, None)
        .map_err(|error| TrialError::setup(error.to_string()))?;
    let mut chunks = 0;
    loop {
        let step = moves.next_step();
        match fill(&mut stream, &mut buffer) {
            Ok(0) => break,
            Ok(came) if came == bytes => {}
            Ok(came) => {
                return Err(TrialError::Wrong(format!(
                    "the stream ended after {chunks} chunks and {came} bytes"
                )));
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                let bytes = bytes as u64;
                return Err(TrialError::op("recv", errno, step.from, bytes));
            }
        }
        checker.check(step.from, &buffer)?;
        chunks += 1;
    }
    Ok(Taken { chunks, checked: checker.checked() })
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut came = 0;
    while came < buffer.len() {
        match stream.read(&mut buffer[came..]) {
            Ok(0) => break,
            Ok(more) => came += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(came)
}

impl Destination for ToSocket {
    const HAS_PLACES: bool = false;

    fn sink(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    #[inline(always)]
    fn moved(&mut self, _: Step) -> Result<(), TrialError> {
        self.sent += 1;
        Ok(())
    }

    /// A receiver that found something wrong has hung up.
    #[cold]
    fn explain(&mut self, error: TrialError) -> TrialError {
        let _ = self.stream.shutdown(Shutdown::Both);
        match self.receiver.join() {
            Ok(Err(wrong @ TrialError::Wrong(_))) => wrong,
            _ => error,
        }
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        self.stream.shutdown(Shutdown::Write).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            self.explain(TrialError::op("shutdown", errno, 0, 0))
        })?;
        let taken = self.receiver.join()??;
        if taken.chunks != self.sent {
            return Err(TrialError::Wrong(format!(
                "{} chunks were sent and {} arrived",
                self.sent, taken.chunks
            )));
        }
        let mut evidence = Evidence {
            verified_ops: taken.checked.verified_ops,
            checksummed_ops: taken.checked.checksummed_ops,
            ..Evidence::default()
        };
        evidence.prove("socket", "TCP over loopback");
        Ok(evidence)
    }
}
