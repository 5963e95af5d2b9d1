//! The sockets' error queues: which destinations ICMP says cannot be reached.

use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use tokio::io::Interest;

use super::{Socket, Sockets};

/// Errors taken at once; more are taken the next time.
const ERRORS_MAX: usize = 64;
/// Room for one extended error and the address of whoever reports it.
const CONTROL_BYTES: usize = 256;
/// ICMP 3 and its codes "fragmentation needed", ICMPv6 1.
const UNREACHABLE_V4: u8 = 3;
const FRAGMENTATION_NEEDED_V4: u8 = 4;
const UNREACHABLE_V6: u8 = 1;

impl Sockets {
    /// Tells `unreachable` each destination that a datagram did not reach.
    pub fn take_errors(&self, mut unreachable: impl FnMut(SocketAddr)) {
        for socket in self.all() {
            for _ in 0..ERRORS_MAX {
                match socket.io.try_io(Interest::ERROR, || socket.take_error()) {
                    Ok(Some(destination)) => unreachable(destination),
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

impl Socket {
    /// One error: none that says a destination is unreachable, or its destination.
    pub(super) fn take_error(&self) -> std::io::Result<Option<SocketAddr>> {
        let mut control = [0; CONTROL_BYTES];
        // The datagram itself comes back with the error; a byte of it is enough.
        let mut start = [0; 1];
        let mut parts = [IoSliceMut::new(&mut start)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.io.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let is_unreachable = message.cmsgs()?.any(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) => {
                error.ee_origin == nix::libc::SO_EE_ORIGIN_ICMP
                    && error.ee_type == UNREACHABLE_V4
                    && error.ee_code != FRAGMENTATION_NEEDED_V4
            }
            ControlMessageOwned::Ipv6RecvErr(error, _) => {
                error.ee_origin == nix::libc::SO_EE_ORIGIN_ICMP6 && error.ee_type == UNREACHABLE_V6
            }
            _ => false,
        });
        Ok(message.address.as_ref().and_then(address_of).filter(|_| is_unreachable))
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::new(v4.ip(), v4.port()).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
}
