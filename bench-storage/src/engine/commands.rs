//! NVMe commands as a ring carries them: each in a submission of 128 bytes.

use harness::measure::trial::TrialError;
use io_uring::{opcode, squeue::Entry128, types::Fixed};

use super::ring_reads::INDEX;
use crate::nvme::{
    Namespace,
    command::{self, Command},
    status,
};

/// The opcode of all of them.
pub const OPCODE: &str = "IORING_OP_URING_CMD";

/// A submission that passes a command through to the registered namespace;
/// where `fixed_buffer` says so, its data is the registered buffer.
pub(crate) fn submission(command: Command, fixed_buffer: bool) -> Entry128 {
    let mut bytes = [0; 80];
    bytes[..command::BYTES].copy_from_slice(&command.bytes());
    let file = Fixed(u32::from(INDEX));
    opcode::UringCmd80::new(file, command::URING_CMD_IO)
        .cmd(bytes)
        .buf_index(fixed_buffer.then_some(INDEX))
        .build()
}

/// Makes a command of a namespace's id, where the data is, how many bytes it
/// has, and how many blocks that is.
pub(crate) type Transfer = fn(u32, *mut u8, u32, u16) -> Command;

/// A read or write of an op's bytes, complete but for where it begins. `None`
/// where a command cannot state the length.
pub(crate) fn transfer(
    namespace: &Namespace,
    make: Transfer,
    fixed_buffer: bool,
    address: *mut u8,
    op_bytes: usize,
) -> Option<Entry128> {
    let blocks = namespace.blocks(op_bytes)?;
    let bytes = u32::try_from(op_bytes).ok()?;
    let command = make(namespace.id, address, bytes, blocks);
    Some(submission(command, fixed_buffer))
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

/// Sets which block a command reads or writes first. Making the entry afresh
/// per op would copy all 128 bytes twice.
#[inline(always)]
pub(crate) fn set_first_block(entry: &mut Entry128, block: u64) {
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

/// What came back of a command that failed: negative is the kernel's error,
/// positive the device's status.
#[cold]
pub(crate) fn failed(result: i32, offset: u64, bytes: u64) -> TrialError {
    if result < 0 {
        let errno = result.saturating_neg();
        return TrialError::op(OPCODE, errno, offset, bytes);
    }
    let status = u16::try_from(result).unwrap_or(u16::MAX);
    let what = format!("{OPCODE} ({})", status::text(status));
    TrialError::op(&what, status::errno(status), offset, bytes)
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
            for make in [Command::read as Transfer, Command::write] {
                let mut entry = transfer(&namespace, make, true, address, 4096)
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
    }

    #[test]
    fn an_op_that_is_no_whole_block_has_no_command() {
        let address = std::ptr::without_provenance_mut(0x7000);
        for (shift, bytes) in [(13, 4096), (9, 64 << 20)] {
            let namespace = namespace(shift);
            assert!(
                transfer(&namespace, Command::read, false, address, bytes)
                    .is_none()
            );
        }
    }

    #[test]
    fn kernel_and_device_say_no_in_their_own_ways() {
        let TrialError::Op { errno, operation, .. } = failed(-95, 4096, 512)
        else {
            panic!("an op that failed")
        };
        assert_eq!((errno, operation.as_str()), (95, OPCODE));
        let text = failed(0x281, 4096, 512).to_string();
        assert!(text.contains("unrecovered read error"), "{text}");
    }
}
