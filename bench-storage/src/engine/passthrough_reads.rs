//! Reads as NVMe commands that a ring passes through to a namespace.

use std::os::fd::AsRawFd;

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};
use io_uring::{opcode, squeue::Entry128, types::Fixed};

use super::{
    ring::{Big, Ring},
    ring_reads::{INDEX, Registered, register},
    rounds::Requests,
    slots::Slots,
};
use crate::{
    nvme::{
        Namespace,
        command::{self, Command},
        status,
    },
    source::Source,
};

/// Reads of one thread's ring, past file system, block layer and scheduler:
/// each submission holds the command that goes to the device's queue.
#[derive(Debug)]
pub struct PassthroughReads<'a> {
    slots: Slots<'a>,
    namespace: &'a Namespace,
    registered: Registered,
    entries: Box<[Entry128]>,
}

impl<'a> PassthroughReads<'a> {
    /// The reads of the thread at `place`, one of `streams`. The ring's and
    /// the namespace's descriptors are registered, and the buffers where
    /// `buffers` says so.
    ///
    /// # Errors
    /// No memory, a registration was refused, or an op is too long for a
    /// command.
    pub fn new(
        ring: &mut Ring<Big>,
        buffers: bool,
        source: &'a Source,
        namespace: &'a Namespace,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let slots = Slots::new(source, place, streams)?;
        let registered = Registered { ring: true, file: true, buffers };
        let file = namespace.file.as_raw_fd();
        register(ring, registered, file, slots.region())?;
        let entries = slots
            .parts()
            .map(|(slot, address)| {
                template(namespace, buffers, address, slots.op_bytes())
                    .map(|entry| entry.user_data(slot))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let bytes = slots.op_bytes();
                TrialError::setup(format!(
                    "no NVMe command can read {bytes} bytes"
                ))
            })?;
        Ok(Self { slots, namespace, registered, entries })
    }
}

// SAFETY: each slot's command names that slot's own part of the buffer of
// `slots`, which is freed with the value; `check` looks at the part only after
// its op.
unsafe impl Requests for PassthroughReads<'_> {
    type Sizes = Big;

    const OPCODE: &'static str = "IORING_OP_URING_CMD";

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry128] {
        let offset = self.slots.begin(slot);
        let entry = &mut self.entries[slot];
        set_first_block(entry, self.namespace.block_at(offset));
        std::slice::from_ref(entry)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        let offset = self.slots.end(slot);
        if result != 0 {
            return Err(self.failed(offset, result));
        }
        self.slots.check(slot, offset)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.slots.finish()?;
        self.registered.prove(&mut evidence);
        let block_bytes = 1_u64 << self.namespace.block_shift;
        evidence.prove("lba_bytes", block_bytes);
        Ok(evidence)
    }
}

impl PassthroughReads<'_> {
    /// Negative is the kernel's error, positive the device's status.
    #[cold]
    fn failed(&self, offset: u64, result: i32) -> TrialError {
        let bytes = self.slots.op_bytes() as u64;
        if result < 0 {
            let errno = result.saturating_neg();
            return TrialError::op(Self::OPCODE, errno, offset, bytes);
        }
        let status = u16::try_from(result).unwrap_or(u16::MAX);
        let what = format!("{} ({})", Self::OPCODE, status::text(status));
        TrialError::op(&what, status::errno(status), offset, bytes)
    }
}

/// A read of an op's bytes from the namespace, complete but for where it
/// begins. `None` where a command cannot state the length.
pub(crate) fn template(
    namespace: &Namespace,
    fixed_buffer: bool,
    address: *mut u8,
    op_bytes: usize,
) -> Option<Entry128> {
    let blocks = namespace.blocks(op_bytes)?;
    let bytes = u32::try_from(op_bytes).ok()?;
    let read = Command::read(namespace.id, address, bytes, blocks);
    let mut command = [0; 80];
    command[..command::BYTES].copy_from_slice(&read.bytes());
    let file = Fixed(u32::from(INDEX));
    Some(
        opcode::UringCmd80::new(file, command::URING_CMD_IO)
            .cmd(command)
            .buf_index(fixed_buffer.then_some(INDEX))
            .build(),
    )
}

/// Where the command begins in a submission: `cmd` of `struct io_uring_sqe`
/// (linux/io_uring.h).
const COMMAND_AT: usize = 48;

/// Index of the command's first block number in the submission seen as 64-bit
/// words.
const FIRST_BLOCK_WORD: usize =
    (COMMAND_AT + command::FIRST_BLOCK_AT) / size_of::<u64>();

const _: () =
    assert!(size_of::<Entry128>() == 128 && align_of::<Entry128>() == 8);

/// Sets which block a command reads first. Making the entry afresh per op
/// would copy all 128 bytes twice.
#[inline(always)]
fn set_first_block(entry: &mut Entry128, block: u64) {
    // The kernel reads two 32-bit words, the lower half first.
    let word = if cfg!(target_endian = "big") {
        block.rotate_left(u32::BITS)
    } else {
        block
    };
    // SAFETY: `Entry128` is `repr(C)` around the kernel's structure of 128
    // bytes with the alignment of a word, asserted above; any number is a
    // valid block number.
    unsafe {
        std::ptr::from_mut(entry)
            .cast::<u64>()
            .add(FIRST_BLOCK_WORD)
            .write(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entry: &Entry128) -> [u32; 32] {
        // SAFETY: an entry is 128 bytes of plain data, see `set_first_block`;
        // all of them are initialised by the crate, which zeroes it first.
        unsafe { std::ptr::from_ref(entry).cast::<[u32; 32]>().read() }
    }

    fn namespace(block_shift: u32) -> Namespace {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let path = "/dev/null".into();
        Namespace { path, file, id: 3, block_shift }
    }

    #[test]
    fn a_command_states_blocks_of_the_format() {
        let address = std::ptr::without_provenance_mut(0x7000);
        for (shift, blocks) in [(9, 8), (12, 1)] {
            let namespace = namespace(shift);
            let mut entry = template(&namespace, true, address, 4096)
                .expect("a whole number of blocks");
            set_first_block(&mut entry, namespace.block_at(0x12_3456_7000));
            let words = words(&entry);
            // Opcode URING_CMD, operation, IORING_URING_CMD_FIXED.
            assert_eq!(words[0] & 0xff, 46);
            assert_eq!((words[2], words[7]), (command::URING_CMD_IO, 1));
            let of_command = &words[COMMAND_AT / 4..];
            assert_eq!((of_command[1], of_command[9]), (3, 4096));
            let first = 0x12_3456_7000_u64 >> shift;
            let found = u64::from(of_command[10])
                | u64::from(of_command[11]) << u32::BITS;
            assert_eq!((found, of_command[12]), (first, blocks - 1));
        }
    }

    #[test]
    fn an_op_that_is_no_whole_block_has_no_command() {
        let address = std::ptr::without_provenance_mut(0x7000);
        assert!(template(&namespace(13), false, address, 4096).is_none());
        assert!(template(&namespace(9), false, address, 64 << 20).is_none());
    }
}
