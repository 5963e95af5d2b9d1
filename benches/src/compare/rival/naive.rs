//! One datagram a turn: `recvfrom`, `sendto`. What one writes first.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use wire::beacon::ENDPOINT_MESSAGE_MAX;

use super::{DATAGRAM_BYTES, Endpoints, SHRINK, Verdict};
use crate::udp::Socket;

pub(super) fn run(listen: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::bind(listen, false)?.as_std()?;
    let mut endpoints = Endpoints::default();
    let (mut buffer, mut reply) = ([0; DATAGRAM_BYTES], [0; ENDPOINT_MESSAGE_MAX]);
    loop {
        let (len, SocketAddr::V4(from)) = socket.recv_from(&mut buffer)? else { continue };
        // What cannot be sent is lost, as in any relay.
        let _ = match endpoints.decide(from, &mut buffer[..len], &mut reply) {
            Verdict::Forward(to) => socket.send_to(&buffer[SHRINK..len], to),
            Verdict::Answer(len) => socket.send_to(&reply[..len], from),
            Verdict::Drop => Ok(0),
        };
    }
}
