//! An AF_XDP socket: memory, four rings, one queue of one device.
//!
//! | ring | to the kernel | from the kernel |
//! |---|---|---|
//! | fill | frames to be filled | |
//! | receive | | filled frames |
//! | transmit | frames to be sent | |
//! | completion | | frames that were sent, or dropped on the way |
//!
//! A frame that was received goes back into the fill ring at once, behind the
//! reading; a frame that was sent comes back by the completion ring and is
//! idle until it is sent again.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use harness::{
    machine::{NumaNode, PlacementError},
    measure::trial::TrialError,
};

use super::{
    rings::{Consumer, Producer, ring_bytes},
    sys::{self, Mapping, Which},
    umem::{FRAME_BYTES, Frame, Ring, Umem},
};

/// A queue whose last socket was just closed is free after 10 to 15 ms, when
/// the kernel has released that socket's memory in the background.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

/// Entries of a ring that is not used: the kernel wants one all the same.
const UNUSED_RING: u32 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The memory behind the frames.
    #[error(transparent)]
    Memory(#[from] PlacementError),
    /// A call on the way to a bound socket.
    #[error("AF_XDP socket, {step}: {source}{}", hint(step, source))]
    Step {
        /// The call and its object.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Zero-copy, and the driver says that something does not fit.
    #[error(
        "AF_XDP socket, binding in zero-copy mode: {0}; the driver has the \
         mode, and cannot use our memory for this device: a virtio-net device \
         must be made with iommu_platform=on (VIRTIO_F_ACCESS_PLATFORM), and \
         any card needs an MTU that fits a frame of {FRAME_BYTES} bytes"
    )]
    NoZeroCopy(io::Error),
    /// Somebody else has the queue.
    #[error(
        "AF_XDP socket: queue {queue} of interface {interface} was busy for \
         {} s; end the program that is bound to it (`ss --xdp` shows it)",
        BUSY_PATIENCE.as_secs()
    )]
    Busy {
        /// The device.
        interface: u32,
        /// Its queue.
        queue: u32,
    },
}

impl From<SocketError> for TrialError {
    fn from(error: SocketError) -> Self {
        Self::setup(error.to_string())
    }
}

fn hint(step: &str, source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOBUFS) if step == REGISTERING => {
            "; RLIMIT_MEMLOCK is too small: raise `ulimit -l`"
        }
        Some(libc::EOPNOTSUPP) if step == BINDING => {
            "; the driver has no zero-copy mode in this kernel (veth has none \
             in any)"
        }
        _ => "",
    }
}

pub(super) const CREATING: &str = "creating";
pub(super) const REGISTERING: &str = "registering memory";
const SIZING: &str = "making a ring";
const MAPPING: &str = "mapping a ring";
const BINDING: &str = "binding";
const READING: &str = "reading back";

fn at(step: &'static str) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError::Step { step, source }
}

/// Whether packets are copied between the driver's memory and the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// `XDP_COPY`: works with every device.
    Copy,
    /// `XDP_ZEROCOPY`: the driver uses the frames; refused where it cannot.
    ZeroCopy,
}

/// What a socket is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of the device in the calling thread's namespace.
    pub interface: u32,
    /// Number of its queue.
    pub queue: u32,
    /// Frames that packets are received into, a power of two; 0 if none are.
    pub receive_frames: u32,
    /// More of them, which the receive ring has no room for, so that a card
    /// finds some to fill while that ring is full. With `receive_frames` a
    /// power of two.
    pub spare_frames: u32,
    /// Frames that packets are sent from, a power of two; 0 if none are.
    pub send_frames: u32,
    /// Which of the two is asked for. There is no falling back.
    pub transfer: Transfer,
    /// Frames that the kernel sends per system call in copy mode, where it
    /// can be told (Linux 6.17); it takes 32 by itself.
    pub send_budget: u32,
    /// Where the memory is to be.
    pub node: Option<NumaNode>,
}

/// What the kernel counted at a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Received but dropped: no frame in the fill ring (in copy mode), or
    /// longer than a frame.
    pub rx_dropped: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times that the fill ring was empty; in copy mode these packets are
    /// counted in `rx_dropped`, too.
    pub rx_fill_ring_empty: u64,
    /// Addresses in the fill ring that are none.
    pub rx_invalid: u64,
    /// Entries of the transmit ring that cannot be sent.
    pub tx_invalid: u64,
}

impl Statistics {
    /// Packets that reached the socket in copy mode and were not delivered.
    pub fn lost_in_copy_mode(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    // Before `umem`: the kernel lets go of the frames before they are unmapped.
    fd: OwnedFd,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    receive: Option<Consumer<libc::xdp_desc>>,
    transmit: Option<Producer<libc::xdp_desc>>,
    /// Frames that can be sent from. Never more than it has room for.
    idle: Vec<Frame>,
    /// Bytes of a packet that is sent.
    packet_bytes: u32,
    /// Packets handed to the kernel that have not come back.
    in_flight: u32,
    zero_copy: bool,
    /// Frames per system call, if the kernel can be told.
    send_budget: Option<u32>,
    umem: Umem,
}

impl Socket {
    /// Makes and binds a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// No right, no memory, or the queue cannot be had in that mode.
    pub fn open(config: &Config) -> Result<Self, SocketError> {
        let fd = sys::socket().map_err(at(CREATING))?;
        let (receive_frames, send_frames) =
            (config.receive_frames, config.send_frames);
        let fill_frames = receive_frames + config.spare_frames;
        let (umem, mut idle) =
            Umem::new(fill_frames + send_frames, config.node)?;
        // SAFETY: the socket owns `umem` and is closed before it is dropped;
        // frames in a ring are not referred to (see `umem`).
        unsafe { sys::register_memory(fd.as_fd(), umem.memory(), FRAME_BYTES) }
            .map_err(at(REGISTERING))?;
        let rings =
            Rings::make(fd.as_fd(), fill_frames, receive_frames, send_frames)?;
        let send_budget = (send_frames > 0
            && sys::set_send_budget(fd.as_fd(), config.send_budget).is_ok())
        .then_some(config.send_budget);
        let to_fill = idle.split_off(send_frames as usize);
        let mut socket = Self {
            fd,
            fill: rings.fill,
            completion: rings.completion,
            receive: rings.receive,
            transmit: rings.transmit,
            idle,
            packet_bytes: 0,
            in_flight: 0,
            zero_copy: false,
            send_budget,
            umem,
        };
        if socket.fill.free(fill_frames) >= fill_frames {
            for frame in to_fill {
                socket.fill.write(socket.umem.lend(frame, Ring::Fill));
            }
            socket.fill.publish();
        }
        bind(socket.fd.as_fd(), config)?;
        socket.zero_copy =
            sys::is_zero_copy(socket.fd.as_fd()).map_err(at(READING))?;
        Ok(socket)
    }

    /// To be entered into the map that the filter redirects by.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the kernel says that the socket is in zero-copy mode.
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Frames that one system call sends, if the kernel could be told.
    pub fn send_budget(&self) -> Option<u32> {
        self.send_budget
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// It does not tell.
    pub fn statistics(&self) -> Result<Statistics, SocketError> {
        let seen = sys::statistics(self.fd.as_fd()).map_err(at(READING))?;
        Ok(Statistics {
            rx_dropped: seen.rx_dropped,
            rx_ring_full: seen.rx_ring_full,
            rx_fill_ring_empty: seen.rx_fill_ring_empty_descs,
            rx_invalid: seen.rx_invalid_descs,
            tx_invalid: seen.tx_invalid_descs,
        })
    }

    /// Writes this packet into every frame that can be sent from. To be
    /// called before the first is sent.
    pub fn prepare(&mut self, packet: &[u8]) {
        assert_eq!(self.in_flight, 0, "frames are idle before the first send");
        assert!(packet.len() <= FRAME_BYTES as usize, "fits a frame");
        #[expect(
            clippy::cast_possible_truncation,
            reason = "not more than a frame's"
        )]
        let bytes = packet.len() as u32;
        self.packet_bytes = bytes;
        for frame in &mut self.idle {
            self.umem.packet_mut(frame, bytes).copy_from_slice(packet);
        }
    }

    /// Puts up to `limit` of the prepared packets into the transmit ring, each
    /// after `write` has changed in it what is its own, and returns how many.
    /// They are on their way after `kick`.
    #[inline(always)]
    pub fn send(
        &mut self,
        limit: u32,
        mut write: impl FnMut(&mut [u8]),
    ) -> u32 {
        let Some(transmit) = &mut self.transmit else { return 0 };
        let room = transmit.free(limit).min(limit) as usize;
        let count = room.min(self.idle.len());
        // From the end: what came back last is still in the cache.
        for mut frame in self.idle.drain(self.idle.len() - count..) {
            let len = self.packet_bytes;
            write(self.umem.packet_mut(&mut frame, len));
            let addr = self.umem.lend(frame, Ring::Transmit);
            transmit.write(libc::xdp_desc { addr, len, options: 0 });
        }
        transmit.publish();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "not more than `limit`"
        )]
        let count = count as u32;
        self.in_flight += count;
        count
    }

    /// One system call that makes the kernel send, if it asks for it.
    ///
    /// That it could not send all of it is no error: it has sent its budget
    /// (EAGAIN), the device's queue is full (EBUSY, EAGAIN), or it has no
    /// room for a packet or for its completion (ENOBUFS). The rest stays in
    /// the ring for the next call.
    ///
    /// # Errors
    /// It is more than that; the device is down, say.
    #[inline(always)]
    pub fn kick(&mut self) -> io::Result<()> {
        if !self.transmit.as_ref().is_some_and(Producer::needs_wakeup) {
            return Ok(());
        }
        match sys::kick(self.fd.as_fd()) {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Packets that were handed over but not looked at yet: another `kick` is
    /// due while there are any.
    #[inline(always)]
    pub fn unsent(&self) -> u32 {
        self.transmit.as_ref().map_or(0, Producer::unconsumed)
    }

    /// Takes back what was sent, and returns how many packets that were.
    /// Only now are they known to have left the kernel's hands.
    #[inline(always)]
    pub fn reap(&mut self) -> u32 {
        // As many as there are: each look at the kernel's index may cost a
        // cache miss.
        let count = self.completion.available(u32::MAX);
        if count == 0 {
            return 0;
        }
        while let Some(address) = self.completion.read() {
            let frame = self.umem.take_back(address, Ring::Transmit);
            debug_assert!(self.idle.len() < self.idle.capacity());
            self.idle.push(frame);
        }
        self.completion.release();
        self.in_flight -= count;
        count
    }

    /// Packets handed to the kernel that have not come back.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Shows up to `limit` received packets to `read`, in order, gives their
    /// frames back to be filled again, and returns how many there were.
    #[inline(always)]
    pub fn receive(&mut self, limit: u32, mut read: impl FnMut(&[u8])) -> u32 {
        let Some(receive) = &mut self.receive else { return 0 };
        let count = receive.available(1).min(limit);
        if count == 0 {
            // In copy mode the kernel never asks for that.
            if self.zero_copy && self.fill.needs_wakeup() {
                sys::wake_receiver(self.fd.as_fd());
            }
            return 0;
        }
        // The fill ring has a place for every frame, but the kernel submits
        // what it has received before it frees the places of these frames
        // (`xsk_flush`): in between there may be none. The rest comes next
        // time.
        let count = count.min(self.fill.free(count));
        for _ in 0..count {
            let Some(entry) = receive.read() else { break };
            let frame = self.umem.take_back(entry.addr, Ring::Fill);
            read(self.umem.packet(&frame, entry.addr, entry.len));
            self.fill.write(self.umem.lend(frame, Ring::Fill));
        }
        self.fill.publish();
        receive.release();
        count
    }
}

/// The rings of a socket that is not bound yet.
struct Rings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    receive: Option<Consumer<libc::xdp_desc>>,
    transmit: Option<Producer<libc::xdp_desc>>,
}

impl Rings {
    /// Each ring has an entry for every frame that can be in it, but for the
    /// receive ring where there are frames to spare.
    fn make(
        fd: BorrowedFd<'_>,
        fill_frames: u32,
        receive_frames: u32,
        send_frames: u32,
    ) -> Result<Self, SocketError> {
        let used = |frames: u32| (frames > 0).then_some(frames);
        let fill = used(fill_frames).unwrap_or(UNUSED_RING);
        let completion = used(send_frames).unwrap_or(UNUSED_RING);
        let size =
            |which, count| sys::make_ring(fd, which, count).map_err(at(SIZING));
        size(Which::Fill, fill)?;
        size(Which::Completion, completion)?;
        if let Some(count) = used(receive_frames) {
            size(Which::Receive, count)?;
        }
        if let Some(count) = used(send_frames) {
            size(Which::Transmit, count)?;
        }
        let parts = sys::offsets(fd).map_err(at(READING))?;
        let map = |which, bytes| {
            Mapping::of_ring(fd, which, bytes).map_err(at(MAPPING))
        };
        let receive = used(receive_frames).map(|count| {
            let bytes = ring_bytes::<libc::xdp_desc>(&parts.rx, count);
            let mapping = map(Which::Receive, bytes)?;
            Ok::<_, SocketError>(Consumer::new(mapping, &parts.rx, count))
        });
        let transmit = used(send_frames).map(|count| {
            let bytes = ring_bytes::<libc::xdp_desc>(&parts.tx, count);
            let mapping = map(Which::Transmit, bytes)?;
            Ok::<_, SocketError>(Producer::new(mapping, &parts.tx, count))
        });
        let bytes = ring_bytes::<u64>(&parts.fr, fill);
        let fill = Producer::new(map(Which::Fill, bytes)?, &parts.fr, fill);
        let bytes = ring_bytes::<u64>(&parts.cr, completion);
        let completion = Consumer::new(
            map(Which::Completion, bytes)?,
            &parts.cr,
            completion,
        );
        Ok(Self {
            fill,
            completion,
            receive: receive.transpose()?,
            transmit: transmit.transpose()?,
        })
    }
}

/// Binds in exactly the mode that was asked for, waiting for a queue that was
/// only just left.
fn bind(fd: BorrowedFd<'_>, config: &Config) -> Result<(), SocketError> {
    let transfer = match config.transfer {
        Transfer::Copy => libc::XDP_COPY,
        Transfer::ZeroCopy => libc::XDP_ZEROCOPY,
    };
    let flags = transfer | libc::XDP_USE_NEED_WAKEUP;
    let (interface, queue) = (config.interface, config.queue);
    let started = Instant::now();
    loop {
        match sys::bind(fd, interface, queue, flags) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if started.elapsed() > BUSY_PATIENCE {
                    return Err(SocketError::Busy { interface, queue });
                }
                thread::sleep(Duration::from_millis(1));
            }
            Err(source)
                if config.transfer == Transfer::ZeroCopy
                    && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                return Err(SocketError::NoZeroCopy(source));
            }
            Err(source) => {
                return Err(SocketError::Step { step: BINDING, source });
            }
        }
    }
}
