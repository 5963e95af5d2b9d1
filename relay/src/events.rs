//! Control events: what befell a node at the relay, as small values that the rules note and a cold thread keeps.
//!
//! Noted are decisions, never packets: of what a datagram of the fast path can cause, a sender without a budget or a
//! relay to nobody, at most one a second and session; of the traces a node sends, those that are recorded, and at most
//! four a second and session. Everything else costs the budget of control messages of its source. Where a directory says who exists, only nodes it knows have events.

use std::fmt;

use wire::NodeId;
use wire::trace::TraceContext;

use crate::endpoint::Endpoint;
use crate::sessions::Grade;
use crate::time::Time;

/// Something that befell a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was decided.
    pub at: Time,
    /// Whom it concerns.
    pub node: NodeId,
    /// What it was.
    pub what: What,
}

/// Kept by the ten thousand: see the recorder of the appliance.
const _: () = assert!(size_of::<Event>() <= 64, "an event is a cache line at most");

/// What befell a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A session began.
    SessionStarted {
        /// Where the node is.
        at: Endpoint,
        /// How well that is proven.
        grade: Grade,
    },
    /// The session stands elsewhere now.
    SessionMoved {
        /// Where it stood.
        from: Endpoint,
        /// Where it stands.
        to: Endpoint,
    },
    /// The node has signed that it is where its session stands.
    ClaimSigned {
        /// Where.
        at: Endpoint,
    },
    /// The session's address is proven no longer, and only such are admitted.
    SessionLapsed,
    /// The session ended in silence, or because its place was needed or the node is gone from the directory.
    SessionExpired,
    /// The directory has forgotten the node, and its session ended.
    SessionWithdrawn,
    /// Somebody wants the node, which has no session: it is asked where it was last.
    RecallStarted {
        /// Where it is asked.
        at: Endpoint,
    },
    /// The node answered there, and has a session again.
    SessionRecalled {
        /// Where it is.
        at: Endpoint,
    },
    /// Another endpoint claims the id; the holder is asked.
    ContestStarted {
        /// Where the session stands.
        holder: Endpoint,
        /// Who claims it.
        candidate: Endpoint,
    },
    /// The contest left the session where it stands.
    ContestHeld,
    /// The contest gave the id to the one who claimed it.
    ContestWon {
        /// Who claimed it.
        candidate: Endpoint,
    },
    /// A claim came to nothing.
    ClaimRefused {
        /// Who claimed.
        candidate: Endpoint,
        /// Why not.
        why: Refusal,
    },
    /// The node asked to be introduced to a peer, and both were told where the other is.
    PunchBrokered {
        /// To whom.
        peer: NodeId,
        /// Where the peer is.
        at: Endpoint,
    },
    /// A peer asked for the node, and both were told where the other is.
    PunchedBy {
        /// Who asked.
        peer: NodeId,
        /// Where the peer is.
        at: Endpoint,
    },
    /// The node asked to be introduced to a peer that has no session.
    PunchUnknown {
        /// To whom.
        peer: NodeId,
    },
    /// The node asked to be introduced to a peer of which the directory would not tell it.
    PunchRefused {
        /// To whom.
        peer: NodeId,
    },
    /// The node was told that something waits for it in the directory.
    NotifySent {
        /// Where.
        at: Endpoint,
    },
    /// The first of a run of packets to a node that has no session.
    DestinationUnknown {
        /// To whom.
        dest: NodeId,
    },
    /// The node has used up its packets or bytes.
    BudgetExhausted,
    /// The node traces what it is about to send to a peer.
    TraceSent {
        /// To whom.
        peer: NodeId,
        /// The node's span.
        context: TraceContext,
        /// What the relay can do for it.
        found: Destination,
        /// How well the node's address is proven.
        grade: Grade,
        /// The node came by IPv6.
        is_ipv6: bool,
    },
    /// A peer traces what it is about to send to the node.
    TraceReceived {
        /// From whom.
        peer: NodeId,
        /// Which trace.
        trace_id: [u8; 16],
    },
    /// What one shard relayed of a traced pair; noted when it is looked at no longer, `at` being when the trace message came.
    /// Other shards note theirs, where they relayed some.
    TraceForwarded {
        /// To whom.
        peer: NodeId,
        /// The node's span.
        context: TraceContext,
        /// Datagrams relayed from the node to the peer.
        datagrams: u32,
        /// Microseconds after `at` at which the first was relayed; nothing where none was.
        first_us: u32,
        /// Microseconds after `at` at which the last was relayed.
        last_us: u32,
    },
}

/// Why a claim came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is a holder, and no room for another contest.
    Held,
    /// The table is full.
    NoRoom,
    /// Nothing proves it, and only what is proven is admitted.
    Unproven,
    /// Its signature is not the node's.
    Forged,
}

/// What the relay can do for a traced pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// It has a session.
    Session,
    /// It has none, and is asked where it was last, by the shard it belongs to.
    Recalled,
    /// It has none.
    Unknown,
}

impl Destination {
    /// The word in spans and events.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Recalled => "recalled",
            Self::Unknown => "unknown",
        }
    }
}

impl What {
    /// Whether somebody else than the node can cause it at will. Such events are kept apart, so that they cannot push out
    /// the node's own.
    #[must_use]
    pub const fn is_by_others(&self) -> bool {
        matches!(
            self,
            Self::RecallStarted { .. }
                | Self::ContestStarted { .. }
                | Self::ContestHeld
                | Self::ClaimRefused { .. }
                | Self::PunchedBy { .. }
                | Self::TraceReceived { .. }
        )
    }
}

impl What {
    /// Whether nodes cause it over and over in the ordinary course of things, and it changes nothing of what the relay
    /// holds of them.
    #[must_use]
    pub const fn is_habit(&self) -> bool {
        matches!(
            self,
            Self::PunchBrokered { .. }
                | Self::PunchedBy { .. }
                | Self::PunchUnknown { .. }
                | Self::PunchRefused { .. }
                | Self::NotifySent { .. }
                | Self::BudgetExhausted
        )
    }
}

impl What {
    /// What happened, in a word or two.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::SessionStarted { .. } => "session started",
            Self::SessionMoved { .. } => "session moved",
            Self::ClaimSigned { .. } => "claim signed",
            Self::SessionLapsed => "session lapsed",
            Self::SessionExpired => "session expired",
            Self::SessionWithdrawn => "session withdrawn",
            Self::RecallStarted { .. } => "recall started",
            Self::SessionRecalled { .. } => "session recalled",
            Self::ContestStarted { .. } => "contest started",
            Self::ContestHeld => "contest held",
            Self::ContestWon { .. } => "contest won",
            Self::ClaimRefused { .. } => "claim refused",
            Self::PunchBrokered { .. } => "punch brokered",
            Self::PunchedBy { .. } => "punched by",
            Self::PunchUnknown { .. } => "punch unknown",
            Self::PunchRefused { .. } => "punch refused",
            Self::NotifySent { .. } => "notify sent",
            Self::DestinationUnknown { .. } => "destination unknown",
            Self::BudgetExhausted => "budget exhausted",
            Self::TraceSent { .. } => "trace sent",
            Self::TraceReceived { .. } => "trace received",
            Self::TraceForwarded { .. } => "trace forwarded",
        }
    }
}

/// With what it happened. Numbers, addresses and words of ours alone.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionStarted { at, grade } => {
                let proof = match grade {
                    Grade::Unproven => "an address that proves nothing",
                    Grade::ProvenAddress => "a proven address",
                    Grade::SignedClaim => "signed by the node",
                };
                write!(f, "at {at}, {proof}")
            }
            Self::SessionMoved { from, to } => write!(f, "from {from} to {to}"),
            Self::ClaimSigned { at } => write!(f, "the node has signed that it is at {at}"),
            Self::SessionLapsed => f.write_str("its address is proven no longer, and only proven ones are admitted"),
            Self::SessionExpired => f.write_str("not heard for long, its place was needed, or no longer known"),
            Self::SessionWithdrawn => f.write_str("the directory no longer knows the node"),
            Self::RecallStarted { at } => write!(f, "wanted without a session; asked where it was, at {at}"),
            Self::SessionRecalled { at } => write!(f, "it answered at {at}"),
            Self::ContestStarted { holder, candidate } => write!(f, "{candidate} claims the id; {holder} is asked"),
            Self::ContestHeld => f.write_str("the session stays where it is"),
            Self::ContestWon { candidate } => write!(f, "the id goes to {candidate}"),
            Self::ClaimRefused { candidate, why } => {
                let why = match why {
                    Refusal::Held => "another holds the id, and too many contests are under way",
                    Refusal::NoRoom => "the session table is full",
                    Refusal::Unproven => "nothing proves the address, and only proven ones are admitted",
                    Refusal::Forged => "the signature is not the node's",
                };
                write!(f, "of {candidate}: {why}")
            }
            Self::PunchBrokered { peer, at } => write!(f, "with node {peer} at {at}; both know where the other is"),
            Self::PunchedBy { peer, at } => write!(f, "node {peer} at {at}; both know where the other is"),
            Self::PunchUnknown { peer } => write!(f, "node {peer} has no session"),
            Self::PunchRefused { peer } => write!(f, "the directory would not say where node {peer} is"),
            Self::NotifySent { at } => write!(f, "to {at}: something waits in the directory"),
            Self::DestinationUnknown { dest } => write!(f, "node {dest} has no session"),
            Self::BudgetExhausted => f.write_str("packets or bytes beyond the limit are dropped"),
            Self::TraceSent { peer, context, found, .. } => {
                write!(f, "to node {peer}, {}: ", found.label())?;
                write_trace(f, &context.trace_id)
            }
            Self::TraceReceived { peer, trace_id } => {
                write!(f, "from node {peer}: ")?;
                write_trace(f, trace_id)
            }
            Self::TraceForwarded { peer, context, datagrams: 0, .. } => {
                write!(f, "nothing was relayed to node {peer}: ")?;
                write_trace(f, &context.trace_id)
            }
            Self::TraceForwarded { peer, context, datagrams, first_us, last_us } => {
                write!(f, "{datagrams} datagrams relayed to node {peer}, {first_us} to {last_us} µs after: ")?;
                write_trace(f, &context.trace_id)
            }
        }
    }
}

fn write_trace(f: &mut fmt::Formatter<'_>, trace_id: &[u8; 16]) -> fmt::Result {
    f.write_str("trace ")?;
    trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
