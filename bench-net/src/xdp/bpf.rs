//! `bpf(2)` without a library: what the filter needs and no more.
//!
//! Each command reads a union of which only the fields below are set; a
//! shorter union than the kernel's means zeros behind its end, a longer one
//! with zeros there is accepted by older kernels, too. Offsets in bytes
//! (`include/uapi/linux/bpf.h`):
//!
//! | command | fields |
//! |---|---|
//! | map create | type 0, key bytes 4, value bytes 8, entries 12, name 28 |
//! | map update | map 0, key at 8, value at 16, flags 24 |
//! | program load | type 0, instructions 4, at 8, licence at 16, log level 24, log bytes 28, log at 32, name 48, attach type 68 |
//! | link create | program 0, interface 4, attach type 8, flags 12 |
//! | info by descriptor | descriptor 0, bytes 4, info at 8 |
//!
//! Descriptors are closed on drop, and with them goes what they stand for: a
//! link detaches, a program and a map are freed once nothing refers to them.
//! So nothing is left when the process ends, whatever ends it.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::program::Filter;

/// The name that `bpftool prog` shows; the kernel keeps 15 bytes.
pub const PROGRAM_NAME: &str = "bypass_filter";
const MAP_NAME: &str = "bypass_sockets";

/// No helper that the filter calls asks for the GPL.
const LICENCE: &CStr = c"Dual MIT/GPL";

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;

/// Room for the verifier's words on some thirty instructions.
const LOG_BYTES: usize = 64 * 1024;

/// What a command was refused with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The map of sockets.
    #[error("creating an XSKMAP: {0}")]
    Map(#[source] io::Error),
    /// Without a log the verifier never saw the program.
    #[error("loading the XDP program: {source}{}", verdict(log))]
    Program {
        /// What the call said.
        source: io::Error,
        /// The verifier's log.
        log: String,
    },
    /// Putting a socket into the map.
    #[error("entering the socket of queue {queue} into the XSKMAP: {source}")]
    Socket {
        /// The key.
        queue: u32,
        /// What the call said.
        source: io::Error,
    },
    /// Attaching.
    #[error("attaching the XDP program: {0}")]
    Link(#[source] io::Error),
    /// Reading something back.
    #[error("reading back what the {what} is: {source}")]
    Info {
        /// Program or link.
        what: &'static str,
        /// What the call said.
        source: io::Error,
    },
}

impl BpfError {
    /// What the kernel said.
    pub fn source_error(&self) -> &io::Error {
        match self {
            Self::Map(source)
            | Self::Link(source)
            | Self::Program { source, .. }
            | Self::Socket { source, .. }
            | Self::Info { source, .. } => source,
        }
    }
}

fn verdict(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!("; the verifier says: {log}")
    }
}

/// The attribute union of one command. 128 bytes hold all fields used here.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        // An open descriptor is not negative.
        self.u32(offset, fd.as_raw_fd().cast_unsigned())
    }

    fn pointer<T: ?Sized>(mut self, offset: usize, to: *const T) -> Self {
        // Exposed: the kernel reads and writes behind it.
        let address = to.cast::<u8>().expose_provenance() as u64;
        self.0[offset..offset + 8].copy_from_slice(&address.to_ne_bytes());
        self
    }

    fn name(mut self, offset: usize, name: &str) -> Self {
        assert!(name.len() < 16, "the kernel keeps 15 bytes and a zero");
        self.0[offset..offset + name.len()].copy_from_slice(name.as_bytes());
        self
    }

    fn u32_at(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    /// # Safety
    /// Every pointer among the attributes is valid for what the command does
    /// with it: the caller has it from a reference that outlives the call.
    unsafe fn call(&mut self, command: libc::c_int) -> io::Result<i32> {
        // SAFETY: the kernel reads and writes at most the stated size of this
        // array; the pointers in it are the caller's responsibility.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                self.0.as_mut_ptr(),
                self.0.len(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        i32::try_from(result).map_err(io::Error::other)
    }
}

/// Takes over a descriptor that a command returned.
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made it for this caller alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A map from queue numbers to AF_XDP sockets.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// An empty map for queues `0..queues`.
    ///
    /// # Errors
    /// No right to, or no memory.
    pub fn new(queues: u32) -> Result<Self, BpfError> {
        let mut attributes = Attributes::new()
            .u32(0, MAP_TYPE_XSKMAP)
            .u32(4, 4)
            .u32(8, 4)
            .u32(12, queues)
            .name(28, MAP_NAME);
        // SAFETY: no pointers.
        let fd = unsafe { attributes.call(MAP_CREATE) };
        fd.map(|fd| Self(owned(fd))).map_err(BpfError::Map)
    }

    /// From now on the frames of this queue go to that socket.
    ///
    /// # Errors
    /// It has no rings yet, or the queue is outside the map.
    pub fn insert(
        &self,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), BpfError> {
        let value = socket.as_raw_fd();
        let mut attributes = Attributes::new()
            .fd(0, self.0.as_fd())
            .pointer(8, &raw const queue)
            .pointer(16, &raw const value);
        // SAFETY: key and value are locals of four bytes each, as the map was
        // created with, and outlive the call.
        let result = unsafe { attributes.call(MAP_UPDATE_ELEM) };
        result.map(drop).map_err(|source| BpfError::Socket { queue, source })
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads the filter, which sends our frames to the sockets in `map`.
    ///
    /// # Errors
    /// No right to, or the verifier refuses it; its log is in the error.
    pub fn load(filter: &Filter, map: &SocketMap) -> Result<Self, BpfError> {
        let code = filter.assemble(map.0.as_raw_fd());
        // First without a log, which is the fast way and the one that does
        // not fail for want of room; then once more to learn why.
        match load(&code, &mut []) {
            Ok(fd) => Ok(Self(fd)),
            Err(source) => {
                let mut log = vec![0; LOG_BYTES];
                let log = match load(&code, &mut log) {
                    Ok(_) => String::new(),
                    Err(_) => CStr::from_bytes_until_nul(&log)
                        .map(|text| text.to_string_lossy().trim().to_owned())
                        .unwrap_or_default(),
                };
                Err(BpfError::Program { source, log })
            }
        }
    }

    /// The number by which the kernel knows it.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn id(&self) -> Result<u32, BpfError> {
        // struct bpf_prog_info: type 0, id 4.
        let info = info::<8>(self.0.as_fd())
            .map_err(|source| BpfError::Info { what: "program", source })?;
        Ok(word(&info, 4))
    }
}

fn load(
    code: &[super::instruction::Instruction],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let (level, log_bytes) = match u32::try_from(log.len()) {
        Ok(0) | Err(_) => (0, 0),
        Ok(bytes) => (1, bytes),
    };
    let log_at = if level == 0 {
        std::ptr::null()
    } else {
        log.as_mut_ptr().cast_const()
    };
    let count = u32::try_from(code.len()).map_err(io::Error::other)?;
    let mut attributes = Attributes::new()
        .u32(0, PROG_TYPE_XDP)
        .u32(4, count)
        .pointer(8, code.as_ptr())
        .pointer(16, LICENCE.as_ptr())
        .u32(24, level)
        .u32(28, log_bytes)
        .pointer(32, log_at)
        .name(48, PROGRAM_NAME)
        .u32(68, ATTACH_XDP);
    // SAFETY: `code` holds `count` instructions of eight bytes (repr(C)), the
    // licence ends in a zero, and the kernel writes at most `log_bytes` into
    // `log`, which is borrowed mutably; all outlive the call.
    unsafe { attributes.call(PROG_LOAD) }.map(owned)
}

/// Which of the two ways a program is attached in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before there is an skb.
    Native,
    /// In the network core, on an skb; every device can do that.
    Generic,
}

impl Mode {
    /// The word in the CSV.
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_DRV_MODE` or `XDP_FLAGS_SKB_MODE`
    fn flag(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// A program attached to an interface, as long as this exists.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches in exactly this mode. The interface is looked up in the
    /// calling thread's network namespace.
    ///
    /// # Errors
    /// EBUSY or EEXIST when the interface has an XDP program already.
    pub fn attach(
        program: &Program,
        interface: u32,
        mode: Mode,
    ) -> Result<Self, BpfError> {
        let mut attributes = Attributes::new()
            .fd(0, program.0.as_fd())
            .u32(4, interface)
            .u32(8, ATTACH_XDP)
            .u32(12, mode.flag());
        // SAFETY: no pointers.
        let fd = unsafe { attributes.call(LINK_CREATE) };
        fd.map(|fd| Self(owned(fd))).map_err(BpfError::Link)
    }

    /// The interface that it is attached to; 0 once that is gone.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn interface(&self) -> Result<u32, BpfError> {
        // struct bpf_link_info: type 0, id 4, program's id 8, interface 16.
        let info = info::<24>(self.0.as_fd())
            .map_err(|source| BpfError::Info { what: "link", source })?;
        Ok(word(&info, 16))
    }
}

/// The first bytes of what the kernel tells of an object.
fn info<const BYTES: usize>(fd: BorrowedFd<'_>) -> io::Result<[u8; BYTES]> {
    let mut info = [0; BYTES];
    let bytes = u32::try_from(BYTES).map_err(io::Error::other)?;
    let mut attributes = Attributes::new()
        .fd(0, fd)
        .u32(4, bytes)
        .pointer(8, info.as_mut_ptr().cast_const());
    // SAFETY: the kernel writes at most `bytes` to `info`, which is a local.
    unsafe { attributes.call(OBJ_GET_INFO_BY_FD) }?;
    debug_assert!(attributes.u32_at(4) <= bytes, "no more than was asked");
    Ok(info)
}

fn word(info: &[u8], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&info[offset..offset + 4]);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests ask the kernel for beyond that.

    use super::*;

    const PROG_TEST_RUN: libc::c_int = 10;
    const PROG_GET_NEXT_ID: libc::c_int = 11;
    const PROG_GET_FD_BY_ID: libc::c_int = 13;

    /// The filter, or a word about the skipped test.
    pub(crate) fn load_or_skip(filter: &Filter) -> Option<Program> {
        let loaded =
            SocketMap::new(1).and_then(|map| Program::load(filter, &map));
        match loaded {
            Ok(program) => Some(program),
            Err(error)
                if matches!(
                    error.source_error().raw_os_error(),
                    Some(libc::EPERM | libc::ENOSYS)
                ) =>
            {
                eprintln!("SKIPPED: this test loads a BPF program: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a program on a frame and says what it returned.
    pub(crate) fn run(program: &Program, frame: &[u8]) -> io::Result<u32> {
        let bytes = u32::try_from(frame.len()).expect("a frame");
        let mut attributes = Attributes::new()
            .fd(0, program.0.as_fd())
            .u32(8, bytes)
            .pointer(16, frame.as_ptr());
        // SAFETY: the kernel reads `bytes` of `frame` and, with no output
        // buffer given, writes nothing but the attributes.
        unsafe { attributes.call(PROG_TEST_RUN) }?;
        Ok(attributes.u32_at(4))
    }

    /// The ids of all programs with our name that the kernel has.
    pub(crate) fn our_programs() -> io::Result<Vec<u32>> {
        let mut ours = Vec::new();
        let mut last = 0;
        loop {
            let mut attributes = Attributes::new().u32(0, last);
            // SAFETY: no pointers.
            match unsafe { attributes.call(PROG_GET_NEXT_ID) } {
                Ok(_) => last = attributes.u32_at(4),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                    return Ok(ours);
                }
                Err(error) => return Err(error),
            }
            let mut attributes = Attributes::new().u32(0, last);
            // SAFETY: no pointers.
            let fd = match unsafe { attributes.call(PROG_GET_FD_BY_ID) } {
                Ok(fd) => owned(fd),
                // Gone since it was found.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) => return Err(error),
            };
            // struct bpf_prog_info: name 64.
            let info = info::<80>(fd.as_fd())?;
            if info[64..].starts_with(PROGRAM_NAME.as_bytes()) {
                ours.push(last);
            }
        }
    }

    #[test]
    fn a_refused_program_comes_with_the_verifiers_words() {
        let Some(_) = load_or_skip(&Filter::of_port(1)) else { return };
        let mut code = super::super::instruction::Assembler::default();
        // R0 was never set.
        code.exit();
        let code = code.finish();
        let mut log = vec![0; LOG_BYTES];
        assert!(load(&code, &mut log).is_err());
        let log = CStr::from_bytes_until_nul(&log).expect("text");
        assert!(log.to_string_lossy().contains("R0"), "{log:?}");
    }

    #[test]
    fn a_program_has_an_id_and_is_gone_when_dropped() {
        let Some(program) = load_or_skip(&Filter::of_port(1)) else { return };
        let id = program.id().expect("id");
        assert!(our_programs().expect("walk").contains(&id));
        drop(program);
        // The last reference is put after a grace period.
        for _ in 0..2_000 {
            if !our_programs().expect("walk").contains(&id) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("program {id} is still there after 20 s");
    }

    #[test]
    fn a_map_needs_a_socket() {
        let Some(_) = load_or_skip(&Filter::of_port(1)) else { return };
        let map = SocketMap::new(1).expect("map");
        let file = std::fs::File::open("/dev/null").expect("file");
        let error = map.insert(0, file.as_fd()).expect_err("no socket");
        assert!(error.to_string().contains("queue 0"), "{error}");
    }
}
