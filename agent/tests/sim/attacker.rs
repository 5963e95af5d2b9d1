//! Somebody who hears everything, owns a host of the internet, and can put any sender's address on a datagram.
//!
//! What it does not do is forge an answer to a discover in the relay's name: that message has no protection, and all it
//! could spoil is the endpoint that a node announces until the next one.

use std::collections::VecDeque;
use std::net::SocketAddr;

use agent::identity::Identity;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::Message;
use wire::codec::Writer;
use wire::packet::{Flags, Packet, Protocol, VERSION};
use wire::tunnel::{Frame, Nonce, SignedKeyExchange, key_exchange_text};

use crate::chance::Chance;
use crate::host::HostId;
use crate::world::{Datagram, World};

const RECORDED_MAX: usize = 128;
const ATTACKS: u64 = 16;

/// What has been heard on all wires of late.
#[derive(Debug, Default)]
pub struct Recorder {
    pub on: bool,
    /// Who sends a copy of everything ahead of it, from its own address.
    pub racer: Option<HostId>,
    heard: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Recorder {
    pub fn record(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.on {
            if self.heard.len() == RECORDED_MAX {
                self.heard.pop_front();
            }
            self.heard.push_back((from, to, bytes.to_vec()));
        }
    }
}

pub struct Attacker {
    pub host: HostId,
    victims: Vec<HostId>,
    identity: Identity,
    chance: Chance,
    pub attacks: u64,
}

impl Attacker {
    /// Speaks from a raw host, against these.
    pub fn new(world: &mut World, host: HostId, victims: &[HostId]) -> Self {
        world.recorder.on = true;
        let mut chance = Chance::new(world.seed).fork(7_777);
        let identity = Identity::from_seed(&chance.bytes());
        Self { host, victims: victims.to_vec(), identity, chance, attacks: 0 }
    }

    /// Does one thing it should not.
    pub fn strike(&mut self, world: &mut World) {
        let victim = *self.chance.pick(&self.victims);
        let peer = *self.chance.pick(&self.victims);
        let ids = (world.hosts[victim.0].id(), world.hosts[peer.0].id());
        let (Some(victim_id), Some(peer_id)) = ids else { return };
        let (Some(at), Some(peer_at)) = (endpoint(world, victim), endpoint(world, peer)) else { return };
        self.attacks += 1;
        let relay = self.chance.pick(&world.relays).beacon();
        let own = world.hosts[self.host.0].socket();
        let heard = self.heard(world);
        match self.chance.below(ATTACKS) {
            0 => world.send(self.host, at, heard),
            1 => {
                let damaged = self.damaged(heard);
                world.send(self.host, at, damaged);
            }
            2 => world.forge(Datagram { from: peer_at, to: at, bytes: heard }),
            3 => {
                let damaged = self.damaged(heard);
                world.forge(Datagram { from: peer_at, to: at, bytes: damaged });
            }
            4 => {
                let x25519 = self.chance.bytes();
                world.send(self.host, at, frame(&Frame::KeyExchange { sender: peer_id, x25519: &x25519 }));
            }
            5 => {
                let offer = self.offer(peer_id);
                world.send(self.host, at, offer);
            }
            6 => {
                let offer = self.offer(peer_id);
                let deliver = message(&Message::Deliver { sender: peer_id, inner: &offer });
                world.forge(Datagram { from: relay, to: at, bytes: deliver });
            }
            7 => world.send(self.host, at, message(&Message::DiscoverReply(own))),
            8 => {
                let from = if self.chance.per_mille(500) { relay } else { own };
                world.forge(Datagram { from, to: at, bytes: message(&Message::PunchCommand(own)) });
            }
            9 => {
                let relayed = Message::Relay { sender: peer_id, dest: victim_id, inner: inner(&heard) };
                world.send(self.host, relay, message(&relayed));
            }
            10 => {
                let deliver = Message::Deliver { sender: peer_id, inner: inner(&heard) };
                let from = if self.chance.per_mille(500) { relay } else { own };
                world.forge(Datagram { from, to: at, bytes: message(&deliver) });
            }
            11 => {
                let plain = self.plain(world, peer_id, victim_id);
                world.send(self.host, at, plain);
            }
            12 => world.send(self.host, relay, message(&Message::Discover { node: peer_id, extended: true })),
            13 => {
                let punch = Message::PunchRequest { requester: peer_id, target: victim_id };
                world.send(self.host, relay, message(&punch));
            }
            14 => {
                let sealed = self.sealed(peer_id);
                let deliver = message(&Message::Deliver { sender: peer_id, inner: &sealed });
                let (from, bytes) = if self.chance.per_mille(500) { (relay, deliver) } else { (own, sealed) };
                world.forge(Datagram { from, to: at, bytes });
            }
            _ => {
                let len = self.chance.below(200) as usize;
                let garbage = (0..len).map(|_| self.chance.draw() as u8).collect();
                world.send(self.host, at, garbage);
            }
        }
    }

    fn heard(&mut self, world: &World) -> Vec<u8> {
        let heard = &world.recorder.heard;
        if heard.is_empty() {
            return b"PILP".to_vec();
        }
        heard[self.chance.below(heard.len() as u64) as usize].2.clone()
    }

    fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.chance.below(bytes.len().max(1) as u64) as usize;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.chance.below(8);
        }
        bytes
    }

    /// A key exchange in another's name, signed with a key of our own.
    fn offer(&mut self, sender: NodeId) -> Vec<u8> {
        let x25519 = self.chance.bytes();
        let signature = self.identity.sign(&key_exchange_text(sender, &x25519));
        let ed25519 = self.identity.public_key();
        frame(&Frame::SignedKeyExchange(SignedKeyExchange {
            sender,
            x25519: &x25519,
            ed25519: &ed25519,
            signature: &signature,
        }))
    }

    /// A sealed frame that nobody has sealed, with the highest counter.
    fn sealed(&mut self, sender: NodeId) -> Vec<u8> {
        let ciphertext: [u8; 80] = self.chance.bytes();
        let nonce = Nonce { prefix: self.chance.bytes(), counter: u64::MAX };
        frame(&Frame::Sealed { sender, nonce, ciphertext: &ciphertext })
    }

    /// A SYN in clear to a port that is bound.
    fn plain(&mut self, world: &World, source: NodeId, destination: NodeId) -> Vec<u8> {
        let port = world.flows.last().map_or(1000, |flow| flow.port);
        let packet = Packet {
            version: VERSION,
            flags: Flags::SYN,
            protocol: Protocol::STREAM,
            source: SocketAddress { address: source.address(), port: self.chance.between(49_152, 65_535) as u16 },
            destination: SocketAddress { address: destination.address(), port },
            sequence: 1,
            acknowledgement: 0,
            window_segments: 64,
            payload: &[],
        };
        let mut bytes = vec![0; packet.encoded_len()];
        packet.encode(&mut Writer::new(&mut bytes));
        frame(&Frame::Plain { packet: &bytes })
    }
}

/// Where datagrams from elsewhere reach a host, as far as its NAT lets them.
fn endpoint(world: &World, host: HostId) -> Option<SocketAddr> {
    let host = &world.hosts[host.0];
    match &world.sites[host.site.0].nat {
        None => Some(host.socket()),
        Some(_) => host.node()?.mapped_endpoint(),
    }
}

/// The frame in a relayed datagram.
fn inner(datagram: &[u8]) -> &[u8] {
    match Message::decode(datagram) {
        Ok(Message::Relay { inner, .. }) => inner,
        _ => datagram,
    }
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut Writer::new(&mut bytes));
    bytes
}

pub fn message(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let mut writer = Writer::new(&mut bytes);
    message.encode(&mut writer);
    let len = writer.len();
    bytes.truncate(len);
    bytes
}
