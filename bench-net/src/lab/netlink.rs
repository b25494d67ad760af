//! One request over rtnetlink, and its answer.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::LabError;

/// A socket that stays in the namespace in which it was made, whichever thread
/// uses it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// A socket in the calling thread's namespace.
    pub(super) fn open() -> Result<Self, LabError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket =
            open().map_err(|error| refused("opening a socket", error))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's acknowledgement; what it
    /// answered before that, if anything.
    pub(super) fn request(
        &mut self,
        what: &str,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, LabError> {
        self.exchange(flags, message).map_err(|error| refused(what, error))
    }

    fn exchange(
        &mut self,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut message =
            NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = None;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                        .map_err(io::Error::other)?;
                // Messages are aligned to 4 bytes (NLMSG_ALIGN).
                let length = usize::try_from(message.header.length)
                    .map_err(io::Error::other)?
                    .next_multiple_of(4);
                rest = rest.get(length.max(4)..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answer),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    _ => {}
                }
            }
        }
    }
}

fn refused(what: &str, source: io::Error) -> LabError {
    LabError::Netlink { what: what.to_owned(), source }
}
