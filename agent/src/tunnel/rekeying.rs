//! Ephemeral keys in the tunnels: when they are asked for, how a hello and an accept are taken.
//!
//! - Of two nodes the one with the lower id asks at once, the other a little later, if it still has to. Should their
//!   hellos cross, that of the lower id counts.
//! - A hello in an ordinary session goes out as soon as the peer has proven that session, later ones when it is time and
//!   there is traffic. A peer that sends the hello back is never asked again in that session.
//! - A signed key that is new while a negotiated session is in use is challenged: a hello goes out under it, and nothing
//!   else changes until an answer comes back.

use std::time::Duration;

use wire::NodeId;
use wire::extension::{self, About, Capabilities, Kind, Payload};
use wire::packet::{Flags, Packet, Protocol};

use super::ephemeral::{Role, Transcript};
use super::negotiation::{Asked, Negotiation, Pending, Step};
use super::outcome::{DropReason, Output, Received, Route, Via};
use super::peer::{Change, Opened};
use super::session::{KeyPair, Session};
use super::{Offer, Tunnels, control, next_prefix};
use crate::Time;
use crate::aead::Aes256Gcm;

/// The node with the higher id leaves the other so much time to ask first.
const COURTESY: Duration = Duration::from_secs(3);
/// Rest after a hello nobody has answered; in an ordinary session it doubles each time,
const REST: Duration = Duration::from_mins(1);
/// and after so many the session stays as it is.
const ROUNDS_MAX: u8 = 4;
/// A peer that has been heard in a negotiated session so lately has its keys.
const SILENCE_MIN: Duration = Duration::from_secs(3);

impl Tunnels {
    /// Whether what is sent to `peer`, and what it sends, is sealed with ephemeral keys: nobody who takes a host later can
    /// read what was said before.
    #[must_use]
    pub fn is_forward_secret(&self, peer: NodeId) -> bool {
        let current = self.peers.get(&peer).and_then(|peer| peer.current());
        current.is_some_and(|session| session.is_negotiated() && session.is_proven())
    }

    /// When ephemeral keys were last negotiated with `peer`, and how often they were.
    #[must_use]
    pub fn rekeyed(&self, peer: NodeId) -> Option<(Time, u32)> {
        self.peers.get(&peer)?.negotiation.as_ref()?.rekeyed()
    }

    /// What we say about ourselves to peers from the next negotiation on.
    pub const fn set_about(&mut self, about: About) {
        self.about = about;
    }

    /// What a peer has said about itself in the last negotiation.
    #[must_use]
    pub fn about(&self, peer: NodeId) -> Option<About> {
        self.peers.get(&peer)?.negotiation.as_ref()?.about
    }

    /// Whether `peer` understands the trace extension, as it has said in the negotiation of the keys in use.
    #[must_use]
    pub fn takes_traces(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| {
            let said = peer.negotiation.as_ref().map(|negotiation| negotiation.capabilities);
            peer.is_negotiated() && said.is_some_and(|said| said.contains(Capabilities::TRACE))
        })
    }

    /// Mixes fresh chance into the ephemeral keys to come. Worth while now and then: whoever has once read this process's
    /// memory cannot foretell them afterwards.
    pub fn stir(&mut self, fresh: &[u8; 32]) {
        self.chance.stir(fresh);
    }

    /// When an ordinary session that begins now may ask for ephemeral keys.
    pub(super) fn first_renewal(&self, now: Time, peer: NodeId) -> Option<Time> {
        let courtesy = if self.own < peer { Duration::ZERO } else { COURTESY };
        self.limits.rekey_interval.map(|_| now + courtesy)
    }

    /// Asks for new keys if it is time to. In negotiated sessions only traffic is an occasion.
    pub(super) fn consider_rekeying(&mut self, now: Time, node: NodeId, is_traffic: bool) {
        let Some(session) = self.peers.get(&node).and_then(|peer| peer.current()) else { return };
        if session.wants_renewal(now) && (is_traffic || !session.is_negotiated()) {
            let (id, is_negotiated) = (session.id(), session.is_negotiated());
            let Some(peer) = self.peers.get_mut(&node) else { return };
            let may_ask = peer.negotiation.as_mut().is_none_or(|negotiation| {
                // Of two ordinary sessions the one in use counts.
                is_negotiated && negotiation.may_ask(now) || !is_negotiated && negotiation.may_ask_within(now, id)
            });
            if may_ask {
                self.ask_for_ephemeral(now, node, id);
            }
        }
    }

    /// Follows a change of sessions that a frame of the peer's has brought about.
    pub(super) fn follow(&mut self, now: Time, node: NodeId, via: Via, opened: Opened) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match opened.change {
            None | Some(Change::Back) => {}
            // That the keys work on our side too, the peer learns at once.
            Some(Change::Negotiated) => {
                self.outputs.push_back(Output::Negotiated { peer: node });
                self.send_keepalive(now, node);
            }
            Some(Change::Claimed) => {
                let hello = peer.negotiation.as_ref().and_then(|negotiation| negotiation.hello());
                if hello.is_none_or(|asked| asked.session != opened.session) {
                    self.ask_instead(now, node, opened.session);
                }
            }
            Some(Change::Exchanged) => self.exchanged(now, node, via),
        }
    }

    /// The peer's signed key is another than it was, and that has proven itself.
    fn exchanged(&mut self, now: Time, node: NodeId, via: Via) {
        if let Some(negotiation) = self.peers.get_mut(&node).and_then(|peer| peer.negotiation.as_mut()) {
            negotiation.pending = None;
        }
        self.outputs.push_back(Output::Established { peer: node, via });
        self.send_waiting(now, node);
    }

    /// A signed key that is new though a negotiated session is in use.
    pub(super) fn challenge(&mut self, now: Time, offer: &Offer, pair: KeyPair, cipher: Aes256Gcm) {
        let node = offer.sender;
        let known = self.peers.get(&node).and_then(|peer| peer.ordinary(&pair)).map(Session::id);
        let session = known.unwrap_or_else(|| {
            let mut session = self.ordinary_session(now, offer, pair, cipher);
            session.stand(true);
            let id = session.id();
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.keep(session);
            }
            id
        });
        self.ask_instead(now, node, session);
    }

    /// The peer's signed key again, the one the negotiated session in use goes back to. Should the peer have lost that
    /// session, it answers where both began.
    pub(super) fn challenge_silent(&mut self, now: Time, node: NodeId, pair: &KeyPair) {
        let Some(peer) = self.peers.get(&node).filter(|peer| peer.is_negotiated()) else { return };
        let is_silent = peer.current().is_some_and(|session| {
            now.since(session.believed_at()) >= SILENCE_MIN && session.sent_at() > session.believed_at()
        });
        if let Some(root) = peer.ordinary(pair).map(Session::id)
            && is_silent
        {
            self.ask_instead(now, node, root);
        }
    }

    /// Asks in this session, whatever else is under way; again, if that is what is under way.
    fn ask_instead(&mut self, now: Time, node: NodeId, session: u32) {
        let negotiation = self.peers.get_mut(&node).and_then(|peer| peer.negotiation.as_mut());
        match negotiation.and_then(|negotiation| negotiation.turn_to(session)).map(|asked| asked.hello) {
            Some(hello) => self.send_hello(now, node, session, &hello),
            None => self.ask_for_ephemeral(now, node, session),
        }
    }

    fn ask_for_ephemeral(&mut self, now: Time, node: NodeId, within: u32) {
        let Some(interval) = self.limits.rekey_interval else { return };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(session) = peer.session_of(within) else { return };
        if session.pair().own != *self.key.public() {
            // Ours has been replaced since; ephemeral keys are only mixed with one that is there.
            session.renew_from(Some(now + REST.min(interval)));
            return self.begin_exchange(now, node);
        }
        let (ephemeral, handshake) = self.chance.ephemeral();
        let prefix = next_prefix(&mut self.next_prefix, self.own, node);
        let hello = self.say(Kind::Hello, handshake, prefix, ephemeral.public());
        let asked = Asked { session: within, handshake, ephemeral, prefix, hello };
        self.negotiation(node, |negotiation| negotiation.asked(now, asked));
        self.send_hello(now, node, within, &hello);
        self.arm(node);
    }

    fn say(&self, kind: Kind, handshake: u64, prefix: [u8; 4], x25519: &[u8; 32]) -> [u8; extension::LEN] {
        let capabilities = Capabilities::EPHEMERAL_KEYS.and(Capabilities::TRACE);
        Payload { kind, capabilities, handshake, prefix, x25519, about: self.about }.to_bytes()
    }

    fn negotiation(&mut self, node: NodeId, act: impl FnOnce(&mut Negotiation)) {
        if let Some(peer) = self.peers.get_mut(&node) {
            act(peer.negotiation.get_or_insert_with(|| Box::new(Negotiation::new())));
        }
    }

    fn send_hello(&mut self, now: Time, node: NodeId, within: u32, payload: &[u8]) {
        let frame = control((self.own, extension::PORT), (node, extension::PEER_PORT), Flags::NONE, payload);
        self.send_within(now, node, within, frame);
    }

    fn send_accept(&mut self, now: Time, node: NodeId, within: u32, payload: &[u8]) {
        let frame = control((self.own, extension::PEER_PORT), (node, extension::PORT), Flags::ACK, payload);
        self.send_within(now, node, within, frame);
    }

    /// Seals and sends a frame in this session, be it in use or kept.
    fn send_within(&mut self, now: Time, node: NodeId, within: u32, mut frame: Box<[u8]>) {
        let session = self.peers.get_mut(&node).and_then(|peer| peer.session_of(within));
        if let Some(session) = session.filter(|session| session.sealed() < self.limits.frames_per_key * 2) {
            session.seal(now, self.own, &mut frame);
            self.outputs.push_back(Output::Transmit { peer: node, route: Route::InUse, frame });
        }
    }

    /// Does with a hello or an accept what is to be done, and hands up all else.
    pub(super) fn take_extension<'a>(
        &mut self,
        now: Time,
        via: Via,
        session: u32,
        received: Received<'a>,
    ) -> Received<'a> {
        let Received::Packet { peer, packet } = received else { return received };
        if packet.protocol != Protocol::CONTROL
            || self.limits.rekey_interval.is_none()
            || !extension::has_magic(packet.payload)
        {
            return received;
        }
        let taken = self.take_payload(now, via, peer, session, &packet);
        self.arm(peer);
        taken.map_or_else(Received::Dropped, |()| Received::Keepalive { peer })
    }

    fn take_payload(
        &mut self,
        now: Time,
        via: Via,
        node: NodeId,
        within: u32,
        packet: &Packet<'_>,
    ) -> Result<(), DropReason> {
        let payload = Payload::decode(packet.payload).map_err(|_| DropReason::Malformed)?;
        let is_answer = packet.flags.contains(Flags::ACK);
        match payload.kind {
            Kind::Hello if is_answer => self.take_echo(now, via, node, within, packet.payload),
            Kind::Accept if is_answer => {
                if self.take_accept(now, node, within, &payload, packet.payload)? {
                    self.exchanged(now, node, via);
                }
            }
            Kind::Hello => self.take_hello(now, node, within, &payload, packet.payload)?,
            Kind::Accept => return Err(DropReason::Malformed),
        }
        Ok(())
    }

    /// Our hello has come back as it was: the peer knows nothing of this.
    fn take_echo(&mut self, now: Time, via: Via, node: NodeId, within: u32, hello: &[u8]) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(negotiation) = &mut peer.negotiation else { return };
        if negotiation.hello().is_some_and(|asked| asked.hello == *hello && asked.session == within) {
            drop(negotiation.take_hello());
            if let Some(session) = peer.session_of(within) {
                session.renew_from(None);
            }
            let is_elected = peer.elect(now, within);
            if !peer.is_negotiated() {
                peer.negotiation = None;
            }
            if is_elected {
                self.exchanged(now, node, via);
            }
        }
    }

    fn take_hello(
        &mut self,
        now: Time,
        node: NodeId,
        within: u32,
        payload: &Payload<'_>,
        hello: &[u8],
    ) -> Result<(), DropReason> {
        if !payload.capabilities.contains(Capabilities::EPHEMERAL_KEYS) {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        let is_in_use = peer.current().is_some_and(|current| current.id() == within);
        if let Some(negotiation) = &mut peer.negotiation {
            if let Some((within, accept)) = negotiation.answer_again(payload.handshake) {
                self.send_accept(now, node, within, &accept);
                return Ok(());
            }
            let is_crossing = negotiation.hello().is_some_and(|asked| asked.session == within);
            if is_crossing && self.own < node {
                return Ok(());
            }
            if !negotiation.may_answer(now, payload.handshake) {
                return Err(DropReason::RateLimited);
            }
        }
        let Some(session) = peer.session_of(within) else { return Ok(()) };
        if session.is_negotiated() && !is_in_use {
            // Late: the peer has newer keys, or will ask again in the session that is in use.
            return Ok(());
        }
        let (pair, proven_key) = (*session.pair(), session.proven_key());
        if pair.own != *self.key.public() {
            self.begin_exchange(now, node);
            return Ok(());
        }
        let (ephemeral, _) = self.chance.ephemeral();
        let prefix = next_prefix(&mut self.next_prefix, self.own, node);
        let accept = self.say(Kind::Accept, payload.handshake, prefix, ephemeral.public());
        let transcript =
            Transcript { role: Role::Responder, own: self.own, peer: node, pair: &pair, hello, accept: &accept };
        let chain =
            self.peers.get_mut(&node).and_then(|peer| peer.session_of(within)).and_then(|within| within.chain());
        let keys = transcript.derive(&self.key, &ephemeral, payload.x25519, chain).ok_or(DropReason::WeakKey)?;
        let renew_at = self.next_renewal(now, node);
        let mut session = Box::new(Session::negotiated(now, pair, keys, prefix, payload.prefix, renew_at));
        session.set_proven_key(proven_key);
        let mut superseded = None;
        self.negotiation(node, |negotiation| {
            drop(negotiation.take_hello());
            negotiation.about = Some(payload.about);
            negotiation.capabilities = payload.capabilities;
            superseded = negotiation.answered(now, payload.handshake, Pending { within, accept, session });
        });
        // The peer may be using those already.
        if let (Some(superseded), Some(peer)) = (superseded, self.peers.get_mut(&node)) {
            peer.keep(superseded);
        }
        self.send_accept(now, node, within, &accept);
        Ok(())
    }

    /// Whether the peer's signed key is another by that.
    fn take_accept(
        &mut self,
        now: Time,
        node: NodeId,
        within: u32,
        payload: &Payload<'_>,
        accept: &[u8],
    ) -> Result<bool, DropReason> {
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(false) };
        let Some(negotiation) = &mut peer.negotiation else { return Ok(false) };
        let is_awaited =
            negotiation.hello().is_some_and(|asked| (asked.handshake, asked.session) == (payload.handshake, within));
        let Some(asked) = is_awaited.then(|| negotiation.take_hello()).flatten() else { return Ok(false) };
        let pair_in_use = peer.current().map(|current| (*current.pair(), current.is_negotiated()));
        let Some(session) = peer.session_of(within) else { return Ok(false) };
        let (pair, proven_key) = (*session.pair(), session.proven_key());
        let is_other = pair_in_use.is_some_and(|(in_use, _)| in_use != pair);
        // Which of two ordinary sessions the peer has is not decided here.
        if pair.own != *self.key.public() || (is_other && pair_in_use.is_some_and(|(_, is_negotiated)| !is_negotiated))
        {
            return Ok(false);
        }
        session.stand(false);
        let transcript =
            Transcript { role: Role::Initiator, own: self.own, peer: node, pair: &pair, hello: &asked.hello, accept };
        let keys = transcript.derive(&self.key, &asked.ephemeral, payload.x25519, session.chain());
        let Some(keys) = keys else {
            session.renew_from(Some(now + REST));
            return Err(DropReason::WeakKey);
        };
        let renew_at = self.next_renewal(now, node);
        let mut session = Box::new(Session::negotiated(now, pair, keys, asked.prefix, payload.prefix, renew_at));
        session.set_proven_key(proven_key);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.install(now, session);
        }
        self.negotiation(node, |negotiation| {
            negotiation.about = Some(payload.about);
            negotiation.capabilities = payload.capabilities;
            negotiation.switched(now, true);
        });
        self.outputs.push_back(Output::Negotiated { peer: node });
        if !is_other {
            self.send_keepalive(now, node);
        }
        Ok(is_other)
    }

    fn next_renewal(&self, now: Time, peer: NodeId) -> Time {
        let courtesy = if self.own < peer { Duration::ZERO } else { COURTESY };
        now + self.limits.rekey_interval.unwrap_or(Duration::MAX) + courtesy
    }

    /// Does what has fallen due.
    pub(super) fn step_negotiation(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(negotiation) = &mut peer.negotiation else { return };
        match negotiation.step(now) {
            Some(Step::Hello) => {
                if let Some((within, hello)) = negotiation.hello().map(|asked| (asked.session, asked.hello)) {
                    self.send_hello(now, node, within, &hello);
                }
            }
            Some(Step::FirstFrame) => self.send_keepalive(now, node),
            Some(Step::GiveUp(within)) => {
                if let Some(session) = peer.session_of(within) {
                    let rounds = session.count_round();
                    let rest =
                        if session.is_negotiated() { REST } else { REST * 2u32.pow(rounds.min(ROUNDS_MAX).into()) };
                    let asks_again = session.is_negotiated() || rounds + 1 < ROUNDS_MAX;
                    session.renew_from(asks_again.then(|| now + rest));
                }
            }
            None => {}
        }
    }
}
