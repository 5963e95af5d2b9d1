//! The host's addresses, at the start and whenever they change (netlink), as endpoints of the tunnel that peers in the
//! same networks may reach directly.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::core::Core;
use super::sockets::Sockets;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` of rtnetlink(7).
const LINK_AND_ADDRESS_GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Changes come in flocks; this long after the first all are taken as one.
const SETTLING: Duration = Duration::from_millis(200);
/// Endpoints that the node is told.
const ENDPOINTS_MAX: usize = 16;
/// How often addresses are looked at where the kernel does not tell of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Tells the node its endpoints, now and after each change.
pub async fn follow(core: Rc<Core>, sockets: Rc<Sockets>) {
    let changes = match Changes::subscribe() {
        Ok(changes) => Some(changes),
        Err(error) => {
            tracing::info!(%error, "the kernel does not tell of new addresses here; looking at them now and then");
            None
        }
    };
    let mut known = None;
    loop {
        let endpoints = endpoints(&host_addresses(), &sockets);
        if known.as_ref() != Some(&endpoints) {
            tracing::debug!(?endpoints, "local endpoints");
            if known.is_some() {
                // Before the node registers anew, which has to leave from the new address.
                core.directory().reconnect();
            }
            core.act(|node, now| node.set_local_endpoints(now, &endpoints));
            known = Some(endpoints);
        }
        match &changes {
            Some(changes) if changes.wait().await.is_ok() => {
                sleep(SETTLING).await;
                // What has come meanwhile is part of the same change.
                while let Ok(Ok(())) = timeout(Duration::ZERO, changes.wait()).await {}
            }
            _ => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Where peers in the networks of `addresses` find the tunnel. Loopback and link-local addresses only where there is
/// nothing else.
fn endpoints(addresses: &[IpAddr], sockets: &Sockets) -> Vec<SocketAddr> {
    let wide: Vec<_> = addresses.iter().filter(|ip| is_wide(ip)).collect();
    let chosen = if wide.is_empty() { addresses.iter().collect() } else { wide };
    chosen.into_iter().filter_map(|ip| sockets.endpoint_at(*ip)).take(ENDPOINTS_MAX).collect()
}

fn is_wide(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_loopback(),
    }
}

/// The addresses of all interfaces that are up, in the kernel's order; none where it does not tell.
fn host_addresses() -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let ip =
            interface.address.as_ref().and_then(ip_of).filter(|_| interface.flags.contains(InterfaceFlags::IFF_UP));
        if let Some(ip) = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !addresses.contains(ip)) {
            addresses.push(ip);
        }
    }
    addresses
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}

/// Tells when links or addresses change.
struct Changes {
    netlink: AsyncFd<OwnedFd>,
}

impl Changes {
    fn subscribe() -> io::Result<Self> {
        let netlink = nix::sys::socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        nix::sys::socket::bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, LINK_AND_ADDRESS_GROUPS))?;
        #[expect(deprecated, reason = "unsound for values that do not own their descriptor; this one does")]
        let netlink = AsyncFd::with_interest(netlink, Interest::READABLE)?;
        Ok(Self { netlink })
    }

    /// Waits for the next change. What changed is not said: read the addresses again.
    async fn wait(&self) -> io::Result<()> {
        let mut message = [0; 4096];
        self.netlink
            .async_io(Interest::READABLE, |netlink| {
                match nix::sys::socket::recv(netlink.as_raw_fd(), &mut message, MsgFlags::empty()) {
                    // A lost message is a change, not an error.
                    Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::Listen;

    #[tokio::test]
    async fn loopback_and_link_local_addresses_are_a_last_resort() {
        let sockets = Sockets::bind(Listen::Anywhere(0)).unwrap();
        let port = sockets.local_addresses().next().unwrap().port();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = [ip("127.0.0.1"), ip("169.254.1.1"), ip("192.0.2.7")];
        assert_eq!(endpoints(&all, &sockets), [SocketAddr::new(ip("192.0.2.7"), port)]);
        assert_eq!(endpoints(&all[..2], &sockets).len(), 2);
    }

    #[tokio::test]
    async fn a_socket_of_one_address_has_one_endpoint() {
        let sockets = Sockets::bind(Listen::At("127.0.0.1:0".parse().unwrap())).unwrap();
        let port = sockets.local_addresses().next().unwrap().port();
        let addresses = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        assert_eq!(endpoints(&addresses, &sockets), [SocketAddr::from(([127, 0, 0, 1], port))]);
    }
}
