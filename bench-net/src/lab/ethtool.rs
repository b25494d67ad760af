//! What only an ioctl gives: offloads, the driver, its own counters, and an
//! address without a dump of all.
//!
//! Layouts and numbers are from `linux/ethtool.h`.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use super::error::LabError;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
/// `struct ethtool_drvinfo` has 196 bytes.
const DRIVER_INFO_WORDS: usize = 49;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETH_SS_STATS: u32 = 1;
const ETH_GSTRING_LEN: usize = 32;

/// More counters than any driver has: the kernel's answer is not believed
/// beyond this.
const COUNTERS_MAX: u32 = 4_096;

/// An interface, and a socket of its namespace to ask through.
#[derive(Debug)]
pub(super) struct Ethtool {
    socket: OwnedFd,
    name: String,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_sset_info` asking for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    length: u32,
}

impl Ethtool {
    /// An interface of the namespace in which the socket was made.
    pub(super) fn new(socket: OwnedFd, name: String) -> Self {
        Self { socket, name }
    }

    /// Whether the sender computes UDP checksums in software (off) or leaves
    /// them to be filled in by nobody (on): frames that are read off the link
    /// as they are need them.
    pub(super) fn set_tx_checksum(&self, on: bool) -> Result<(), LabError> {
        self.set(ETHTOOL_STXCSUM, on, "tx checksum offload")
    }

    /// Generic receive offload; on veth it also switches the receiving side
    /// to NAPI.
    pub(super) fn set_gro(&self, on: bool) -> Result<(), LabError> {
        self.set(ETHTOOL_SGRO, on, "generic receive offload")
    }

    /// Whether generic receive offload is on.
    pub(super) fn gro(&self) -> Result<bool, LabError> {
        let mut value = Value { command: ETHTOOL_GGRO, data: 0 };
        // SAFETY: the command reads a `struct ethtool_value`, which this is.
        unsafe { self.call(&raw mut value) }
            .map_err(|e| self.refused("generic receive offload", e))?;
        Ok(value.data != 0)
    }

    /// Who drives the interface.
    pub(super) fn driver(&self) -> Result<String, LabError> {
        let mut words = [0_u32; DRIVER_INFO_WORDS];
        words[0] = ETHTOOL_GDRVINFO;
        // SAFETY: the command writes a `struct ethtool_drvinfo`, which has
        // this size.
        unsafe { self.call(words.as_mut_ptr()) }
            .map_err(|e| self.refused("driver", e))?;
        // Behind the command: a text of 32 bytes.
        let text: Vec<u8> = words[1..9]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Queues that share what arrives; 1 where the driver knows no other
    /// number.
    pub(super) fn receive_queues(&self) -> Result<u32, LabError> {
        let mut channels = Channels {
            command: ETHTOOL_GCHANNELS,
            most: [0; 4],
            receive: 0,
            transmit: 0,
            other: 0,
            combined: 0,
        };
        // SAFETY: the command writes a `struct ethtool_channels`, which this
        // is.
        match unsafe { self.call(&raw mut channels) } {
            Ok(()) => Ok(channels.receive + channels.combined),
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
            Err(e) => Err(self.refused("channels", e)),
        }
    }

    fn set(
        &self,
        command: u32,
        on: bool,
        what: &'static str,
    ) -> Result<(), LabError> {
        let mut value = Value { command, data: on.into() };
        // SAFETY: both commands take a `struct ethtool_value`, which this is.
        unsafe { self.call(&raw mut value) }.map_err(|e| self.refused(what, e))
    }

    /// The driver's counters by name; none where the driver has none.
    pub(super) fn counters(&self) -> Result<Vec<(String, u64)>, LabError> {
        self.read_counters().map_err(|e| self.refused("counters", e))
    }

    fn read_counters(&self) -> io::Result<Vec<(String, u64)>> {
        let mut info = SetInfo {
            command: ETHTOOL_GSSET_INFO,
            reserved: 0,
            mask: 1 << ETH_SS_STATS,
            length: 0,
        };
        // SAFETY: `info` is a `struct ethtool_sset_info` with room for the one
        // length that its mask asks for.
        match unsafe { self.call(&raw mut info) } {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Ok(Vec::new());
            }
            other => other?,
        }
        let count = if info.mask == 0 { 0 } else { info.length };
        let count = usize::try_from(count.min(COUNTERS_MAX))
            .map_err(io::Error::other)?;
        let names = self.strings(count)?;
        let values = self.values(count)?;
        Ok(names.into_iter().zip(values).collect())
    }

    /// `struct ethtool_gstrings`: command, set, length (each u32), strings.
    fn strings(&self, count: usize) -> io::Result<Vec<String>> {
        const HEAD: usize = 3 * size_of::<u32>();
        let bytes = HEAD + count * ETH_GSTRING_LEN;
        let mut words = vec![0_u32; bytes.div_ceil(size_of::<u32>())];
        words[0] = ETHTOOL_GSTRINGS;
        words[1] = ETH_SS_STATS;
        words[2] = u32::try_from(count).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most as many strings as the length
        // field says (it checks the driver's number against it), and the
        // vector has room for them.
        unsafe { self.call(words.as_mut_ptr()) }?;
        let text: Vec<u8> =
            words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(text
            .chunks_exact(ETH_GSTRING_LEN)
            .take(count)
            .map(|name| {
                let end =
                    name.iter().position(|b| *b == 0).unwrap_or(name.len());
                String::from_utf8_lossy(&name[..end]).into_owned()
            })
            .collect())
    }

    /// `struct ethtool_stats`: command, number (each u32), values of u64.
    fn values(&self, count: usize) -> io::Result<Vec<u64>> {
        let mut words = vec![0_u64; 1 + count];
        let number = u32::try_from(count).map_err(io::Error::other)?;
        let head: [u32; 2] = [ETHTOOL_GSTATS, number];
        // Both halves of the first word, in memory order.
        let mut first = [0; 8];
        first[..4].copy_from_slice(&head[0].to_ne_bytes());
        first[4..].copy_from_slice(&head[1].to_ne_bytes());
        words[0] = u64::from_ne_bytes(first);
        // SAFETY: the kernel writes as many values as the driver has, which
        // the vector has room for: the number of counters hangs on the number
        // of queues, which nobody changes on an interface of the lab.
        unsafe { self.call(words.as_mut_ptr()) }?;
        Ok(words.split_off(1))
    }

    /// SIOCETHTOOL with a command structure.
    ///
    /// # Safety
    /// `data` must point to the structure that its command field names, with
    /// all the room that the kernel will write to.
    unsafe fn call<T>(&self, data: *mut T) -> io::Result<()> {
        let mut request = naming(&self.name);
        request.ifr_ifru.ifru_data = data.cast();
        // SAFETY: the request names an interface and points to the caller's
        // structure, which is live and large enough by this function's
        // contract.
        let status = unsafe {
            libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request)
        };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn refused(&self, what: &'static str, source: io::Error) -> LabError {
        LabError::Ethtool { what, name: self.name.clone(), source }
    }
}

/// The IPv4 address of an interface of the calling thread's namespace, if it
/// has one.
pub(super) fn ipv4_address(name: &str) -> io::Result<Option<Ipv4Addr>> {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else {
        // A kernel without IPv4.
        return Ok(None);
    };
    let mut request = naming(name);
    // SAFETY: the request names an interface and has room for an address.
    let status = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFADDR as libc::Ioctl,
            &raw mut request,
        )
    };
    if status < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the kernel has just written a socket address there; all its
    // bytes are initialised (`naming`).
    let address = unsafe { request.ifr_ifru.ifru_addr };
    // `struct sockaddr_in`: behind the port, which is the first two bytes.
    let [_, _, a, b, c, d, ..] = address.sa_data.map(i8::cast_unsigned);
    Ok(Some(Ipv4Addr::new(a, b, c, d)))
}

/// A request about an interface, with all else zero.
fn naming(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of that C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    for (place, byte) in places.zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request
}
