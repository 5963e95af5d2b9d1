//! What a relay can be told, and the memory that follows from it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ledger::RECORD_BYTES;
use crate::server::{REPLY_MAX, Rules};
use crate::sessions::{SLOT_BYTES, slots_per_shard};
use crate::uring::{BUFFER_BYTES, BUFFERS, SENDS_MAX};

/// Sessions a relay holds unless told otherwise.
pub const SESSIONS_MAX_DEFAULT: usize = 262_144;

/// What a socket may hold while its shard is busy or descheduled.
pub const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// What a socket may hold that its interface has not taken yet.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The program, its libraries, its cold threads' heaps. Measured: an idle relay alone, less its shards, is 9 MiB.
const PROGRAM_BYTES: usize = 10 << 20;
/// A shard's share besides the terms of [`Memory`]: trains, its heap, the budgets of prefixes once many are known.
/// Measured the same way 1.5 MiB, before any are.
const SHARD_BYTES: usize = 4 << 20;

/// Settings of a relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where beacon messages are served; a wildcard stands for every address of the host.
    pub beacon: Option<SocketAddr>,
    /// Where STUN alone is served.
    pub stun: Option<SocketAddr>,
    /// How clients see us, where that differs from the local addresses.
    pub advertise: Vec<SocketAddr>,
    /// CPUs to pin shards to, one shard each.
    pub cpus: Vec<usize>,
    /// Sessions all shards hold together.
    pub sessions_max: usize,
    /// How long a shard looks for news before it sleeps.
    pub spin: Duration,
    /// The rules.
    pub rules: Rules,
}

impl Config {
    /// One shard a CPU.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }

    /// The memory these settings imply.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let shards = self.shards();
        Memory {
            sessions: shards * slots_per_shard(shards, self.sessions_max) * SLOT_BYTES,
            buffers: shards * usize::from(BUFFERS) * BUFFER_BYTES,
            sends: shards * SENDS_MAX * (REPLY_MAX / 2 + 256),
            ledger: shards * slots_per_shard(shards, self.sessions_max) * RECORD_BYTES,
            program: PROGRAM_BYTES + shards * SHARD_BYTES,
        }
    }
}

/// Resident bytes by purpose once everything is in use. All of it is reserved at start, and touched as sessions and
/// datagrams come. A directory in the same process, which grows with its nodes, the appliance's
/// recorder of control events, at most 90 MiB, and the kernel's socket buffers, which
/// fill only while a shard is busy, come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The session table.
    pub sessions: usize,
    /// Receive buffers.
    pub buffers: usize,
    /// Send queues and replies.
    pub sends: usize,
    /// What of the sessions outlives the process: memory of the kernel's, counted as the service's, not as resident.
    pub ledger: usize,
    /// The program itself, with its threads' heaps.
    pub program: usize,
}

impl Memory {
    /// The sum.
    #[must_use]
    pub const fn total(&self) -> usize {
        let Self { sessions, buffers, sends, ledger, program } = *self;
        sessions + buffers + sends + ledger + program
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let Self { sessions, buffers, sends, ledger, program } = *self;
        write!(
            f,
            "{:.0} MiB = sessions {:.1} + receive buffers {:.1} + send queues {:.1} + ledger {:.1} + program {:.1}",
            mib(self.total()),
            mib(sessions),
            mib(buffers),
            mib(sends),
            mib(ledger),
            mib(program)
        )
    }
}
