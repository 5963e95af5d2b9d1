//! Why a node's traffic takes the relay, from what directory and relay know of it. Nothing here is proof: the path is
//! decided by both ends and every NAT between them, and only the agents see it (`pilotctl explain PEER`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::relay_source::NodeAtRelay;
use crate::service::overview::NodeView;

/// Keepalives come more often than this, in seconds.
const HEARD_SECONDS_MAX: u64 = 90;

/// Mappings and filterings that a report may name, as in [`wire::extension::About`].
mod nat {
    pub const MAPPING_UNTOLD: u8 = 3;
    pub const MAPPING_ADDRESS: u8 = 4;
    pub const MAPPING_ADDRESS_AND_PORT: u8 = 5;
    pub const FILTERING_ADDRESS_AND_PORT: u8 = 4;
}

/// Something that speaks against a direct path, or for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not present.
    Absent,
    /// It has asked for the relay alone.
    RelayOnly,
    /// Its NAT maps each destination to another port.
    SymmetricMapping {
        /// Whether it is also another one for each port of a destination.
        by_port: bool,
    },
    /// Its NAT lets in only what comes from where it has sent to, port included.
    PortRestrictedFiltering,
    /// How its NAT maps could not be told.
    MappingUntold,
    /// It does not report what its NAT does.
    NothingReported,
    /// Where peers dial it is no address.
    EndpointUnknown(String),
    /// Where peers dial it means nothing outside of its own network.
    EndpointPrivate(SocketAddr),
    /// It is behind another port than the one it registered.
    PortDiffers {
        /// What peers dial.
        registered: SocketAddr,
        /// Where its session stands.
        seen: SocketAddr,
    },
    /// It is behind another address than the one it registered.
    AddressDiffers {
        /// What peers dial.
        registered: SocketAddr,
        /// Where its session stands.
        seen: SocketAddr,
    },
    /// The relay has no session of it.
    NoSession,
    /// The relay has not heard it for long.
    Silent(u64),
    /// Nothing that is known here.
    Nothing,
}

/// How much a reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// There is no direct path as long as it holds.
    Prevents,
    /// With some peers there is none.
    Hinders,
    /// Cannot be told.
    Unknown,
    /// Speaks against no direct path.
    Clear,
}

impl Reason {
    /// How much it says.
    #[must_use]
    pub const fn weight(&self) -> Weight {
        match self {
            Self::Absent | Self::RelayOnly | Self::EndpointUnknown(_) | Self::NoSession => Weight::Prevents,
            Self::SymmetricMapping { .. }
            | Self::PortRestrictedFiltering
            | Self::EndpointPrivate(_)
            | Self::PortDiffers { .. }
            | Self::AddressDiffers { .. }
            | Self::Silent(_) => Weight::Hinders,
            Self::MappingUntold | Self::NothingReported => Weight::Unknown,
            Self::Nothing => Weight::Clear,
        }
    }

    /// Its name for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::RelayOnly => "relay_only",
            Self::SymmetricMapping { .. } => "symmetric_mapping",
            Self::PortRestrictedFiltering => "port_restricted_filtering",
            Self::MappingUntold => "mapping_untold",
            Self::NothingReported => "nothing_reported",
            Self::EndpointUnknown(_) => "endpoint_unknown",
            Self::EndpointPrivate(_) => "endpoint_private",
            Self::PortDiffers { .. } => "port_differs",
            Self::AddressDiffers { .. } => "address_differs",
            Self::NoSession => "no_session",
            Self::Silent(_) => "silent",
            Self::Nothing => "nothing",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("The directory has not heard of it for five minutes: it is not there to be reached."),
            Self::RelayOnly => f.write_str(
                "It has asked to be reached through the relay alone, and its endpoint is handed to nobody \
                 (daemon flag -relay-only).",
            ),
            Self::SymmetricMapping { by_port } => {
                let which = if *by_port { "address- and port-dependent" } else { "address-dependent" };
                write!(
                    f,
                    "It reports a NAT with {which} mapping (symmetric; RFC 4787, 4.1): each peer sees another port than \
                     the directory does. A direct path needs a peer that is neither symmetric itself nor behind \
                     port-restricted filtering."
                )
            }
            Self::PortRestrictedFiltering => f.write_str(
                "It reports a NAT with address- and port-dependent filtering (port-restricted; RFC 4787, 5). Hole \
                 punching works with most peers, but not with one behind a symmetric NAT.",
            ),
            Self::MappingUntold => {
                f.write_str("It could not tell whether its NAT maps each destination to another port (one STUN address only).")
            }
            Self::NothingReported => {
                f.write_str("It reports nothing of its NAT and paths, as unmodified daemons do not: less can be told.")
            }
            Self::EndpointUnknown(text) => {
                write!(f, "Its registered endpoint, {text:?}, is no address that a peer could dial.")
            }
            Self::EndpointPrivate(endpoint) => write!(
                f,
                "Its registered endpoint {endpoint} is a private address: only peers in the same network reach it there. \
                 Others need hole punching through the relay.",
            ),
            Self::PortDiffers { registered, seen } => write!(
                f,
                "It registered port {} and the relay sees it at {seen}: a symmetric NAT, or a daemon without a fixed port \
                 (flag -listen) behind any NAT. Peers that dial the registered port do not reach it.",
                registered.port()
            ),
            Self::AddressDiffers { registered, seen } => write!(
                f,
                "It registered {registered} and the relay sees it at {seen}: it leaves by another way than it registered \
                 by (several uplinks, a VPN, IPv4 beside IPv6), or has moved since.",
            ),
            Self::NoSession => f.write_str(
                "The relay has no session of it, so that it can ask it for no hole punch: its UDP packets do not arrive \
                 (firewall, wrong -beacon), or it uses another relay.",
            ),
            Self::Silent(seconds) => write!(
                f,
                "The relay last heard it {seconds} s ago: its NAT may have forgotten the way back.",
            ),
            Self::Nothing => f.write_str(
                "Nothing known here speaks against a direct path. The other end may be the reason: `pilotctl explain` on \
                 either agent says what was tried.",
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reason = serializer.serialize_struct("Reason", 3)?;
        reason.serialize_field("kind", self.kind())?;
        reason.serialize_field("weight", &self.weight())?;
        reason.serialize_field("text", &self.to_string())?;
        reason.end()
    }
}

/// What a relay says of a node.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// There is none to ask.
    NoRelay,
    /// Its answer.
    Answered(Option<&'a NodeAtRelay>),
}

/// All that speaks against a direct path to `node`, the heaviest first; never empty.
#[must_use]
pub fn why_relayed(node: &NodeView, at_relay: Asked<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !node.online {
        reasons.push(Reason::Absent);
    }
    if node.relay_only {
        reasons.push(Reason::RelayOnly);
    }
    nat_reasons(node, &mut reasons);
    let registered = node.endpoint.parse::<SocketAddr>().ok().filter(|endpoint| endpoint.port() != 0);
    match registered {
        None => reasons.push(Reason::EndpointUnknown(node.endpoint.clone())),
        Some(endpoint) if is_private(endpoint.ip()) => reasons.push(Reason::EndpointPrivate(endpoint)),
        Some(_) => {}
    }
    if let Asked::Answered(answer) = at_relay {
        match (answer.and_then(|answer| answer.endpoint), registered) {
            (None, _) => reasons.push(Reason::NoSession),
            (Some(seen), Some(registered)) => reasons.extend(difference(registered, seen)),
            (Some(_), None) => {}
        }
        let silent = answer.filter(|answer| answer.endpoint.is_some()).and_then(|answer| answer.heard_seconds_ago);
        reasons.extend(silent.filter(|seconds| *seconds > HEARD_SECONDS_MAX).map(Reason::Silent));
    }
    if reasons.iter().all(|reason| reason.weight() == Weight::Unknown) {
        reasons.push(Reason::Nothing);
    }
    reasons.sort_by_key(|reason| reason.weight() as u8);
    reasons
}

fn nat_reasons(node: &NodeView, reasons: &mut Vec<Reason>) {
    let Some(report) = node.report else { return reasons.push(Reason::NothingReported) };
    match report.nat_mapping {
        0 | nat::MAPPING_UNTOLD => reasons.push(Reason::MappingUntold),
        nat::MAPPING_ADDRESS => reasons.push(Reason::SymmetricMapping { by_port: false }),
        nat::MAPPING_ADDRESS_AND_PORT => reasons.push(Reason::SymmetricMapping { by_port: true }),
        _ => {}
    }
    if report.nat_filtering == nat::FILTERING_ADDRESS_AND_PORT {
        reasons.push(Reason::PortRestrictedFiltering);
    }
}

fn difference(registered: SocketAddr, seen: SocketAddr) -> Option<Reason> {
    let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
    let registered = SocketAddr::new(registered.ip().to_canonical(), registered.port());
    if registered == seen {
        return None;
    }
    Some(match registered.ip() == seen.ip() {
        true => Reason::PortDiffers { registered, seen },
        false => Reason::AddressDiffers { registered, seen },
    })
}

/// Addresses that mean nothing on the Internet: RFC 1918, RFC 6598 (a carrier's NAT), loopback, link-local, unique local.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let carrier = ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || carrier
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use wire::NodeId;
    use wire::registry::request::Report;

    use super::*;
    use crate::enrolment::Standing;

    /// A node on the open Internet whose session stands where it registered.
    fn node() -> NodeView {
        NodeView {
            node_id: NodeId(7),
            address: "0:0000.0000.0007".into(),
            hostname: None,
            standing: Standing::Approved,
            tags: Vec::new(),
            capability: None,
            groups: Vec::new(),
            public: true,
            online: true,
            last_seen: None,
            version: String::new(),
            endpoint: "203.0.113.7:4000".into(),
            endpoint_follows: false,
            relay_only: false,
            proven: Vec::new(),
            report: Some(Report { nat_mapping: 1, nat_filtering: 1, ..Report::default() }),
        }
    }

    fn session(endpoint: &str) -> NodeAtRelay {
        let endpoint = Some(endpoint.parse().unwrap());
        NodeAtRelay { endpoint, shard: 0, grade: Some(1), heard_seconds_ago: Some(3), events: Vec::new() }
    }

    fn kinds(node: &NodeView, at_relay: &NodeAtRelay) -> Vec<&'static str> {
        why_relayed(node, Asked::Answered(Some(at_relay))).iter().map(Reason::kind).collect()
    }

    #[test]
    fn nothing_speaks_against_an_open_node() {
        assert_eq!(kinds(&node(), &session("203.0.113.7:4000")), ["nothing"]);
        assert_eq!(
            kinds(&node(), &session("[::ffff:203.0.113.7]:4000")),
            ["nothing"],
            "the same address in IPv6 dress"
        );
        assert_eq!(why_relayed(&node(), Asked::NoRelay), [Reason::Nothing]);
    }

    #[test]
    fn each_reported_nat_has_its_reason() {
        for (nat_mapping, nat_filtering, expected) in [
            (0, 0, vec!["mapping_untold", "nothing"]),
            (2, 1, vec!["nothing"]),
            (2, 3, vec!["nothing"]),
            (2, 4, vec!["port_restricted_filtering"]),
            (3, 0, vec!["mapping_untold", "nothing"]),
            (4, 1, vec!["symmetric_mapping"]),
            (5, 4, vec!["symmetric_mapping", "port_restricted_filtering"]),
        ] {
            let report = Some(Report { nat_mapping, nat_filtering, ..Report::default() });
            let mut found = kinds(&NodeView { report, ..node() }, &session("203.0.113.7:4000"));
            found.sort_by_key(|kind| expected.iter().position(|expected| expected == kind));
            assert_eq!(found, expected, "{nat_mapping} {nat_filtering}");
        }
        let silent = NodeView { report: None, ..node() };
        assert_eq!(kinds(&silent, &session("203.0.113.7:4000")), ["nothing_reported", "nothing"]);
    }

    #[test]
    fn the_session_is_compared_with_the_registration() {
        assert_eq!(kinds(&node(), &session("203.0.113.7:61234")), ["port_differs"]);
        assert_eq!(kinds(&node(), &session("198.51.100.1:4000")), ["address_differs"]);
        assert_eq!(why_relayed(&node(), Asked::Answered(None)), [Reason::NoSession]);
        let remembered = NodeAtRelay { endpoint: None, heard_seconds_ago: Some(500), ..session("203.0.113.7:4000") };
        assert_eq!(kinds(&node(), &remembered), ["no_session"]);
        let silent = NodeAtRelay { heard_seconds_ago: Some(91), ..session("203.0.113.7:4000") };
        assert_eq!(kinds(&node(), &silent), ["silent"]);
    }

    #[test]
    fn an_endpoint_that_peers_cannot_dial_is_named() {
        for private in ["10.0.0.7:4000", "100.64.0.1:4000", "[fd00::7]:4000", "127.0.0.1:4000"] {
            let node = NodeView { endpoint: private.into(), ..node() };
            assert_eq!(kinds(&node, &session(private)), ["endpoint_private"], "{private}");
        }
        assert_eq!(
            kinds(&NodeView { endpoint: "100.128.0.1:4000".into(), ..node() }, &session("100.128.0.1:4000")),
            ["nothing"]
        );
        for none in ["", "somewhere", "203.0.113.7:0"] {
            assert_eq!(
                kinds(&NodeView { endpoint: none.into(), ..node() }, &session("203.0.113.7:4000")),
                ["endpoint_unknown"]
            );
        }
    }

    #[test]
    fn what_prevents_comes_before_what_hinders() {
        let report = Some(Report { nat_mapping: 5, ..Report::default() });
        let node = NodeView { relay_only: true, online: false, report, endpoint: "10.0.0.7:1".into(), ..node() };
        let expected = ["absent", "relay_only", "no_session", "symmetric_mapping", "endpoint_private"];
        let found: Vec<_> = why_relayed(&node, Asked::Answered(None)).iter().map(Reason::kind).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_reason_has_words() {
        let symmetric = Reason::SymmetricMapping { by_port: true };
        let json = serde_json::to_value(&symmetric).unwrap();
        assert_eq!((&json["kind"], &json["weight"]), (&"symmetric_mapping".into(), &"hinders".into()));
        assert!(json["text"].as_str().unwrap().contains("RFC 4787"));
    }
}
