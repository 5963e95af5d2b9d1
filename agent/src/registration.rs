//! The node's place in the directory (sections 4.6, 6.2 to 6.5): when it registers, beats and registers again.
#![expect(clippy::unimplemented, unused_variables, missing_docs, dead_code, reason = "the shape first")]

use std::fmt;
use std::net::SocketAddr;

use wire::NodeId;
use wire::address::Address;
use wire::registry::{Answer, Operation, PublicKey};

use crate::Time;
use crate::node::Unanswered;

/// What the directory is told of the node, besides its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub hostname: String,
    pub owner: String,
    pub version: String,
    pub public: bool,
    pub relay_only: bool,
}

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory has taken a registration. `anew`: the id is not the one it was before (always so the first time).
    Registered { node: NodeId, address: Address, anew: bool },
    /// Something announced was refused; told once.
    Complaint(String),
    /// The directory cannot be reached.
    Lost(String),
    /// It answers again.
    Back,
}

/// Where the registration stands, for a person (`Display`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    AwaitingEndpoint,
    Registering,
    Registered(NodeId),
    Away { node: Option<NodeId>, reason: String },
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

/// The registration of one node. Nothing happens by time alone but that an operation falls due: there is no
/// `handle_timeout`, [`Registration::poll_operation`] at [`Registration::poll_timeout`] is enough.
pub struct Registration {
    announcement: Announcement,
}

impl Registration {
    /// `seed`: any fresh number, for jitter alone.
    #[must_use]
    pub fn new(announcement: Announcement, public_key: PublicKey, seed: u64) -> Self {
        unimplemented!()
    }

    /// The endpoint to announce. The first call starts the registration, a change repeats it.
    pub fn set_endpoint(&mut self, now: Time, listen: SocketAddr, lan: &[SocketAddr]) {
        unimplemented!()
    }

    /// The user has set the hostname at run time (the directory has taken it already): remembered for the next time.
    pub fn set_hostname(&mut self, hostname: &str) {
        unimplemented!()
    }

    /// The user has set the visibility at run time, likewise.
    pub fn set_visibility(&mut self, public: bool) {
        unimplemented!()
    }

    /// The next request, to be signed and sent; each must be followed by one `handle_answer`.
    pub fn poll_operation(&mut self, now: Time) -> Option<Operation> {
        unimplemented!()
    }

    pub fn handle_answer(&mut self, now: Time, answer: Result<&Answer, &Unanswered>) {
        unimplemented!()
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        unimplemented!()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// The id, once there is one; it stays while the directory is away.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        unimplemented!()
    }

    /// Whether anyone may connect.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.announcement.public
    }

    #[must_use]
    pub fn is_registered(&self) -> bool {
        unimplemented!()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!()
    }
}
