//! Connections to the directory: reliable, in order, and cut when either end is gone.

use std::net::IpAddr;
use std::time::Duration;

use agent::node::{Ticket, Unanswered};
use directory::service::{ConnectionId, Effect};

use super::{Happening, World};
use crate::host::{self, HostId, QUESTION_TIMEOUT};

impl World {
    /// How long a byte takes from a host to the directory.
    pub(super) fn directory_delay(&self, host: HostId) -> Duration {
        self.sites[self.hosts[host.0].site.0].up.conditions.delay
    }

    pub(super) fn outer_ip(&self, host: HostId) -> IpAddr {
        let host = &self.hosts[host.0];
        self.sites[host.site.0].outer_of(host)
    }

    /// Asks the directory from a host without a node; the answer is in [`World::raw_answers`] then.
    pub fn ask_raw(&mut self, host: HostId, ticket: Ticket, request: Vec<u8>) {
        self.ask(host, ticket, request);
    }

    pub(super) fn ask(&mut self, host: HostId, ticket: Ticket, request: Vec<u8>) {
        let delay = self.directory_delay(host);
        let is_cut = self.sites[self.hosts[host.0].site.0].cut;
        self.hosts[host.0].connection.pending.insert(ticket);
        if !self.directory.up || is_cut {
            let after = if is_cut { QUESTION_TIMEOUT } else { delay * 2 };
            return self.unanswered(host, ticket, after);
        }
        let now = self.now;
        let connection = &mut self.hosts[host.0].connection;
        let id = *connection.id.get_or_insert_with(|| {
            connection.ready_at = now + delay * 2;
            self.directory.accept()
        });
        let at = connection.ready_at.max(now) + delay;
        self.push(at, Happening::Asked(host, id, ticket, request));
    }

    pub(super) fn unanswered(&mut self, host: HostId, ticket: Ticket, after: Duration) {
        let answer = Err(Unanswered::Unreachable("connection lost".into()));
        self.push(self.now + after, Happening::Answered(host, ticket, answer));
    }

    pub(super) fn serve(&mut self, host: HostId, connection: ConnectionId, ticket: Ticket, request: &[u8]) {
        let delay = self.directory_delay(host);
        if self.hosts[host.0].connection.id != Some(connection) || !self.directory.up {
            return self.unanswered(host, ticket, delay);
        }
        if self.sites[self.hosts[host.0].site.0].cut {
            return self.unanswered(host, ticket, QUESTION_TIMEOUT);
        }
        let ip = self.outer_ip(host);
        let (answer, effects) = self.directory.serve(self.now, host::unix_seconds(self.now), (connection, ip), request);
        self.carry_out(effects);
        self.push(self.now + delay, Happening::Answered(host, ticket, Ok(answer)));
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            for index in 0..self.relays.len() {
                let now = self.now;
                let relay = &mut self.relays[index];
                let sent = match effect {
                    Effect::Publish(node) => match self.directory.known(node) {
                        Some((key, proven, last)) => {
                            relay.publish(node, key, &proven, last);
                            Vec::new()
                        }
                        None => relay.withdraw(now, node),
                    },
                    Effect::Notify(node) => relay.notify(now, node),
                };
                self.sent_by_relay(index, sent);
            }
        }
    }

    /// The connection to the directory breaks.
    pub fn disconnect(&mut self, host: HostId) {
        let delay = self.directory_delay(host);
        let connection = std::mem::take(&mut self.hosts[host.0].connection);
        for ticket in &connection.pending {
            self.unanswered(host, *ticket, delay);
        }
        self.hosts[host.0].connection.pending = connection.pending;
        if let Some(id) = connection.id
            && self.directory.up
        {
            let effects = self.directory.close(id);
            self.carry_out(effects);
        }
    }
}
