//! The bytes beside a datagram: which address it leaves from, which one it came to, when, from whom. Layouts of 64-bit
//! Linux (`man 3 cmsg`, `man 7 ip`, `man 7 ipv6`), read and written as plain bytes.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libc::c_int;

/// `struct cmsghdr`: length, level, type.
const CONTROL_HEADER_LEN: usize = 16;

/// A control message that names the source address of one datagram: `cmsghdr` and `in_pktinfo` or `in6_pktinfo`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct SourceControl {
    header: libc::cmsghdr,
    info: [u8; 24],
    len: usize,
}

impl SourceControl {
    /// The message for `source`.
    pub fn new(source: IpAddr) -> Self {
        let mut info = [0; 24];
        let (level, kind, info_len) = match source {
            IpAddr::V4(ip) => {
                // in_pktinfo: interface index, local address, header destination. Four bytes each.
                info[4..8].copy_from_slice(&ip.octets());
                (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
            }
            IpAddr::V6(ip) => {
                // in6_pktinfo: address, interface index.
                info[..16].copy_from_slice(&ip.octets());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
            }
        };
        let len = CONTROL_HEADER_LEN + info_len;
        Self {
            header: libc::cmsghdr { cmsg_len: len, cmsg_level: level, cmsg_type: kind },
            info,
            len: len.next_multiple_of(8),
        }
    }

    /// What `msg_control` and `msg_controllen` want.
    pub const fn as_raw(&mut self) -> (*mut libc::c_void, usize) {
        ((&raw mut *self).cast(), self.len)
    }
}

const _: () = assert!(size_of::<libc::cmsghdr>() == CONTROL_HEADER_LEN);

/// Reads `struct sockaddr_in` or `sockaddr_in6`.
pub fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    let ip: IpAddr = match c_int::from(family) {
        libc::AF_INET => (*name.get(4..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 => (*name.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Finds packet information and timestamp among control messages.
pub fn read_control(control: &[u8]) -> (Option<IpAddr>, Option<Duration>) {
    let (mut destination, mut stamp) = (None, None);
    for ControlMessage { level, kind, data } in (ControlMessages { rest: control }) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => stamp = read_timespec(data),
            // in_pktinfo: the destination in the datagram's header is the last of the three fields.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                destination = data.get(8..).and_then(<[u8]>::first_chunk::<4>).map(|ip| IpAddr::from(*ip));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                destination = data.first_chunk::<16>().map(|ip| IpAddr::from(*ip));
            }
            _ => {}
        }
    }
    (destination, stamp)
}

struct ControlMessage<'a> {
    level: c_int,
    kind: c_int,
    data: &'a [u8],
}

/// Walks `struct cmsghdr`s, each padded to a multiple of eight.
struct ControlMessages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ControlMessages<'a> {
    type Item = ControlMessage<'a>;

    fn next(&mut self) -> Option<ControlMessage<'a>> {
        let (header, _) = self.rest.split_first_chunk::<CONTROL_HEADER_LEN>()?;
        let len = usize::from_ne_bytes(*header.first_chunk()?);
        let level = c_int::from_ne_bytes(*header[8..].first_chunk()?);
        let kind = c_int::from_ne_bytes(*header[12..].first_chunk()?);
        let data = self.rest.get(CONTROL_HEADER_LEN..len)?;
        self.rest = self.rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some(ControlMessage { level, kind, data })
    }
}

fn read_timespec(data: &[u8]) -> Option<Duration> {
    let seconds = i64::from_ne_bytes(*data.first_chunk()?);
    let nanoseconds = i64::from_ne_bytes(*data.get(8..)?.first_chunk()?);
    Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
        let mut out = (CONTROL_HEADER_LEN + data.len()).to_ne_bytes().to_vec();
        out.extend(level.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    #[test]
    fn messages_are_found_in_any_order_among_others() {
        let address = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1, 0, 0, 0, 127, 0, 0, 1, 127, 64, 0, 9]);
        let time =
            message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[5_i64.to_ne_bytes(), 7_i64.to_ne_bytes()].concat());
        let other = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &[1, 2, 3, 4]);
        let expected = (Some(IpAddr::from([127, 64, 0, 9])), Some(Duration::new(5, 7)));
        assert_eq!(read_control(&[&address[..], &other, &time].concat()), expected);
        assert_eq!(read_control(&[&time[..], &address, &other].concat()), expected);
        assert_eq!(read_control(&[]), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..128), len in 0_usize..200) {
            let _ = read_name(&bytes);
            let _ = read_control(&bytes);
            let mut announced = len.to_ne_bytes().to_vec();
            announced.extend(bytes);
            let _ = read_control(&announced);
        }
    }
}
