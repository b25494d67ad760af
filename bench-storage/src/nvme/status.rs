//! What the status of a command that failed means.

/// Status code type and code, without the bits that say whether to try again.
const CODE: u16 = 0x7ff;

/// A status in words, by its name in the specification (NVM Express base
/// specification, "Status Field").
pub fn text(status: u16) -> String {
    let name = match status & CODE {
        0x001 => "invalid command opcode",
        0x002 => "invalid field in command",
        0x004 => "data transfer error",
        0x006 => "internal error",
        0x007 => "command abort requested",
        0x00b => "invalid namespace or format",
        0x080 => "LBA out of range",
        0x081 => "capacity exceeded",
        0x082 => "namespace not ready",
        0x109 => "invalid log page",
        0x280 => "write fault",
        0x281 => "unrecovered read error",
        0x282..=0x284 => "end-to-end check error",
        0x286 => "access denied",
        0x287 => "deallocated or unwritten logical block",
        0x370 | 0x371 => "command aborted by the host",
        _ => "see the specification",
    };
    format!("NVMe status {:#05x}: {name}", status & CODE)
}

/// The error number that the kernel makes of a status for those who read
/// through the block layer (nvme_error_status in drivers/nvme/host/core.c).
pub fn errno(status: u16) -> i32 {
    match status & CODE {
        0x081 => libc::ENOSPC,
        0x280 | 0x281 | 0x286 | 0x287 => libc::ENODATA,
        0x282..=0x284 => libc::EILSEQ,
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_error_number_of_a_plain_read() {
        assert_eq!(errno(0x4281), libc::ENODATA);
        assert_eq!(errno(0x282), libc::EILSEQ);
        assert_eq!(errno(0x006), libc::EIO);
    }

    #[test]
    fn bits_about_trying_again_do_not_hide_the_name() {
        let named = "NVMe status 0x281: unrecovered read error";
        assert_eq!(text(0x281), named);
        assert_eq!(text(0x4281), named);
        assert_eq!(text(0x7ff), "NVMe status 0x7ff: see the specification");
    }
}
