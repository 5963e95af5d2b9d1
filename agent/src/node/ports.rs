//! Ports of this node: those that are bound, and those that dialled streams take.

use std::collections::BTreeSet;

use super::BindError;

/// Ports that are handed out (section 2).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Bound ports.
#[derive(Debug)]
pub struct Ports {
    bound: BTreeSet<u16>,
    next: u16,
}

impl Ports {
    /// Nothing bound. `chance` decides which port is handed out first: a node that starts again must not meet the streams
    /// of its life before at their other ends.
    #[must_use]
    pub const fn new(chance: u16) -> Self {
        Self { bound: BTreeSet::new(), next: chance | *EPHEMERAL.start() }
    }

    /// Binds `port`, or any free one for 0.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&mut self, port: u16) -> Result<u16, BindError> {
        let port = if port == 0 { self.ephemeral(|_| true).ok_or(BindError::Exhausted)? } else { port };
        if self.bound.insert(port) { Ok(port) } else { Err(BindError::InUse(port)) }
    }

    /// Gives `port` back.
    pub fn unbind(&mut self, port: u16) {
        self.bound.remove(&port);
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_bound(&self, port: u16) -> bool {
        self.bound.contains(&port)
    }

    /// All that are bound.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.bound.iter().copied()
    }

    /// A port for a stream that is dialled: not bound, and `is_free`. Each is used again as late as can be.
    pub fn ephemeral(&mut self, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.bound.contains(&port) && is_free(port) {
                return Some(port);
            }
        }
        None
    }
}
