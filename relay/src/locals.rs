//! The local addresses the relay answers from, as the engine sees them: a list that only grows, so that a [`LocalId`]
//! kept in a session never comes to mean another address. One that left the host keeps its place, marked as gone.

use std::net::{IpAddr, SocketAddr};

use crate::endpoint::LocalId;

/// Local addresses a relay serves at most.
pub const LOCALS_MAX: usize = 128;

/// What is spoken on a local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Beacon messages and STUN with the magic cookie (port 9001).
    Beacon,
    /// STUN alone, the classic one of RFC 3489 included (port 3478).
    Stun,
}

impl Service {
    /// The other one: where an answer from "the other port" comes from (RFC 5780, 7.2).
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Beacon => Self::Stun,
            Self::Stun => Self::Beacon,
        }
    }
}

/// One local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where the sockets are bound.
    pub bound: SocketAddr,
    /// How clients see that address: the advertised one where the operator named it.
    pub seen_as: SocketAddr,
    /// What is spoken there.
    pub service: Service,
    /// UDP payload bytes that leave its interface in one piece.
    pub payload_max: usize,
    /// Whether the address is on the host now.
    pub present: bool,
}

/// All local addresses, past ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locals {
    entries: Vec<Local>,
}

impl Locals {
    /// A list of `entries`, numbered in order.
    #[must_use]
    pub const fn new(entries: Vec<Local>) -> Self {
        Self { entries }
    }

    /// The address behind `id`.
    #[must_use]
    pub fn get(&self, LocalId(id): LocalId) -> Option<&Local> {
        self.entries.get(usize::from(id))
    }

    /// All addresses with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (LocalId, &Local)> {
        (0..).map(LocalId).zip(&self.entries)
    }

    /// Adds `local`, or takes it over where the same address was here before. `None` when the list is full.
    pub fn put(&mut self, local: Local) -> Option<LocalId> {
        let known = self.entries.iter().position(|entry| entry.bound == local.bound && entry.service == local.service);
        let index = match known {
            Some(index) => {
                self.entries[index] = local;
                index
            }
            None if self.entries.len() < LOCALS_MAX => {
                self.entries.push(local);
                self.entries.len() - 1
            }
            None => return None,
        };
        u16::try_from(index).ok().map(LocalId)
    }

    /// Marks `id` as gone from the host.
    pub fn remove(&mut self, LocalId(id): LocalId) {
        if let Some(local) = self.entries.get_mut(usize::from(id)) {
            local.present = false;
        }
    }

    /// The address that differs from `id` as a CHANGE-REQUEST asks (RFC 5780, 7.2): another port of ours, another
    /// address of ours of the same family and scope, or both. `None` where no such one is bound.
    #[must_use]
    pub fn alternate(&self, id: LocalId, change_ip: bool, change_port: bool) -> Option<LocalId> {
        let from = self.get(id)?;
        let service = if change_port { from.service.other() } else { from.service };
        self.iter()
            .find(|(_, local)| {
                let same_ip = local.bound.ip() == from.bound.ip();
                local.present
                    && local.service == service
                    && same_ip != change_ip
                    && scope(local.bound.ip()) == scope(from.bound.ip())
            })
            .map(|(id, _)| id)
    }
}

/// Addresses of one family that can reach each other's peers: family, loopback, private.
fn scope(ip: IpAddr) -> (bool, bool, bool) {
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    (ip.is_ipv4(), ip.is_loopback(), private)
}
