//! The four classic behaviours of address translators (RFC 3489 section 5, RFC 4787) as nftables rules.
//!
//! Linux's own translation keeps a mapping per connection and preserves the port, which seen from outside is a
//! port-restricted cone. The looser cones add sets learnt from outgoing datagrams; the symmetric one draws a random port
//! for every destination. What arrives unasked is dropped before connection tracking confirms it: a tracked refusal
//! would occupy the very mapping that a hole punched a moment later needs.

use std::net::Ipv4Addr;

/// How a site's router maps and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// One mapping for all destinations, open to everyone.
    FullCone,
    /// One mapping for all destinations, open to addresses that were sent to.
    AddressRestricted,
    /// One mapping for all destinations, open to the address and port pairs that were sent to.
    PortRestricted,
    /// A mapping of its own for every destination.
    Symmetric,
}

/// How two nodes can talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Without the relay.
    Direct,
    /// Through the relay alone.
    Relayed,
    /// A direct path is possible, but only for a node that tries from the right side.
    Either,
}

/// Seconds without traffic after which a mapping ends: the least RFC 4787 REQ-5 recommends.
pub(crate) const MAPPING_SECONDS: u32 = 300;

impl Nat {
    /// All four, loosest first.
    pub const ALL: [Self; 4] = [Self::FullCone, Self::AddressRestricted, Self::PortRestricted, Self::Symmetric];

    /// What RFC 5128 section 3.3 lets nodes behind this translator and another do.
    #[must_use]
    pub fn path_to(self, other: Self) -> Path {
        match (self, other) {
            (Self::Symmetric, Self::Symmetric | Self::PortRestricted) | (Self::PortRestricted, Self::Symmetric) => {
                Path::Relayed
            }
            (Self::Symmetric, _) | (_, Self::Symmetric) => Path::Either,
            _ => Path::Direct,
        }
    }

    /// Every pair.
    #[must_use]
    pub fn all_pairs() -> Vec<(Self, Self)> {
        Self::ALL.into_iter().flat_map(|left| Self::ALL.map(|right| (left, right))).collect()
    }

    /// The pairs that tell most, for a short run.
    #[must_use]
    pub fn telling_pairs() -> Vec<(Self, Self)> {
        vec![
            (Self::FullCone, Self::Symmetric),
            (Self::AddressRestricted, Self::PortRestricted),
            (Self::PortRestricted, Self::Symmetric),
            (Self::PortRestricted, Self::FullCone),
        ]
    }

    /// Rules for a router with interfaces `wan` and `lan`. With `tcp_address`, TCP leaves from that address and only
    /// UDP from the interface's own, as behind carrier-grade translators with pooled addresses.
    pub(crate) fn rules(self, tcp_address: Option<Ipv4Addr>) -> String {
        let learn = match self {
            Self::FullCone => "update @mapped { udp sport : ip saddr }",
            Self::AddressRestricted => {
                "update @mapped { udp sport : ip saddr } update @contacted { udp sport . ip daddr }"
            }
            Self::PortRestricted | Self::Symmetric => "counter",
        };
        let admit = match self {
            Self::FullCone => r#"iifname "wan" dnat to udp dport map @mapped"#,
            Self::AddressRestricted => r#"iifname "wan" udp dport . ip saddr @contacted dnat to udp dport map @mapped"#,
            Self::PortRestricted | Self::Symmetric => "",
        };
        let translate = if self == Self::Symmetric { "masquerade fully-random" } else { "masquerade" };
        let tcp =
            tcp_address.map(|from| format!(r#"oifname "wan" ip protocol tcp snat to {from}"#)).unwrap_or_default();
        format!(
            r#"
table ip lab
delete table ip lab
table ip lab {{
    map mapped {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout {MAPPING_SECONDS}s; }}
    set contacted {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout {MAPPING_SECONDS}s; }}
    chain input {{
        type filter hook input priority 0;
        iifname "wan" ct state established,related accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority 0;
        iifname "lan" oifname "wan" ip protocol udp {learn}
        iifname "wan" ct state established,related accept
        iifname "wan" ct status dnat accept
        iifname "wan" drop
    }}
    chain prerouting {{
        type nat hook prerouting priority -100;
        {admit}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        {tcp}
        oifname "wan" {translate}
    }}
}}
"#
        )
    }
}
