//! The node's place in the directory (sections 4.6, 6.2 to 6.5): what is asked of the directory, and when.
//!
//! ```text
//!  endpoint known                     set_hostname, set_visibility as owed
//!       │                                       ▲
//!       ▼             taken                     │
//!   register ───────────────────► registered ───┴─► heartbeat, once a minute
//!       ▲                              │
//!       └──────────────────────────────┘ endpoint changed; node not found; three heartbeats failed
//! ```
//!
//! Decides the requests and their times. Signing and sending them, and which endpoint is announced, is left to the
//! owner; so is the directory's list of relays.

mod bans;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;
use wire::address::Address;
use wire::registry::answer::{Registered, SIGNATURE_FAILED};
use wire::registry::bans::Listed;
use wire::registry::request::{LAN_ADDRS_MAX, Register};
use wire::registry::{Answer, Operation, PublicKey};

use crate::Time;
use crate::node::Unanswered;

/// The longest time between heartbeats (section 4.6); each comes up to a tenth sooner, so that nodes started at once
/// do not beat at once for ever.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_mins(1);
/// So many heartbeats in a row without success, and the node registers again (section 6.2).
pub const HEARTBEAT_FAILURES_MAX: u32 = 3;
/// The rest of a list of bans that was too long for one answer is asked for so soon.
pub const REST_OF_BANS_AFTER: Duration = Duration::from_secs(2);
/// What changes together is announced together: roaming tells one address after the other.
pub const DEBOUNCE: Duration = Duration::from_millis(200);
/// The first pause after a failure; it doubles
pub const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// up to this. Of each pause the last half is left to chance.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Events kept for the owner; the oldest go first.
const EVENTS_MAX: usize = 16;
/// Characters of a text of the directory that are passed on.
const TEXT_CHARS_MAX: usize = 200;
/// What daemons act on (section 6.2), besides [`SIGNATURE_FAILED`].
const NODE_NOT_FOUND: &str = "node not found";

/// What the directory is told of a node, besides its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The name wanted; may be empty.
    pub hostname: String,
    /// An email address or another name of whoever runs the node; may be empty.
    pub owner: String,
    /// The node's release.
    pub version: String,
    /// Anyone may resolve the node. Nodes are private unless they say otherwise, so only this is announced.
    pub public: bool,
    /// The node is to be reached through the relay alone; its local addresses stay its own.
    pub relay_only: bool,
}

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory has taken a registration.
    Registered {
        /// The id.
        node: NodeId,
        /// The address that goes with it.
        address: Address,
        /// The id is another than before: the first one, or the directory has lost its data.
        anew: bool,
    },
    /// The directory refuses something, as a hostname that another has. Told once, until it is taken or the text is
    /// another.
    Complaint(String),
    /// The directory is away: registering, or three heartbeats, got no answer.
    Lost(String),
    /// It answers again.
    Back,
    /// It keeps these nodes out; some it may have named before.
    Banned(Vec<NodeId>),
}

/// Where the registration stands, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is nothing to announce yet.
    AwaitingEndpoint,
    /// The directory has not answered yet.
    Registering,
    /// The directory has this node under this id.
    Registered(NodeId),
    /// The directory refuses the node, and is asked again.
    Refused(String),
    /// The directory does not answer.
    Away {
        /// The id it has given before.
        node: Option<NodeId>,
        /// What is known of the cause.
        reason: String,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitingEndpoint => write!(out, "waiting for a relay to tell this node's endpoint"),
            Self::Registering => write!(out, "registering"),
            Self::Registered(node) => write!(out, "registered as node {node}"),
            Self::Refused(reason) => write!(out, "refused by the directory: {reason}"),
            Self::Away { node: Some(node), reason } => write!(out, "node {node}; {reason}"),
            Self::Away { node: None, reason } => write!(out, "not registered; {reason}"),
        }
    }
}

/// What is asked of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Register,
    Heartbeat,
    SetHostname,
    SetVisibility,
}

const ASKS: usize = Ask::SetVisibility as usize + 1;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    listen: SocketAddr,
    lan: Vec<SocketAddr>,
}

/// The registration of one node.
///
/// Time alone does nothing here but make the next operation fall due: the owner takes
/// [`Registration::poll_operation`] after every call and at [`Registration::poll_timeout`].
#[derive(Debug)]
pub struct Registration {
    announcement: Announcement,
    public_key: PublicKey,
    /// What the directory has to be told after each registration; it takes nodes for private by itself.
    visibility: Option<bool>,
    jitter: Jitter,
    endpoint: Option<Endpoint>,
    node: Option<NodeId>,
    is_registered: bool,
    outstanding: Option<Ask>,
    /// Also while one is outstanding, if the endpoint has changed since.
    register_at: Option<Time>,
    heartbeat_at: Time,
    owes_hostname: bool,
    owes_visibility: bool,
    owed_at: Time,
    /// Operations in a row without success.
    failures: u32,
    heartbeat_failures: u32,
    away: Option<String>,
    /// The last complaint about each.
    refused: [Option<String>; ASKS],
    bans: bans::Told,
    events: VecDeque<Event>,
}

impl Registration {
    /// A node that has not registered yet. `seed`: any number that differs between nodes and starts.
    #[must_use]
    pub fn new(announcement: Announcement, public_key: PublicKey, seed: u64) -> Self {
        Self {
            visibility: announcement.public.then_some(true),
            announcement,
            public_key,
            jitter: Jitter(seed),
            endpoint: None,
            node: None,
            is_registered: false,
            outstanding: None,
            register_at: None,
            heartbeat_at: Time::default(),
            owes_hostname: false,
            owes_visibility: false,
            owed_at: Time::default(),
            failures: 0,
            heartbeat_failures: 0,
            away: None,
            refused: Default::default(),
            bans: bans::Told::default(),
            events: VecDeque::new(),
        }
    }

    /// The endpoint to announce, and those in the host's own networks, of which the first 16 count. The first call
    /// starts the registration; a change repeats it, [`DEBOUNCE`] later. A private or loopback endpoint may be
    /// announced: the directory puts the address of the connection in its place.
    pub fn set_endpoint(&mut self, now: Time, listen: SocketAddr, lan: &[SocketAddr]) {
        let lan = if self.announcement.relay_only { &[] } else { &lan[..lan.len().min(LAN_ADDRS_MAX)] };
        let endpoint = Endpoint { listen, lan: lan.to_vec() };
        if self.endpoint.as_ref() == Some(&endpoint) {
            return;
        }
        let wait = if self.endpoint.is_some() { DEBOUNCE } else { Duration::ZERO };
        self.endpoint = Some(endpoint);
        self.register_by(now + wait);
    }

    /// The directory has taken this hostname from the user: it is what later registrations announce.
    pub fn set_hostname(&mut self, hostname: &str) {
        hostname.clone_into(&mut self.announcement.hostname);
        self.owes_hostname = false;
        self.refused[Ask::SetHostname as usize] = None;
    }

    /// The directory has taken this visibility from the user: it is told again after later registrations.
    pub fn set_visibility(&mut self, public: bool) {
        self.announcement.public = public;
        self.visibility = Some(public);
        self.owes_visibility = false;
        self.refused[Ask::SetVisibility as usize] = None;
    }

    /// The next request, to be signed and sent. There is none before the one before is answered, so every one has to
    /// come back to [`Registration::handle_answer`].
    pub fn poll_operation(&mut self, now: Time) -> Option<Operation> {
        let (due, ask) = self.due()?;
        if due > now {
            return None;
        }
        let operation = match (ask, self.node) {
            (Ask::Register, _) => Operation::Register(self.begin_registration()?),
            (Ask::Heartbeat, Some(node_id)) => {
                Operation::Heartbeat { node_id, report: None, bans_since: Some(self.bans.since(now)) }
            }
            (Ask::SetHostname, Some(node_id)) => {
                Operation::SetHostname { node_id, hostname: self.announcement.hostname.clone() }
            }
            (Ask::SetVisibility, Some(node_id)) => {
                Operation::SetVisibility { node_id, public: self.announcement.public }
            }
            (_, None) => return None,
        };
        self.outstanding = Some(ask);
        Some(operation)
    }

    /// The answer to the operation taken last. One that nobody waits for is passed over.
    pub fn handle_answer(&mut self, now: Time, answer: Result<&Answer, &Unanswered>) {
        let Some(ask) = self.outstanding.take() else { return };
        match (ask, answer) {
            (_, Err(unanswered)) => self.handle_silence(now, ask, &clip(&unanswered.to_string())),
            (_, Ok(Answer::Error { error })) => self.handle_refusal(now, ask, error),
            (Ask::Register, Ok(Answer::Register(registered))) if self.is_ours(registered) => {
                self.handle_registered(now, registered);
            }
            (Ask::Heartbeat, Ok(Answer::Heartbeat { bans, .. })) => {
                if let Some(listed) = bans {
                    self.handle_bans(listed);
                }
                self.heartbeat_failures = 0;
                self.beat_later(now);
                if bans.as_ref().is_some_and(|listed| listed.next.after != NodeId::UNSET) {
                    self.heartbeat_at = now + REST_OF_BANS_AFTER;
                }
                self.handle_success(ask);
            }
            (Ask::SetHostname, Ok(Answer::SetHostname { .. })) => {
                self.owes_hostname = false;
                self.handle_success(ask);
            }
            (Ask::SetVisibility, Ok(Answer::SetVisibility { .. })) => {
                self.owes_visibility = false;
                self.handle_success(ask);
            }
            (_, Ok(_)) => self.handle_refusal(now, ask, "the directory's answer does not fit the question"),
        }
    }

    /// When [`Registration::poll_operation`] will have something, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due().map(|(due, _)| due)
    }

    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The node's id, once the directory has given one. It stays while the directory is away.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Whether anyone may connect.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.announcement.public
    }

    /// Whether the directory has the node, as far as is known.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        self.is_registered
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.away, &self.refused[Ask::Register as usize], self.node) {
            _ if self.endpoint.is_none() => Status::AwaitingEndpoint,
            (Some(reason), _, node) => Status::Away { node, reason: reason.clone() },
            (None, _, Some(node)) if self.is_registered => Status::Registered(node),
            (None, Some(reason), _) => Status::Refused(reason.clone()),
            (None, None, _) => Status::Registering,
        }
    }

    /// What is next, and when.
    fn due(&self) -> Option<(Time, Ask)> {
        if self.outstanding.is_some() {
            return None;
        }
        let registers = self.register_at.map(|at| (at, Ask::Register));
        if !self.is_registered {
            return registers;
        }
        let hostname = self.owes_hostname.then_some((self.owed_at, Ask::SetHostname));
        let visibility = self.owes_visibility.then_some((self.owed_at, Ask::SetVisibility));
        let heartbeat = Some((self.heartbeat_at, Ask::Heartbeat));
        // Of two due at once the first is taken.
        [registers, hostname, visibility, heartbeat].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn register_by(&mut self, due: Time) {
        self.register_at = Some(self.register_at.map_or(due, |at| at.min(due)));
    }

    fn begin_registration(&mut self) -> Option<Register> {
        let endpoint = self.endpoint.clone()?;
        let Announcement { hostname, owner, version, relay_only, .. } = self.announcement.clone();
        let register = Register {
            listen_addr: endpoint.listen.to_string(),
            public_key: self.public_key,
            owner,
            hostname,
            version,
            lan_addrs: endpoint.lan.iter().map(ToString::to_string).collect(),
            relay_only,
        };
        self.register_at = None;
        Some(register)
    }

    fn is_ours(&self, registered: &Registered) -> bool {
        let Registered { node_id, address, public_key, .. } = registered;
        node_id.is_node() && address.node == *node_id && *public_key == self.public_key
    }

    fn handle_registered(&mut self, now: Time, registered: &Registered) {
        let anew = self.node != Some(registered.node_id);
        self.bans.handle_registered(now);
        let beats = (self.is_registered && self.heartbeat_failures == 0).then_some(self.heartbeat_at);
        self.node = Some(registered.node_id);
        self.is_registered = true;
        self.heartbeat_failures = 0;
        self.beat_later(now);
        // A sign of life as well, but only heartbeats bring bans: an endpoint that changes all the time must not put them off.
        self.heartbeat_at = beats.map_or(self.heartbeat_at, |due| due.min(self.heartbeat_at));
        self.handle_success(Ask::Register);
        self.tell(Event::Registered { node: registered.node_id, address: registered.address, anew });
        self.owed_at = now;
        self.owes_visibility = self.visibility.is_some();
        self.owes_hostname = false;
        if let Some(error) = &registered.hostname_error {
            self.complain(Ask::SetHostname, error);
        } else if self.announcement.hostname.is_empty()
            || registered.hostname.as_ref() == Some(&self.announcement.hostname)
        {
            self.refused[Ask::SetHostname as usize] = None;
        } else {
            // An older directory, or the user has chosen another name meanwhile.
            self.owes_hostname = true;
        }
    }

    fn handle_bans(&mut self, listed: &Listed) {
        self.bans.handle_list(listed.next);
        if !listed.node_ids.is_empty() {
            self.tell(Event::Banned(listed.node_ids.clone()));
        }
    }

    fn handle_success(&mut self, ask: Ask) {
        self.failures = 0;
        self.refused[ask as usize] = None;
        self.handle_alive();
    }

    /// It answers, be it with a refusal.
    fn handle_alive(&mut self) {
        if self.away.take().is_some() {
            self.tell(Event::Back);
        }
    }

    fn handle_silence(&mut self, now: Time, ask: Ask, reason: &str) {
        self.handle_failure(now, ask);
        if self.is_registered || self.away.is_some() {
            return;
        }
        self.away = Some(reason.to_owned());
        self.tell(Event::Lost(reason.to_owned()));
    }

    fn handle_refusal(&mut self, now: Time, ask: Ask, error: &str) {
        self.handle_alive();
        match ask {
            Ask::Heartbeat if error.contains(NODE_NOT_FOUND) || error.contains(SIGNATURE_FAILED) => {
                self.is_registered = false;
                self.register_by(now);
                return;
            }
            Ask::Heartbeat | Ask::Register => self.handle_failure(now, ask),
            // Asking again would change nothing.
            Ask::SetHostname => self.owes_hostname = false,
            Ask::SetVisibility => self.owes_visibility = false,
        }
        self.complain(ask, error);
    }

    fn handle_failure(&mut self, now: Time, ask: Ask) {
        let again_at = now + self.back_off();
        self.failures = self.failures.saturating_add(1);
        match ask {
            Ask::Register => {
                self.is_registered = false;
                self.register_by(again_at);
            }
            Ask::Heartbeat => {
                self.heartbeat_at = again_at;
                self.heartbeat_failures += 1;
                if self.heartbeat_failures >= HEARTBEAT_FAILURES_MAX {
                    self.heartbeat_failures = 0;
                    self.is_registered = false;
                    self.register_by(again_at);
                }
            }
            Ask::SetHostname | Ask::SetVisibility => self.owed_at = again_at,
        }
    }

    fn back_off(&mut self) -> Duration {
        let pause = BACK_OFF_MIN.saturating_mul(1 << self.failures.min(5)).min(BACK_OFF_MAX);
        pause - self.jitter.up_to(pause / 2)
    }

    fn beat_later(&mut self, now: Time) {
        self.heartbeat_at = now + (HEARTBEAT_INTERVAL - self.jitter.up_to(HEARTBEAT_INTERVAL / 10));
    }

    fn complain(&mut self, ask: Ask, error: &str) {
        let text = clip(error);
        let last = &mut self.refused[ask as usize];
        if last.as_ref() != Some(&text) {
            *last = Some(text.clone());
            self.tell(Event::Complaint(text));
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Another's text, fit for a log.
fn clip(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// Numbers that spread nodes over time; nobody is meant to be unable to guess them (SplitMix64).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn up_to(&mut self, max: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let max_nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(mixed % max_nanos.saturating_add(1).max(1))
    }
}
