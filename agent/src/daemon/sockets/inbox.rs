//! Datagrams in: batches of buffers that the kernel fills, each with one datagram or with a run of equal ones.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, UdpSockRef};
use tokio::io::Interest;

use super::Sockets;

/// Buffers of one system call, …
const BATCH: usize = 8;
/// … each with room for the longest run.
const BUFFER_BYTES: usize = 64 << 10;
/// System calls for one socket before others have their turn.
const ROUNDS_MAX: usize = 4;

/// The buffers, used again and again.
#[derive(Debug)]
pub struct Inbox {
    buffers: Box<[u8]>,
    metas: [RecvMeta; BATCH],
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffers: vec![0; BATCH * BUFFER_BYTES].into(), metas: [RecvMeta::default(); BATCH] }
    }
}

impl Inbox {
    /// Gives what has come to `take`, datagram by datagram; a bounded number, so that the rest of the daemon has its turn.
    pub fn receive(&mut self, sockets: &Sockets, mut take: impl FnMut(SocketAddr, &mut [u8])) {
        for socket in sockets.all() {
            for _ in 0..ROUNDS_MAX {
                let mut rest = self.buffers.chunks_exact_mut(BUFFER_BYTES);
                let mut parts: [IoSliceMut<'_>; BATCH] =
                    std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
                let metas = &mut self.metas;
                let received = socket
                    .io
                    .try_io(Interest::READABLE, || socket.state.recv(UdpSockRef::from(&socket.io), &mut parts, metas));
                let count = match received {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An error of an earlier send, told here; the error queue has its details.
                    Err(_) => continue,
                };
                for (buffer, meta) in self.buffers.chunks_exact_mut(BUFFER_BYTES).zip(&self.metas).take(count) {
                    let run = &mut buffer[..meta.len.min(BUFFER_BYTES)];
                    // An empty datagram says nothing, and has no stride.
                    run.chunks_mut(meta.stride.max(1)).for_each(|datagram| take(meta.addr, datagram));
                }
                if count < BATCH {
                    break;
                }
            }
        }
    }
}
