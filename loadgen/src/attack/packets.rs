//! IPv4 packets written by hand, for what sockets do not send: forged sources, fragments, half a TCP handshake.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of an IPv4 header without options.
pub const IP_HEADER_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_HEADER_LEN: usize = 8;
const TCP_HEADER_LEN: usize = 20;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const TTL: u8 = 64;
const TCP_SYN: u8 = 2;
/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// Which part of a datagram a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment, to which the others never come.
    First,
    /// A later fragment, of which the first never comes; its offset in units of eight bytes.
    Later(u16),
}

/// A UDP datagram in one packet, or a fragment of one.
#[must_use]
pub fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8], part: Part, id: u16) -> Vec<u8> {
    let len = UDP_HEADER_LEN + payload.len();
    let mut segment = Vec::with_capacity(len);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend((len as u16).to_be_bytes());
    // No checksum, as IPv4 allows.
    segment.extend([0, 0]);
    segment.extend(payload);
    let flags = match part {
        Part::Whole => 0,
        Part::First => MORE_FRAGMENTS,
        Part::Later(offset) => MORE_FRAGMENTS | offset,
    };
    if part != Part::Whole {
        // All fragments but the last are multiples of eight bytes.
        segment.resize(segment.len().next_multiple_of(8), 0);
    }
    ip(*from.ip(), *to.ip(), PROTOCOL_UDP, flags, id, &segment)
}

/// The first packet of a TCP handshake.
#[must_use]
pub fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(TCP_HEADER_LEN);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([(TCP_HEADER_LEN as u8 / 4) << 4, TCP_SYN]);
    segment.extend(u16::MAX.to_be_bytes());
    segment.extend([0; 4]);
    let pseudo = [&from.ip().octets()[..], &to.ip().octets(), &[0, PROTOCOL_TCP, 0, TCP_HEADER_LEN as u8]].concat();
    let sum = checksum(&[pseudo, segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(*from.ip(), *to.ip(), PROTOCOL_TCP, 0, 0, &segment)
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, flags: u16, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(IP_HEADER_LEN + payload.len());
    packet.extend([0x45, 0]);
    packet.extend(((IP_HEADER_LEN + payload.len()) as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(flags.to_be_bytes());
    packet.extend([TTL, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 19, 0, 1), 4000);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 2), 9001);

    #[test]
    fn headers_sum_to_zero_as_a_receiver_checks_them() {
        let packet = udp(FROM, TO, b"hello", Part::Whole, 7);
        assert_eq!(packet.len(), 33);
        assert_eq!(checksum(&packet[..IP_HEADER_LEN]), 0);
        let packet = syn(FROM, TO, 1);
        assert_eq!(checksum(&packet[..IP_HEADER_LEN]), 0);
        let pseudo = [&packet[12..20], &[0, PROTOCOL_TCP, 0, 20]].concat();
        assert_eq!(checksum(&[&pseudo[..], &packet[IP_HEADER_LEN..]].concat()), 0);
    }

    #[test]
    fn a_fragment_says_where_it_belongs() {
        let first = udp(FROM, TO, &[0; 11], Part::First, 9);
        assert_eq!((first[6], first[7], first.len()), (0x20, 0, 44));
        let later = udp(FROM, TO, &[0; 11], Part::Later(185), 9);
        assert_eq!(u16::from_be_bytes([later[6], later[7]]), 0x2000 | 185);
    }
}
