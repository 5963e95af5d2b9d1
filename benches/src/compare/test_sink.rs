//! For tests: one socket that stands for every destination.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};

pub(crate) struct Sink(UdpSocket);

/// A datagram that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) payload: Vec<u8>,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
}

impl Sink {
    pub(crate) fn bind(port: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        setsockopt(&socket, Ipv4PacketInfo, &true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(socket)
    }

    /// Waits for the next; panics when none comes for a long time.
    pub(crate) fn receive(&self) -> Arrived {
        let mut payload = [0; 64];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(&mut payload)];
        let message =
            recvmsg::<SockaddrIn>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
        let destination = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())),
            _ => None,
        });
        let (bytes, source) = (message.bytes, message.address.unwrap().ip());
        Arrived { payload: payload[..bytes].to_vec(), source, destination: destination.unwrap() }
    }
}
