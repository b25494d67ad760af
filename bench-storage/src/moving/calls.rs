//! Moving by blocking system calls. Each may move less than it was asked to,
//! and is asked again for the rest.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use harness::{
    load::closed::Place, machine::Buffer, measure::trial::TrialError,
};

use super::{Ends, Failed, Mover, Step};
use crate::contents::BLOCK_BYTES;

/// pread(2) into memory and pwrite(2), or send(2), out of it.
#[derive(Debug)]
pub struct ThroughMemory {
    buffer: Buffer,
    calls: u64,
}

impl ThroughMemory {
    /// For chunks of this size.
    ///
    /// # Errors
    /// No memory.
    pub fn new(bytes: usize, place: &Place) -> Result<Self, TrialError> {
        let buffer = Buffer::new(bytes, BLOCK_BYTES, place.numa_node)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        Ok(Self { buffer, calls: 0 })
    }
}

impl Mover for ThroughMemory {
    #[inline(always)]
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        let Self { buffer, calls } = self;
        let source = ends.source;
        all("pread", step.bytes, calls, |done| {
            let part = &mut buffer[done..step.bytes];
            // SAFETY: the slice is live and as long as said, and nobody else
            // uses it meanwhile.
            told(unsafe {
                libc::pread(
                    source,
                    part.as_mut_ptr().cast(),
                    part.len(),
                    offset(step.from, done),
                )
            })
        })?;
        let name = if step.to.is_some() { "pwrite" } else { "send" };
        all(name, step.bytes, calls, |done| {
            let part = &buffer[done..step.bytes];
            let (start, length) = (part.as_ptr().cast(), part.len());
            // SAFETY: the slice is live and as long as said; the kernel only
            // reads it.
            told(unsafe {
                match step.to {
                    Some(to) => {
                        libc::pwrite(ends.sink, start, length, offset(to, done))
                    }
                    None => {
                        libc::send(ends.sink, start, length, libc::MSG_NOSIGNAL)
                    }
                }
            })
        })
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}

/// sendfile(2).
#[derive(Debug, Default)]
pub struct Sendfile {
    /// Where the sink's own offset is, which this call writes at.
    position: Option<u64>,
    calls: u64,
}

impl Mover for Sendfile {
    #[inline(always)]
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        if let Some(to) = step.to
            && self.position != Some(to)
        {
            self.calls += 1;
            seek(ends.sink, to)?;
        }
        all("sendfile", step.bytes, &mut self.calls, |done| {
            let mut from = offset(step.from, done);
            let left = step.bytes - done;
            // SAFETY: the offset is live through the call; the call touches
            // no other memory of ours.
            told(unsafe {
                libc::sendfile(ends.sink, ends.source, &raw mut from, left)
            })
        })?;
        self.position = step.to.map(|to| to + step.bytes as u64);
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}

fn seek(file: RawFd, to: u64) -> Result<(), Failed> {
    // SAFETY: the call takes numbers only.
    let place = unsafe { libc::lseek(file, offset(to, 0), libc::SEEK_SET) };
    if place >= 0 {
        return Ok(());
    }
    let error = Some(io::Error::last_os_error());
    Err(Failed { operation: "lseek", error })
}

/// A pipe of our own, both ends.
#[derive(Debug)]
pub struct Pipe {
    /// Takes from it.
    pub output: OwnedFd,
    /// Puts into it.
    pub input: OwnedFd,
}

impl Pipe {
    /// With room for this many bytes, if this user may have it. A smaller one
    /// takes a chunk in parts.
    ///
    /// # Errors
    /// What pipe2(2) said.
    pub fn new(bytes: usize) -> Result<Self, TrialError> {
        let mut ends = [0; 2];
        // SAFETY: the call fills in two live numbers.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            let error = io::Error::last_os_error();
            return Err(TrialError::setup(format!("pipe2: {error}")));
        }
        // SAFETY: both descriptors are new and nobody else's.
        let [output, input] =
            ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: the descriptor is open; F_SETPIPE_SZ takes a number.
        unsafe { libc::fcntl(input.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
        Ok(Self { output, input })
    }
}

/// splice(2) into a pipe and out of it.
#[derive(Debug)]
pub struct Splice {
    pipe: Pipe,
    calls: u64,
}

impl Splice {
    /// For chunks of this size.
    ///
    /// # Errors
    /// No pipe.
    pub fn new(bytes: usize) -> Result<Self, TrialError> {
        Ok(Self { pipe: Pipe::new(bytes)?, calls: 0 })
    }
}

impl Mover for Splice {
    #[inline(always)]
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        let (input, output) =
            (self.pipe.input.as_raw_fd(), self.pipe.output.as_raw_fd());
        let mut done = 0;
        while done < step.bytes {
            let from = Some(offset(step.from, done));
            let left = step.bytes - done;
            let mut piped = 0;
            // As much as there is room for; that much is then taken out.
            all("splice from the file", 1, &mut self.calls, |_| {
                let came = splice((ends.source, from), (input, None), left)?;
                piped = came;
                Ok(came)
            })?;
            all("splice to the sink", piped, &mut self.calls, |out| {
                let to = step.to.map(|to| offset(to, done + out));
                splice((output, None), (ends.sink, to), piped - out)
            })?;
            done += piped;
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}

#[inline(always)]
fn splice(
    (source, from): (RawFd, Option<libc::off_t>),
    (sink, to): (RawFd, Option<libc::off_t>),
    bytes: usize,
) -> io::Result<usize> {
    let place = |offset: &mut Option<libc::off_t>| match offset {
        Some(offset) => std::ptr::from_mut(offset),
        None => std::ptr::null_mut(),
    };
    let (mut from, mut to) = (from, to);
    // SAFETY: the offsets are live through the call, or missing; the call
    // touches no other memory of ours.
    told(unsafe {
        libc::splice(source, place(&mut from), sink, place(&mut to), bytes, 0)
    })
}

/// copy_file_range(2).
#[derive(Debug, Default)]
pub struct CopyFileRange {
    calls: u64,
}

impl Mover for CopyFileRange {
    #[inline(always)]
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        // Only files have places, and only files are offered this.
        let to = step.to.unwrap_or_default();
        all("copy_file_range", step.bytes, &mut self.calls, |done| {
            copy_file_range(
                ends,
                offset(step.from, done),
                offset(to, done),
                step.bytes - done,
            )
        })
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}

#[inline(always)]
fn copy_file_range(
    ends: Ends,
    mut from: libc::off_t,
    mut to: libc::off_t,
    bytes: usize,
) -> io::Result<usize> {
    // SAFETY: both offsets are live through the call; it touches no other
    // memory of ours.
    told(unsafe {
        libc::copy_file_range(
            ends.source,
            &raw mut from,
            ends.sink,
            &raw mut to,
            bytes,
            0,
        )
    })
}

/// Whether a file can be copied within itself so: nothing is moved.
///
/// # Errors
/// What copy_file_range(2) said.
pub fn can_copy_file_range(file: &File) -> io::Result<()> {
    let file = file.as_raw_fd();
    let ends = Ends { source: file, sink: file };
    copy_file_range(ends, 0, BLOCK_BYTES as libc::off_t, 0).map(drop)
}

/// Calls until `bytes` have been moved; each gets the number moved so far.
#[inline(always)]
fn all(
    operation: &'static str,
    bytes: usize,
    calls: &mut u64,
    mut call: impl FnMut(usize) -> io::Result<usize>,
) -> Result<(), Failed> {
    let mut done = 0;
    while done < bytes {
        *calls += 1;
        match call(done) {
            Ok(0) => return Err(Failed { operation, error: None }),
            Ok(moved) => done += moved,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Failed { operation, error: Some(error) });
            }
        }
    }
    Ok(())
}

/// A count, or the error that stands behind a negative one.
#[inline(always)]
fn told(status: isize) -> io::Result<usize> {
    usize::try_from(status).map_err(|_| io::Error::last_os_error())
}

/// Places in a file are below what its type holds.
#[inline(always)]
fn offset(start: u64, done: usize) -> libc::off_t {
    (start + done as u64).cast_signed()
}
