//! Interface counters, read before and after a story to show which way its bytes went.

use std::fmt;
use std::ops::Sub;

use serde_json::Value;

/// Bytes and packets of one interface, seen from the machine that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came in, link headers included.
    pub received_bytes: u64,
    /// Packets that came in.
    pub received_packets: u64,
    /// Bytes that went out, link headers included.
    pub sent_bytes: u64,
    /// Packets that went out.
    pub sent_packets: u64,
}

impl Traffic {
    #[track_caller]
    pub(crate) fn from_ip_json(json: &str) -> Self {
        let links: Value =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("ip printed no JSON: {error}: {json}"));
        let count = |direction: &str, unit: &str| {
            let counter = &links[0]["stats64"][direction][unit];
            counter.as_u64().unwrap_or_else(|| panic!("ip shows no {direction} {unit}: {json}"))
        };
        Self {
            received_bytes: count("rx", "bytes"),
            received_packets: count("rx", "packets"),
            sent_bytes: count("tx", "bytes"),
            sent_packets: count("tx", "packets"),
        }
    }

    /// Bytes in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.received_bytes + self.sent_bytes
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            received_bytes: self.received_bytes - earlier.received_bytes,
            received_packets: self.received_packets - earlier.received_packets,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            sent_packets: self.sent_packets - earlier.sent_packets,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} KiB in, {} KiB out", self.received_bytes / 1024, self.sent_bytes / 1024)
    }
}
