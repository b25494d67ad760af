//! The filter on an interface of the lab, and the socket that it feeds.

use harness::measure::trial::{Evidence, TrialError};

use super::{
    bpf::{BpfError, Link, Mode, Program, SocketMap},
    program::Filter,
    socket::{Config, Socket, SocketError, Transfer},
};
use crate::lab::{AttachedXdp, Lab, LabError, Side};

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The program.
    #[error("{0}; see the probe of this variant for what it needs")]
    Bpf(#[from] BpfError),
    /// Somebody else's program is there. It stays.
    #[error(
        "{interface} has an XDP program already: number {program}, {mode}; \
         end whoever attached it, or `ip link set dev {interface} xdp off`. \
         It is never replaced from here"
    )]
    Taken {
        /// The interface.
        interface: String,
        /// The program there.
        program: u32,
        /// How it is attached.
        mode: &'static str,
    },
    /// Looking at the interface.
    #[error(transparent)]
    Lab(#[from] LabError),
}

impl From<EndpointError> for TrialError {
    fn from(error: EndpointError) -> Self {
        Self::setup(error.to_string())
    }
}

/// A socket at queue 0 of one side of the lab; if it receives, or sends without
/// a copy, with the filter.
#[derive(Debug)]
pub struct Endpoint {
    /// The socket.
    pub socket: Socket,
    side: Side,
    transfer: Transfer,
    filter: Option<Attached>,
}

#[derive(Debug)]
struct Attached {
    mode: Mode,
    /// Detached and freed when these are dropped.
    link: Link,
    program: Program,
    _map: SocketMap,
}

impl Attached {
    fn new(
        lab: &Lab,
        config: &Config,
        side: Side,
        mode: Mode,
        port: u16,
        map: SocketMap,
    ) -> Result<Self, EndpointError> {
        let program = Program::load(&Filter::of_port(port), &map)?;
        let link = Link::attach(&program, config.interface, mode)
            .map_err(|error| explain(lab, side, error))?;
        Ok(Self { mode, link, program, _map: map })
    }
}

/// Queue 0 is the only one that is used: the lab has one.
const QUEUE: u32 = 0;

impl Endpoint {
    /// A socket that sends.
    ///
    /// In copy mode it needs no program at either end. A driver that takes
    /// packets out of our memory may send none unless one is attached to its
    /// own interface: igb's `igb_xsk_wakeup` says EINVAL. So there is one then,
    /// with no socket that it could feed, which passes all packets on.
    ///
    /// # Errors
    /// Socket or program cannot be had.
    pub fn sender(
        lab: &Lab,
        config: &Config,
        side: Side,
        mode: Mode,
        port: u16,
    ) -> Result<Self, EndpointError> {
        let socket = Socket::open(config)?;
        let transfer = config.transfer;
        let filter = match transfer {
            Transfer::Copy => None,
            Transfer::ZeroCopy => {
                let map = SocketMap::new(QUEUE + 1)?;
                Some(Attached::new(lab, config, side, mode, port, map)?)
            }
        };
        Ok(Self { socket, side, transfer, filter })
    }

    /// A socket that receives what is addressed to a UDP port of that side,
    /// whose namespace the calling thread is in.
    ///
    /// # Errors
    /// Socket or program cannot be had in that mode.
    pub fn receiver(
        lab: &Lab,
        config: &Config,
        side: Side,
        mode: Mode,
        port: u16,
    ) -> Result<Self, EndpointError> {
        let socket = Socket::open(config)?;
        let map = SocketMap::new(QUEUE + 1)?;
        // Before the program is attached: not one of our frames goes astray.
        map.insert(QUEUE, socket.as_fd())?;
        let filter = Attached::new(lab, config, side, mode, port, map)?;
        let transfer = config.transfer;
        Ok(Self { socket, side, transfer, filter: Some(filter) })
    }

    /// Reads back how program and socket work, and says so; where that is not
    /// what was asked for, the trial is degraded.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn prove(
        &self,
        lab: &Lab,
        evidence: &mut Evidence,
    ) -> Result<(), EndpointError> {
        let zero_copy = self.socket.zero_copy();
        evidence.prove("zero_copy", if zero_copy { "yes" } else { "no" });
        if zero_copy != (self.transfer == Transfer::ZeroCopy) {
            evidence.degraded.push(format!(
                "the kernel gave {:?} the other transfer than {:?}",
                self.side, self.transfer
            ));
        }
        if let Some(filter) = &self.filter {
            let program = filter.program.id()?;
            let interface = filter.link.interface()?;
            let seen = lab.xdp(self.side)?;
            let wanted = AttachedXdp { mode: filter.mode.word(), program };
            evidence.prove("xdp", seen.map_or("none", |seen| seen.mode));
            if seen != Some(wanted)
                || interface != lab.interface_index(self.side)
            {
                evidence.degraded.push(format!(
                    "asked for {wanted:?} on {}, found {seen:?} (the link \
                     is on interface {interface})",
                    lab.interface(self.side)
                ));
            }
        }
        Ok(())
    }
}

/// EBUSY: there is a program in that mode (or a link). EEXIST: there is one in
/// the other mode, and both at once are not allowed (`dev_xdp_attach`).
fn explain(lab: &Lab, side: Side, error: BpfError) -> EndpointError {
    let taken = matches!(
        error.source_error().raw_os_error(),
        Some(libc::EBUSY | libc::EEXIST)
    );
    match lab.xdp(side) {
        Ok(Some(AttachedXdp { mode, program })) if taken => {
            let interface = lab.interface(side).to_owned();
            EndpointError::Taken { interface, program, mode }
        }
        _ => error.into(),
    }
}
