//! What applications do: a stream between two hosts that carries so many known bytes each way.

use agent::Time;
use agent::node::{Node, StreamId};
use agent::stream::End;

use crate::host::HostId;
use crate::watch::{fill, fits};

const CHUNK_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Dialler,
    Acceptor,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Half {
    pub stream: Option<StreamId>,
    pub written: u64,
    pub read: u64,
    pub ended: Option<End>,
    closed: bool,
}

/// A stream that is dialled, a question of so many bytes, an answer of so many bytes. The answer begins with the first
/// byte of the question; who dialled closes when all of both has come.
#[derive(Clone, Debug)]
pub struct Flow {
    pub hosts: [HostId; 2],
    /// Each flow has a port of its own, from which its content follows.
    pub port: u16,
    /// What the dialler sends, what the acceptor sends.
    pub bytes: [u64; 2],
    pub halves: [Half; 2],
    pub dialled_at: Time,
    pub opened_at: Option<Time>,
    pub answered_at: Option<Time>,
    pub finished_at: Option<Time>,
}

impl Flow {
    pub fn new(now: Time, hosts: [HostId; 2], port: u16, bytes: [u64; 2]) -> Self {
        Self {
            hosts,
            port,
            bytes,
            halves: [Half::default(); 2],
            dialled_at: now,
            opened_at: None,
            answered_at: None,
            finished_at: None,
        }
    }

    /// Everything has arrived, at both ends.
    pub fn is_delivered(&self) -> bool {
        self.halves[0].read == self.bytes[1] && self.halves[1].read == self.bytes[0]
    }

    /// It will not be delivered any more.
    pub fn has_failed(&self) -> bool {
        !self.is_delivered() && self.halves.iter().any(|half| half.ended.is_some())
    }

    pub const fn half(&mut self, side: Side) -> &mut Half {
        &mut self.halves[side as usize]
    }

    /// Bytes that have arrived, at both ends together.
    pub fn progress(&self) -> u64 {
        self.halves[0].read + self.halves[1].read
    }

    /// Writes as much as the stream takes.
    pub fn write(&mut self, now: Time, side: Side, node: &mut Node) {
        let tag = self.tag(side);
        let total = self.bytes[side as usize];
        let half = &mut self.halves[side as usize];
        let Some(stream) = half.stream.filter(|_| side == Side::Dialler || half.read > 0) else { return };
        let mut chunk = [0; CHUNK_BYTES];
        while half.written < total && half.ended.is_none() {
            let len = (total - half.written).min(CHUNK_BYTES as u64) as usize;
            fill(tag, half.written, &mut chunk[..len]);
            let taken = node.write(now, stream, &chunk[..len]);
            half.written += taken as u64;
            if taken < len {
                return;
            }
        }
    }

    /// Reads what there is, and checks it.
    ///
    /// # Panics
    /// If what is read is not what the other end wrote there.
    pub fn read(&mut self, now: Time, side: Side, node: &mut Node) {
        let other = if side == Side::Dialler { Side::Acceptor } else { Side::Dialler };
        let (tag, total) = (self.tag(other), self.bytes[other as usize]);
        let half = &mut self.halves[side as usize];
        let Some(stream) = half.stream else { return };
        let was_empty = half.read == 0;
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let len = node.read(now, stream, &mut chunk);
            if len == 0 {
                break;
            }
            assert!(fits(tag, half.read, &chunk[..len]), "port {}: byte {} is another's", self.port, half.read);
            half.read += len as u64;
            assert!(half.read <= total, "port {}: {} bytes of {total} have come", self.port, half.read);
        }
        if half.ended.is_none() {
            half.ended = node.stream_end(stream);
        }
        if side == Side::Dialler && self.answered_at.is_none() && half.read > 0 {
            self.answered_at = Some(now);
        }
        if was_empty && half.read > 0 && side == Side::Acceptor {
            self.write(now, side, node);
        }
        self.settle(now, side, node);
    }

    fn settle(&mut self, now: Time, side: Side, node: &mut Node) {
        let is_complete = self.halves[0].read == self.bytes[1] && self.halves[0].written == self.bytes[0];
        if self.is_delivered() && self.finished_at.is_none() {
            self.finished_at = Some(now);
        }
        let half = &mut self.halves[side as usize];
        let Some(stream) = half.stream else { return };
        if !half.closed && (half.ended.is_some() || (side == Side::Dialler && is_complete)) {
            half.closed = true;
            node.close(now, stream);
        }
    }

    const fn tag(&self, writer: Side) -> u64 {
        (self.port as u64) << 1 | writer as u64
    }
}
