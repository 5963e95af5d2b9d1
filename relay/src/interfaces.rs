//! The host's addresses, and word when they change (netlink).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use socket2::SockRef;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` of rtnetlink(7).
const LINK_AND_ADDRESS_GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// What is assumed where an interface does not tell its MTU.
const MTU_DEFAULT: usize = 1500;
const MTU_FOLDER: &str = "/sys/class/net";

/// An address of this host with its interface's MTU in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bytes of the largest IP packet its interface sends unfragmented.
    pub mtu: usize,
}

/// The addresses of all interfaces that are up, link-local ones left out: they mean nothing without an interface.
///
/// # Errors
/// What `getifaddrs` says.
pub fn host_addresses() -> io::Result<Vec<HostAddress>> {
    let mut mtus = BTreeMap::new();
    let mut addresses: Vec<HostAddress> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        if !interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(ip) = interface.address.as_ref().and_then(ip_of).filter(is_usable) else { continue };
        let mtu = *mtus.entry(interface.interface_name.clone()).or_insert_with(|| mtu_of(&interface.interface_name));
        if !addresses.iter().any(|address| address.ip == ip) {
            addresses.push(HostAddress { ip, mtu });
        }
    }
    Ok(addresses)
}

/// The MTU of the interface that carries `ip`.
#[must_use]
pub fn mtu_towards(ip: IpAddr) -> usize {
    let own = host_addresses().unwrap_or_default();
    own.iter().find(|address| address.ip == ip).map_or(MTU_DEFAULT, |address| address.mtu)
}

/// UDP payload bytes that fit into one IP packet of `mtu` bytes.
#[must_use]
pub const fn payload_max(ip: IpAddr, mtu: usize) -> usize {
    mtu.saturating_sub(if ip.is_ipv4() { 20 + 8 } else { 40 + 8 })
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn mtu_of(interface: &str) -> usize {
    // Labels such as eth0:1 are addresses of eth0.
    let device = interface.split(':').next().unwrap_or(interface);
    std::fs::read_to_string(format!("{MTU_FOLDER}/{device}/mtu"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(MTU_DEFAULT)
}

/// Whether this host speaks IPv6 at all.
#[must_use]
pub fn has_ipv6() -> bool {
    let any = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    std::net::UdpSocket::bind(any).is_ok()
}

/// Tells when links or addresses change.
#[derive(Debug)]
pub struct Changes {
    netlink: OwnedFd,
}

impl Changes {
    /// Begins to listen.
    ///
    /// # Errors
    /// What the kernel says to a netlink socket.
    pub fn subscribe() -> io::Result<Self> {
        let netlink = nix::sys::socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        nix::sys::socket::bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, LINK_AND_ADDRESS_GROUPS))?;
        Ok(Self { netlink })
    }

    /// Waits for the next change, no longer than `at_most`. What changed, if anything, is not said: read
    /// [`host_addresses`] again.
    ///
    /// # Errors
    /// What the kernel says; a lost message (`ENOBUFS`) is a change, not an error.
    pub fn wait(&self, at_most: Option<Duration>) -> io::Result<()> {
        SockRef::from(&self.netlink).set_read_timeout(at_most)?;
        let mut message = [0; 4096];
        match nix::sys::socket::recv(self.netlink.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR | nix::Error::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
