//! Frames: memory that this program and the kernel take turns to own.
//!
//! A [`Frame`] is the right to use one chunk. It cannot be copied; it is given
//! up when the chunk's address goes into a ring and comes back when the kernel
//! has returned that address. So no chunk is in two rings, nor read here while
//! the kernel writes to it, as long as the kernel returns what it was given;
//! builds with debug assertions (all tests) check that it does, frame by
//! frame.
//!
//! | bytes of a chunk | content |
//! |---|---|
//! | 0 to 255 | when received: headroom that the kernel keeps |
//! | 256 to 2,047 | when received: the packet, from its Ethernet header on |
//! | 0 to 2,047 | when sent: the packet, from its Ethernet header on |

use harness::machine::{Buffer, NumaNode, PlacementError};

/// Of one chunk. The least that the kernel takes, and enough for an MTU of
/// 1,500: smaller chunks share cache sets less.
pub const FRAME_BYTES: u32 = 2_048;

/// The right to use one chunk of a [`Umem`].
#[derive(Debug)]
pub struct Frame(u32);

/// Into which ring a frame's address went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Empty, for the kernel to fill; it comes back by the receive ring.
    Fill,
    /// Full, to be sent; it comes back by the completion ring.
    Transmit,
}

/// The memory behind the frames of one socket.
#[derive(Debug)]
pub struct Umem {
    memory: Buffer,
    frames: u32,
    custody: Custody,
}

impl Umem {
    /// Memory for so many frames, and the frames.
    ///
    /// # Errors
    /// It is not to be had, or not on that node.
    pub fn new(
        frames: u32,
        node: Option<NumaNode>,
    ) -> Result<(Self, Vec<Frame>), PlacementError> {
        let bytes = frames as usize * FRAME_BYTES as usize;
        // The alignment is at least a page's.
        let memory = Buffer::new(bytes, FRAME_BYTES as usize, node)?;
        let umem = Self { memory, frames, custody: Custody::new(frames) };
        Ok((umem, (0..frames).map(Frame).collect()))
    }

    /// The memory, to be registered.
    pub fn memory(&self) -> &Buffer {
        &self.memory
    }

    /// Gives a frame up; its address is what goes into the ring.
    #[inline(always)]
    pub fn lend(&mut self, frame: Frame, ring: Ring) -> u64 {
        self.custody.lend(frame.0, ring);
        u64::from(frame.0) * u64::from(FRAME_BYTES)
    }

    /// Takes back the frame that an address from a ring lies in.
    ///
    /// # Panics
    /// There is no such frame: the kernel returned what it never had.
    #[inline(always)]
    pub fn take_back(&mut self, address: u64, ring: Ring) -> Frame {
        let frame = address / u64::from(FRAME_BYTES);
        assert!(
            frame < u64::from(self.frames),
            "the kernel returned address {address} of {} frames",
            self.frames
        );
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is less than a count of 32 bits"
        )]
        let frame = frame as u32;
        self.custody.take_back(frame, ring);
        Frame(frame)
    }

    /// What a received frame holds.
    ///
    /// # Panics
    /// It reaches beyond the frame.
    #[inline(always)]
    pub fn packet(&self, frame: &Frame, address: u64, bytes: u32) -> &[u8] {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "less than a frame's bytes"
        )]
        let offset = (address % u64::from(FRAME_BYTES)) as usize;
        assert!(
            offset + bytes as usize <= FRAME_BYTES as usize,
            "{bytes} bytes at {offset} of a frame"
        );
        let start = self.start(frame);
        // SAFETY: inside the frame's chunk by the assertion. Whoever has the
        // frame has the chunk (`lend` and `take_back`), so the kernel does not
        // write to it, and no `&mut` exists while `self` and the frame are
        // borrowed.
        unsafe { std::slice::from_raw_parts(start.add(offset), bytes as usize) }
    }

    /// The chunk's first bytes, to be written.
    ///
    /// # Panics
    /// They are more than a frame's.
    #[inline(always)]
    pub fn packet_mut(&mut self, frame: &mut Frame, bytes: u32) -> &mut [u8] {
        assert!(bytes <= FRAME_BYTES, "{bytes} bytes of a frame");
        let start = self.start(frame);
        // SAFETY: inside the frame's chunk by the assertion. Whoever has the
        // frame has the chunk, and both are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start, bytes as usize) }
    }

    #[inline(always)]
    fn start(&self, frame: &Frame) -> *mut u8 {
        debug_assert!(frame.0 < self.frames, "a frame of another umem");
        let offset = frame.0 as usize * FRAME_BYTES as usize;
        // SAFETY: frames are numbered below `frames`, and the memory has that
        // many chunks. No reference to the whole memory is formed, since parts
        // of it may be the kernel's.
        unsafe { self.memory.as_non_null().as_ptr().add(offset) }
    }
}

/// Where each frame is, checked at every change of hands in builds with debug
/// assertions; nothing in others.
#[derive(Debug)]
struct Custody {
    #[cfg(debug_assertions)]
    lent: Vec<Option<Ring>>,
}

#[cfg(debug_assertions)]
impl Custody {
    fn new(frames: u32) -> Self {
        Self { lent: vec![None; frames as usize] }
    }

    fn lend(&mut self, frame: u32, ring: Ring) {
        let lent = &mut self.lent[frame as usize];
        assert_eq!(*lent, None, "frame {frame} into the {ring:?} ring");
        *lent = Some(ring);
    }

    fn take_back(&mut self, frame: u32, ring: Ring) {
        let lent = &mut self.lent[frame as usize];
        assert_eq!(*lent, Some(ring), "frame {frame} out of a ring");
        *lent = None;
    }
}

#[cfg(not(debug_assertions))]
impl Custody {
    fn new(_: u32) -> Self {
        Self {}
    }

    #[inline(always)]
    fn lend(&mut self, _: u32, _: Ring) {}

    #[inline(always)]
    fn take_back(&mut self, _: u32, _: Ring) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::testing;

    #[test]
    fn a_frame_goes_and_comes_back_with_what_is_in_it() {
        let (mut umem, mut frames) = Umem::new(4, None).expect("memory");
        assert_eq!(frames.len(), 4);
        let mut frame = frames.pop().expect("frame");
        umem.packet_mut(&mut frame, 60).fill(7);
        let address = umem.lend(frame, Ring::Transmit);
        assert_eq!(address, 3 * 2_048);
        let frame = umem.take_back(address, Ring::Transmit);
        assert_eq!(umem.packet(&frame, address, 61)[59..], [7, 0]);
        // The kernel returns a received frame by where its packet starts.
        let address = umem.lend(frame, Ring::Fill);
        let frame = umem.take_back(address + 256, Ring::Fill);
        assert_eq!(umem.packet(&frame, address + 256, 1_792).len(), 1_792);
    }

    #[test]
    fn an_address_behind_the_end_is_refused() {
        let said = testing::panic_of(|| {
            let (mut umem, _) = Umem::new(4, None).expect("memory");
            umem.take_back(4 * 2_048, Ring::Fill);
        });
        assert!(said.contains("returned address 8192 of 4 frames"), "{said}");
    }

    #[test]
    fn a_packet_stays_inside_its_frame() {
        let said = testing::panic_of(|| {
            let (umem, frames) = Umem::new(1, None).expect("memory");
            let _ = umem.packet(&frames[0], 256, 1_793);
        });
        assert!(said.contains("1793 bytes at 256 of a frame"), "{said}");
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_frame_returned_twice_is_noticed() {
        let said = testing::panic_of(|| {
            let (mut umem, mut frames) = Umem::new(1, None).expect("memory");
            let address = umem.lend(frames.remove(0), Ring::Fill);
            let _first = umem.take_back(address, Ring::Fill);
            let _second = umem.take_back(address, Ring::Fill);
        });
        assert!(said.contains("frame 0 out of a ring"), "{said}");
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_frame_that_comes_by_the_wrong_ring_is_noticed() {
        let said = testing::panic_of(|| {
            let (mut umem, mut frames) = Umem::new(1, None).expect("memory");
            let address = umem.lend(frames.remove(0), Ring::Fill);
            umem.take_back(address, Ring::Transmit);
        });
        assert!(said.contains("frame 0 out of a ring"), "{said}");
    }
}
