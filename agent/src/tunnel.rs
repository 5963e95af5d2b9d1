//! Tunnels to all peers (section 3): which keys are exchanged when, what is sealed and opened, what is refused. A plain
//! value; its owner gives it datagrams, packets and the time, and does what [`Tunnels::poll_output`] says.
//!
//! | frame | rule |
//! |---|---|
//! | `PILS` | opened in place; handed up if its counter is new and the packet's source is the frame's sender |
//! | `PILS`, no session | dropped, and answered with our `PILA` |
//! | `PILA` | counts if the directory's key of the sender is in it and has signed it |
//! | `PILK` | never believed; answered with our `PILA` |
//! | `PILT` | dropped, and never sent |
//! | `PILP` | told to the owner, who punches holes |
//!
//! What is sent while there is no session waits, and begins an exchange. Which path a frame takes is the owner's
//! affair: frames come with a [`Route`], and only an opened frame proves a path, never a key exchange.
//!
//! ```text
//!   owner ── handle_datagram, seal ──► Tunnels ── poll_output ──► frames, events ──► owner
//!                                         │
//!             peers: identity, sessions ──┼── exchange: when to ask, answer, rest
//!             waiting: frames to seal     ├── lookups: questions to the directory
//!             sources: who asks too much  ├── keys, session, replay: the cryptography
//!                                         └── rekeying, negotiation, ephemeral: between our own agents
//! ```
//!
//! **Ephemeral keys.** Real daemons share one key for as long as both of them run. Two of our agents use that session only
//! to agree on others, which are replaced every two minutes while there is traffic and cannot be had again afterwards:
//! see `negotiation` for who says what, [`ephemeral`] for what the keys are made of, and [`wire::extension`] for the
//! bytes. All of it happens in sealed control packets, so nobody but the peer can take part; frames look as before.

pub mod ephemeral;
mod exchange;
pub mod keys;
mod lookups;
mod negotiation;
mod outcome;
mod peer;
mod rekeying;
pub mod replay;
pub mod session;
mod sources;
mod waiting;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::codec::Writer;
use wire::extension::About;
use wire::packet::{self, Flags, Packet, Protocol};
use wire::tunnel::{
    Frame, KEY_EXCHANGE_LEN, Nonce, SEALED_OVERHEAD, SIGNED_KEY_EXCHANGE_LEN, SignedKeyExchange, TAG_LEN,
    key_exchange_text,
};

pub use self::outcome::{DropReason, Output, Received, Route, Sealed, Via};

use self::exchange::{Cause, Step};
use self::keys::{Chance, ExchangeKey, X25519_LEN};
use self::lookups::{Lookup, Lookups};
use self::peer::{Peer, Verdict};
use self::session::{HEAD_LEN, KeyPair, Session};
use self::sources::Sources;
use self::waiting::Waiting;
use crate::Time;
use crate::aead::Aes256Gcm;
use crate::identity::{Identity, PUBLIC_KEY_LEN, has_signed};

/// When there is no room for another peer, one that has been silent for so long yields.
const SILENCE_YIELDS: Duration = Duration::from_mins(1);

/// Where a frame to be sealed, or just opened, has its packet's protocol.
const PROTOCOL_AT: usize = HEAD_LEN + 1;

/// How much is kept and carried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Peers with a session, or with an exchange of ours under way.
    pub peers_max: usize,
    /// Frames sealed under one key before it is renewed. Twice as many are the most, should the peer not answer.
    pub frames_per_key: u64,
    /// Ephemeral keys are replaced after this time, if there is traffic; `None`: they are not negotiated at all, and the
    /// node behaves as one that has never heard of them.
    pub rekey_interval: Option<Duration>,
}

impl Default for Limits {
    /// 16384 peers; 2^36 frames, which is 80 TB of full ones and far from what AES-GCM bears; 2 minutes.
    fn default() -> Self {
        Self { peers_max: 16_384, frames_per_key: 1 << 36, rekey_interval: Some(Duration::from_mins(2)) }
    }
}

/// A `PILA` frame, kept until its sender's identity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offer {
    sender: NodeId,
    x25519: [u8; X25519_LEN],
    ed25519: [u8; PUBLIC_KEY_LEN],
    signature: [u8; 64],
}

/// The tunnels of one node.
pub struct Tunnels {
    own: NodeId,
    identity: Arc<Identity>,
    limits: Limits,
    chance: Chance,
    generation: u32,
    key: ExchangeKey,
    next_prefix: u32,
    peers: HashMap<NodeId, Peer>,
    lookups: Lookups,
    sources: Sources,
    waiting: Waiting,
    timers: BTreeSet<(Time, NodeId)>,
    outputs: VecDeque<Output>,
    about: About,
}

impl Tunnels {
    /// Tunnels of the node `own`. `seed` is fresh chance at each start: two starts with the same seed would seal with
    /// the same keys and nonces.
    #[must_use]
    pub fn new(own: NodeId, identity: Arc<Identity>, limits: Limits, seed: &[u8; 32]) -> Self {
        let chance = Chance::new(seed);
        Self {
            own,
            identity,
            limits,
            generation: 0,
            key: chance.exchange_key(0),
            next_prefix: chance.first_prefix(),
            chance,
            peers: HashMap::new(),
            lookups: Lookups::default(),
            sources: Sources::default(),
            waiting: Waiting::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            about: About::default(),
        }
    }

    /// Takes a datagram, or the inner part of a relayed one. A sealed packet is opened in place.
    #[must_use]
    pub fn handle_datagram<'a>(&mut self, now: Time, via: Via, datagram: &'a mut [u8]) -> Received<'a> {
        let taken = match Frame::decode(datagram) {
            Ok(Frame::Sealed { sender, nonce, .. }) => {
                return match self.open(now, via, sender, nonce, &mut datagram[HEAD_LEN..]) {
                    Ok(session) => {
                        let received = hand_up(sender, &datagram[HEAD_LEN..datagram.len() - TAG_LEN]);
                        self.take_extension(now, via, session, received)
                    }
                    Err(reason) => Received::Dropped(reason),
                };
            }
            Ok(Frame::SignedKeyExchange(frame)) => self.handle_offer(now, via, Offer::from(frame)),
            Ok(Frame::KeyExchange { sender, .. }) => self.handle_key_request(now, via, sender),
            Ok(Frame::Plain { .. }) => Err(DropReason::Plain),
            Ok(Frame::Probe) => return Received::Probe,
            Err(_) => Err(DropReason::Malformed),
        };
        taken.map_or_else(Received::Dropped, |()| Received::Taken)
    }

    /// Seals a frame in place: [`HEAD_LEN`] bytes to be written, the packet, [`TAG_LEN`] bytes to be written. Without a
    /// session a copy waits for one and leaves through [`Tunnels::poll_output`].
    ///
    /// # Panics
    /// If the frame is shorter than [`SEALED_OVERHEAD`].
    #[must_use]
    pub fn seal(&mut self, now: Time, peer: NodeId, frame: &mut [u8]) -> Sealed {
        assert!(frame.len() >= SEALED_OVERHEAD, "a frame has room for head and tag");
        if self.seal_in_session(now, peer, frame) {
            return Sealed::Ready;
        }
        if let Err(reason) = self.admit(now, peer) {
            return Sealed::Dropped(reason);
        }
        let waits = self.waiting.push(peer, frame);
        self.begin_exchange(now, peer);
        if waits { Sealed::Waiting } else { Sealed::Dropped(DropReason::QueueFull) }
    }

    /// Begins an exchange with `peer` unless there is a session.
    ///
    /// # Errors
    /// [`DropReason::ForgedSender`] when the id is no other node's, [`DropReason::TooManyPeers`].
    pub fn connect(&mut self, now: Time, peer: NodeId) -> Result<(), DropReason> {
        self.admit(now, peer)?;
        if !self.has_session(peer) {
            self.begin_exchange(now, peer);
        }
        Ok(())
    }

    /// Ends the tunnel and forgets the peer.
    pub fn forget(&mut self, peer: NodeId) {
        drop(self.waiting.take(peer));
        let Some(mut gone) = self.peers.remove(&peer) else { return };
        if let Some(due) = gone.armed {
            self.timers.remove(&(due, peer));
        }
        // With the session its replay windows are gone, so its key must not be used again. It is also how the peer sees
        // that its session is of no use any more.
        if let Some(session) = gone.session() {
            self.retire_exchange_key(*session.pair());
        }
    }

    /// The directory's answer to [`Output::IdentityWanted`]; `None` if it knows no key, or cannot be asked.
    pub fn handle_identity(&mut self, now: Time, node: NodeId, key: Option<[u8; PUBLIC_KEY_LEN]>) {
        if let (Some(peer), Some(key)) = (self.peers.get_mut(&node), key) {
            peer.learn_identity(now, key);
        }
        let Some((offer, via)) = self.lookups.told(now, node, key) else { return };
        if let Err(reason) = self.accept(now, via, &offer, key) {
            self.outputs.push_back(Output::Refused { peer: node, reason });
        }
    }

    /// Whether packets to `peer` are sealed at once.
    #[must_use]
    pub fn has_session(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(Peer::has_session)
    }

    /// Whether there is anything between us and `peer`: a session, or keys under way.
    #[must_use]
    pub fn knows(&self, peer: NodeId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// The Ed25519 key with which the peer has signed its part of the session in use. The directory may name another by
    /// now.
    #[must_use]
    pub fn proven_key(&self, peer: NodeId) -> Option<[u8; PUBLIC_KEY_LEN]> {
        self.peers.get(&peer)?.current()?.proven_key()
    }

    /// When [`Tunnels::handle_timeout`] has something to do; it may turn out to be nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.poll_timeout().is_some_and(|due| due <= now) {
            let Some((_, node)) = self.timers.pop_first() else { return };
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.armed = None;
                self.tick(now, node);
            }
        }
    }

    /// What the owner has to do next. To be asked until there is nothing, after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn open(&mut self, now: Time, via: Via, sender: NodeId, nonce: Nonce, body: &mut [u8]) -> Result<u32, DropReason> {
        let Some(peer) = self.peers.get_mut(&sender).filter(|peer| peer.has_session()) else {
            // What is shorter than a packet could make us send more than we got.
            if body.len() >= packet::HEADER_LEN + TAG_LEN && sender != self.own && self.sources.charge(now, via) {
                self.answer(now, sender, Cause::Needed, via);
            }
            return Err(DropReason::NoSession);
        };
        let opened = match peer.open(now, sender, nonce, body) {
            Ok(opened) => opened,
            Err(refusal) => {
                if peer.doubt(now, refusal) {
                    self.begin_exchange(now, sender);
                }
                return Err(refusal.into());
            }
        };
        let Some(session) = peer.current() else { return Ok(opened.session) };
        let wants_renewal = session.wants_renewal(now);
        if session.pair().own == *self.key.public() {
            peer.exchange.answered();
        }
        self.keep_prefixes_apart(sender, nonce);
        if opened.change.is_some() {
            self.follow(now, sender, via, opened);
        }
        if wants_renewal {
            self.consider_rekeying(now, sender, body.get(PROTOCOL_AT - HEAD_LEN) != Some(&Protocol::CONTROL.0));
        }
        self.arm(sender);
        Ok(opened.session)
    }

    /// In an ordinary session both directions share one key, so no nonce may occur in both (SPEC 12, weakness 17).
    fn keep_prefixes_apart(&mut self, peer: NodeId, nonce: Nonce) {
        let Some(session) = self.peers.get_mut(&peer).and_then(Peer::session) else { return };
        if session.prefix() == nonce.prefix && !session.is_negotiated() {
            session.change_prefix(next_prefix(&mut self.next_prefix, self.own, peer));
        }
    }

    fn handle_key_request(&mut self, now: Time, via: Via, sender: NodeId) -> Result<(), DropReason> {
        self.admit_source(now, via, sender)?;
        self.answer(now, sender, Cause::Requested, via);
        Ok(())
    }

    fn handle_offer(&mut self, now: Time, via: Via, offer: Offer) -> Result<(), DropReason> {
        self.admit_source(now, via, offer.sender)?;
        if let Some(peer) = self.peers.get(&offer.sender)
            && let Some(identity) = peer.identity()
            && (identity == offer.ed25519 || !peer.identity_is_old(now))
        {
            return self.accept(now, via, &offer, Some(identity));
        }
        match self.lookups.look_up(now, offer.sender, Some((offer, via))) {
            Lookup::Told(key) => self.accept(now, via, &offer, key),
            Lookup::Awaited => Ok(()),
            Lookup::Ask => {
                self.outputs.push_back(Output::IdentityWanted(offer.sender));
                Ok(())
            }
            Lookup::Refused => Err(DropReason::TooManyStrangers),
        }
    }

    fn admit_source(&mut self, now: Time, via: Via, sender: NodeId) -> Result<(), DropReason> {
        if !sender.is_node() || sender == self.own {
            return Err(DropReason::ForgedSender);
        }
        self.sources.charge(now, via).then_some(()).ok_or(DropReason::RateLimited)
    }

    /// Takes a peer's signed key, given the directory's key of the peer.
    fn accept(
        &mut self,
        now: Time,
        via: Via,
        offer: &Offer,
        identity: Option<[u8; PUBLIC_KEY_LEN]>,
    ) -> Result<(), DropReason> {
        let identity = identity.ok_or(DropReason::UnknownIdentity)?;
        if identity != offer.ed25519 {
            return Err(DropReason::ForeignIdentity);
        }
        let known = self.peers.get(&offer.sender);
        if known.is_some_and(|peer| peer.is_repeated(now, &offer.x25519)) {
            return Err(DropReason::Repeated);
        }
        if !has_signed(&identity, &key_exchange_text(offer.sender, &offer.x25519), &offer.signature) {
            return Err(DropReason::BadSignature);
        }
        let pair = KeyPair { own: *self.key.public(), peer: offer.x25519 };
        let verdict = known.map_or(Verdict::Install, |peer| peer.judge(now, &pair));
        if verdict == Verdict::Stale {
            return Err(DropReason::StaleKey);
        }
        let cipher = self.key.agree::<Aes256Gcm>(&offer.x25519).ok_or(DropReason::WeakKey)?;
        self.admit(now, offer.sender)?;
        let peer = self.peers.get_mut(&offer.sender).expect("a peer that is admitted is there");
        if peer.identity() != Some(identity) {
            peer.learn_identity(now, identity);
        }
        peer.accept(now, offer.x25519);
        peer.exchange.answered();
        let works = peer.session().is_some_and(|session| session.is_proven());
        match verdict {
            Verdict::Keep if works => {
                self.answer(now, offer.sender, Cause::Repeated, via);
                self.challenge_silent(now, offer.sender, &pair);
            }
            Verdict::Keep | Verdict::Stale => self.answer(now, offer.sender, Cause::Needed, via),
            Verdict::Reinstate => {
                peer.reinstate(now, &pair);
                self.answer(now, offer.sender, Cause::Needed, via);
            }
            Verdict::Challenge => {
                self.answer(now, offer.sender, Cause::Needed, via);
                self.challenge(now, offer, pair, cipher);
            }
            Verdict::Install => {
                let session = self.ordinary_session(now, offer, pair, cipher);
                let Some(peer) = self.peers.get_mut(&offer.sender) else { return Ok(()) };
                peer.install(now, session);
                self.outputs.push_back(Output::Established { peer: offer.sender, via });
                self.answer(now, offer.sender, Cause::Needed, via);
                self.send_waiting(now, offer.sender);
            }
        }
        self.arm(offer.sender);
        Ok(())
    }

    /// Sends what has waited, or else a keepalive: the first frame that opens tells the peer that the session works.
    fn send_waiting(&mut self, now: Time, peer: NodeId) {
        let frames = self.waiting.take(peer);
        if frames.is_empty() {
            self.send_keepalive(now, peer);
        }
        for mut frame in frames {
            if self.seal_in_session(now, peer, &mut frame) {
                self.outputs.push_back(Output::Transmit { peer, route: Route::InUse, frame });
            }
        }
    }

    /// The session that follows from an offer whose signature was verified.
    fn ordinary_session(&mut self, now: Time, offer: &Offer, pair: KeyPair, cipher: Aes256Gcm) -> Box<Session> {
        let peer = offer.sender;
        let prefix = next_prefix(&mut self.next_prefix, self.own, peer);
        let mut session = Box::new(Session::new(now, pair, cipher, prefix));
        session.set_proven_key(Some(offer.ed25519));
        session.renew_from(self.first_renewal(now, peer));
        session
    }

    fn send_keepalive(&mut self, now: Time, peer: NodeId) {
        let mut frame = keepalive(self.own, peer);
        if self.seal_in_session(now, peer, &mut frame) {
            self.outputs.push_back(Output::Transmit { peer, route: Route::InUse, frame });
        }
    }

    fn seal_in_session(&mut self, now: Time, node: NodeId, frame: &mut [u8]) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let Some(session) = peer.session() else { return false };
        let limit = self.limits.frames_per_key;
        if session.sealed() >= limit.saturating_mul(2) {
            let pair = *session.pair();
            peer.end_session();
            self.retire_exchange_key(pair);
            return false;
        }
        let is_traffic = frame.get(PROTOCOL_AT) != Some(&Protocol::CONTROL.0);
        session.seal(now, self.own, frame);
        let wants_renewal = session.wants_renewal(now);
        if session.sealed() == limit && session.is_negotiated() {
            session.renew_from(Some(now));
        }
        // A peer that does not answer to the one is asked for the other.
        let patience = if session.is_negotiated() { limit / 2 } else { 0 };
        if session.sealed() >= limit.saturating_add(patience) || session.is_worn() {
            let pair = *session.pair();
            self.renew(now, node, pair);
        }
        if wants_renewal {
            self.consider_rekeying(now, node, is_traffic);
        }
        self.arm(node);
        true
    }

    /// Takes a new exchange key, if `pair` has the present one, and offers it to `node`. Others learn it with their next
    /// exchange; their sessions go on until then.
    fn renew(&mut self, now: Time, node: NodeId, pair: KeyPair) {
        self.retire_exchange_key(pair);
        self.begin_exchange(now, node);
    }

    fn retire_exchange_key(&mut self, pair: KeyPair) {
        if pair.own == *self.key.public() {
            self.generation += 1;
            self.key = self.chance.exchange_key(self.generation);
        }
    }

    fn begin_exchange(&mut self, now: Time, node: NodeId) {
        if self.peers.get_mut(&node).is_some_and(|peer| peer.exchange.begin(now)) {
            self.ask_for_key(now, node);
            self.arm(node);
        }
    }

    fn ask_for_key(&mut self, now: Time, node: NodeId) {
        self.announce(now, node, Route::Every);
        let is_known = self.peers.get(&node).is_some_and(|peer| peer.identity().is_some());
        if !is_known && self.lookups.look_up(now, node, None) == Lookup::Ask {
            self.outputs.push_back(Output::IdentityWanted(node));
        }
    }

    fn answer(&mut self, now: Time, node: NodeId, cause: Cause, via: Via) {
        if self.peers.get_mut(&node).is_none_or(|peer| peer.answers.is_due(now, cause, via)) {
            self.announce(now, node, Route::Back(via));
        }
        self.arm(node);
    }

    /// Sends our signed key.
    fn announce(&mut self, now: Time, node: NodeId, route: Route) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.answers.sent(now);
        }
        let x25519 = self.key.public();
        let signed = SignedKeyExchange {
            sender: self.own,
            x25519,
            ed25519: &self.identity.public_key(),
            signature: &self.identity.sign(&key_exchange_text(self.own, x25519)),
        };
        let frame = encode::<SIGNED_KEY_EXCHANGE_LEN>(Frame::SignedKeyExchange(signed));
        self.outputs.push_back(Output::Transmit { peer: node, route, frame });
    }

    fn tick(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.tidy(now);
        let (step, owed) = (peer.exchange.step(now), peer.answers.take_owed(now));
        match step {
            Some(Step::Ask { key_request }) => {
                self.ask_for_key(now, node);
                if key_request {
                    let request = Frame::KeyExchange { sender: self.own, x25519: self.key.public() };
                    let frame = encode::<KEY_EXCHANGE_LEN>(request);
                    self.outputs.push_back(Output::Transmit { peer: node, route: Route::Every, frame });
                }
            }
            Some(Step::GiveUp) if !self.has_session(node) => {
                let dropped = self.waiting.take(node).len();
                self.outputs.push_back(Output::Unreachable { peer: node, dropped });
            }
            Some(Step::Rested) if self.waiting.is_waiting(node) => self.begin_exchange(now, node),
            Some(Step::Rested) if !self.has_session(node) => return self.forget(node),
            Some(Step::GiveUp | Step::Rested) | None => {}
        }
        if let Some(via) = owed {
            self.announce(now, node, Route::Back(via));
        }
        self.step_negotiation(now, node);
        if self.peers.get(&node).is_some_and(|peer| peer.needs_keepalive(now)) {
            self.send_keepalive(now, node);
        }
        self.arm(node);
    }

    /// Makes sure that there is a record of `node`.
    fn admit(&mut self, now: Time, node: NodeId) -> Result<(), DropReason> {
        if self.peers.contains_key(&node) {
            return Ok(());
        }
        if !node.is_node() || node == self.own {
            return Err(DropReason::ForgedSender);
        }
        if self.peers.len() >= self.limits.peers_max {
            let silent = self.peers.iter().filter_map(|(node, peer)| Some((peer.silent_since()?, *node))).min();
            let (since, longest) = silent.ok_or(DropReason::TooManyPeers)?;
            if now.since(since) < SILENCE_YIELDS {
                return Err(DropReason::TooManyPeers);
            }
            self.forget(longest);
        }
        self.peers.insert(node, Peer::new());
        Ok(())
    }

    /// Sees to it that [`Tunnels::poll_timeout`] is not later than the peer's next deadline. Most packets only move it
    /// on; then nothing is done, and the timer finds out when it fires.
    fn arm(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(deadline) = peer.deadline() else { return };
        if peer.armed.is_none_or(|armed| deadline < armed) {
            if let Some(armed) = peer.armed.replace(deadline) {
                self.timers.remove(&(armed, node));
            }
            self.timers.insert((deadline, node));
        }
    }
}

impl From<SignedKeyExchange<'_>> for Offer {
    fn from(frame: SignedKeyExchange<'_>) -> Self {
        Self { sender: frame.sender, x25519: *frame.x25519, ed25519: *frame.ed25519, signature: *frame.signature }
    }
}

/// A packet that its frame's sender may send is handed up.
fn hand_up(peer: NodeId, bytes: &[u8]) -> Received<'_> {
    let Ok(packet) = Packet::decode(bytes) else { return Received::Dropped(DropReason::Malformed) };
    let source = packet.source.address;
    let is_keepalive = packet.protocol == Protocol::CONTROL
        && packet.flags == Flags::NONE
        && packet.payload.is_empty()
        && (packet.source.port, packet.destination.port) == (0, 0);
    match source.node == peer {
        true if is_keepalive => Received::Keepalive { peer },
        true => Received::Packet { peer, packet },
        // Older daemons leave the source of theirs empty.
        false if is_keepalive && source == Address::default() => Received::Keepalive { peer },
        false => Received::Dropped(DropReason::ForeignSource),
    }
}

/// An empty control packet, in a frame to be sealed.
fn keepalive(own: NodeId, peer: NodeId) -> Box<[u8]> {
    control((own, 0), (peer, 0), Flags::NONE, &[])
}

/// A control packet, in a frame to be sealed.
fn control(source: (NodeId, u16), destination: (NodeId, u16), flags: Flags, payload: &[u8]) -> Box<[u8]> {
    let at = |(node, port): (NodeId, u16)| SocketAddress { address: node.address(), port };
    let packet = Packet {
        version: packet::VERSION,
        flags,
        protocol: Protocol::CONTROL,
        source: at(source),
        destination: at(destination),
        sequence: 0,
        acknowledgement: 0,
        window_segments: 0,
        payload,
    };
    let mut frame = vec![0; SEALED_OVERHEAD + packet.encoded_len()];
    packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
    frame.into()
}

fn encode<const LEN: usize>(frame: Frame<'_>) -> Box<[u8]> {
    let mut bytes = [0; LEN];
    frame.encode(&mut Writer::new(&mut bytes));
    bytes.into()
}

/// A nonce prefix that no session of this start has had. Two of our agents never choose the same: the last bit says
/// whose id is the higher.
const fn next_prefix(next: &mut u32, own: NodeId, peer: NodeId) -> [u8; 4] {
    *next = next.wrapping_add(2);
    (*next & !1 | (own.0 > peer.0) as u32).to_be_bytes()
}
