//! Histories as bytes. Every byte string is one; nothing is refused, so nothing a fuzzer tries is wasted.

use std::net::SocketAddr;
use std::time::Duration;

use relay::endpoint::Endpoint;
use relay::server::Admission;
use wire::NodeId;

/// Bytes of the setting, and of each step.
pub const STEP_LEN: usize = 8;
/// Steps of one history.
pub const STEPS_MAX: usize = 400;

/// The ids that occur: two or more for each shard, one that no directory knows, and what is no node's.
pub const NODES: [NodeId; 8] =
    [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5), NodeId(6), NodeId(0), NodeId(u32::MAX)];
/// How many of these can be a node's.
pub const REAL_NODES: usize = 6;

const HOSTS: [&str; 6] = ["198.18.1.1", "198.18.1.2", "203.0.113.3", "[2001:db8:1::1]", "[2001:db8:2::1]", "127.0.0.1"];
const PORTS: [u16; 3] = [4001, 4002, 4003];
/// The addresses behind [`endpoint`]: three ports of each host.
pub const ENDPOINTS: usize = HOSTS.len() * PORTS.len();

/// The number of the one that is a service's, which would answer an answer.
const SERVICE: usize = ENDPOINTS - 1;

/// From a blink to two session timeouts.
const TIMES_MS: [u64; 16] =
    [0, 1, 40, 174, 175, 350, 351, 500, 999, 1000, 2000, 15_999, 61_000, 91_000, 151_000, 601_000];

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Setting {
    pub shards: usize,
    pub admission: Admission,
    /// Whether a directory feeds the relay, and which of [`NODES`] it knows in the beginning, by bits.
    pub has_authority: bool,
    pub known: u8,
    /// Whom the relay remembers from before a restart, by bits.
    pub remembered: u8,
    pub sessions_max: usize,
    /// Budgets so small that they bind; the reference does not take part then.
    pub has_budgets: bool,
    /// Messages between shards arrive at once unless a step says otherwise.
    pub is_prompt: bool,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A datagram comes to a local address of a shard; without one, to the shard its first bytes say.
    Datagram { from: Source, local: u8, shard: Option<u8>, bytes: Vec<u8> },
    /// A signed claim, with the cookie its sender was last given, or zeros to be given one.
    Claim { from: Source, local: u8, shard: Option<u8>, node: NodeId, has_cookie: bool },
    /// Those who know the nodes answer the oldest question: it is signed, repeated, or forged; they may be introduced or not.
    Judge { is_good: bool, is_repeated: bool },
    /// Time passes, and what falls due is done when it is.
    Pass(Duration),
    /// Time passes, and one shard does what has fallen due only then.
    Stall { shard: u8, time: Duration },
    /// The directory publishes a node with these hosts as proven, by bits, and perhaps where it is.
    Publish { node: NodeId, proven: u8, last: Option<u8> },
    /// The directory forgets a node; the shard that has its session may not hear of it.
    Withdraw { node: NodeId, is_told: bool },
    /// The directory comes or goes.
    Authority(bool),
    /// Something waits for a node in the directory.
    Notify(NodeId),
    /// A local address comes or goes, as one shard sees it.
    Local { shard: u8, local: u8, is_present: bool },
    /// A shard reads so many messages.
    Deliver { shard: u8, count: u8 },
    /// A shard's mailbox was full: its latest message is lost.
    Lose { shard: u8 },
    /// The time in which the relay remembers where nodes were before a restart is over.
    Forget,
}

/// Where a datagram comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One of [`ENDPOINTS`].
    Endpoint(u8),
    /// Whom the relay asked for a sign of life last.
    Asked,
}

/// The endpoint behind a number. The upper half of the numbers are the same few, so that chance brings nodes together.
pub fn endpoint(number: u8) -> Endpoint {
    let number = usize::from(number) % if number < 0x80 { ENDPOINTS } else { PORTS.len() };
    if number == SERVICE {
        return SocketAddr::from(([203, 0, 113, 7], 53)).into();
    }
    format!("{}:{}", HOSTS[number / PORTS.len()], PORTS[number % PORTS.len()])
        .parse::<SocketAddr>()
        .expect("an endpoint")
        .into()
}

/// The hosts whose bits are set.
pub fn hosts(bits: u8) -> Vec<std::net::IpAddr> {
    let chosen = (0..HOSTS.len()).filter(|host| bits >> host & 1 == 1);
    chosen.map(|host| endpoint((host * PORTS.len()) as u8).ip()).collect()
}

/// The setting and the steps; `None` where there are none.
pub fn read(bytes: &[u8]) -> Option<(Setting, Vec<Step>)> {
    let (setting, mut rest) = bytes.split_first_chunk::<STEP_LEN>()?;
    let mut steps = Vec::new();
    while steps.len() < STEPS_MAX
        && let Some((step, behind)) = rest.split_first_chunk::<STEP_LEN>()
    {
        let (step, behind) = read_step(step, behind);
        steps.push(step);
        rest = behind;
    }
    Some((read_setting(setting), steps))
}

fn read_setting(&[a, known, remembered, room, ..]: &[u8; STEP_LEN]) -> Setting {
    Setting {
        shards: usize::from(a % 3) + 1,
        admission: match a >> 2 & 7 {
            7 => Admission::Open,
            5 | 6 => Admission::Strict,
            _ => Admission::Grace,
        },
        has_authority: a >> 5 & 1 == 0,
        has_budgets: a >> 6 & 1 == 1,
        is_prompt: a >> 7 == 0,
        known,
        remembered,
        sessions_max: [64, 64, 1, 3][usize::from(room % 4)],
    }
}

/// Reads one step, which may take the datagram's bytes from what follows.
fn read_step<'a>(&[op, a, b, c, d, e, f, g]: &[u8; STEP_LEN], behind: &'a [u8]) -> (Step, &'a [u8]) {
    let node = |byte: u8| NODES[usize::from(byte) % if byte < 0x80 { NODES.len() } else { 2 }];
    let time = |byte: u8| Duration::from_millis(TIMES_MS[usize::from(byte) % TIMES_MS.len()]);
    let from = if a >= 0xE0 { Source::Asked } else { Source::Endpoint(a) };
    // Mostly the first beacon address, and the shard that is meant.
    let local = if b & 0x0F < 8 { 0 } else { b & 0x0F };
    let shard = (b >> 4 >= 12).then_some(b >> 4);
    let datagram = |bytes: Vec<u8>| Step::Datagram { from, local, shard, bytes };
    let ids = |kind: u8| [&[kind], &node(c).0.to_be_bytes()[..], &node(d).0.to_be_bytes()].concat();
    let step = match op % 32 {
        0..=4 => datagram(ids(if e & 7 == 7 { 0x08 } else { 0x01 })[..5].to_vec()),
        5..=9 => datagram([&ids(0x05)[..], &[f, g, f, g, f, g, f][..usize::from(e & 7).min(7)]].concat()),
        10 | 11 => datagram(ids(0x03)),
        12..=14 => datagram(b"PILP"[..if e == 0xFF { 3 } else { 4 }].to_vec()),
        15 => {
            let context = [&[f; 16][..], &[g | 1; 8], &[e & 1]].concat();
            datagram([ids(0x0D), context].concat())
        }
        16 if e & 1 == 1 => Step::Claim { from, local, shard, node: node(c), has_cookie: d & 1 == 1 },
        16 => {
            let header = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, c, d, e, f, g, 0, 0, 0, 0, 0, 0, 0];
            datagram(header.to_vec())
        }
        17 => {
            // Any bytes: those of the steps that follow.
            let (bytes, behind) = behind.split_at(behind.len().min(usize::from(c % 64)));
            return (datagram(bytes.to_vec()), behind);
        }
        18 => {
            // A message of a type, cut or with something behind it.
            let mut bytes = ids(e % 0x10);
            bytes.extend([f; 16]);
            bytes.truncate(usize::from(g % 32));
            datagram(bytes)
        }
        19..=21 => Step::Pass(time(a)),
        22 => Step::Stall { shard: b, time: time(a) },
        23 | 24 => Step::Publish { node: node(c), proven: d, last: (e & 1 == 1).then_some(f) },
        25 => Step::Withdraw { node: node(c), is_told: d & 3 != 3 },
        26 if a & 1 == 1 => Step::Judge { is_good: b & 3 != 3, is_repeated: b & 0x0C == 0x0C },
        26 => Step::Notify(node(c)),
        27 => Step::Local { shard: a, local: b, is_present: c & 1 == 0 },
        28 | 29 => Step::Deliver { shard: a, count: b % 8 + 1 },
        30 => Step::Lose { shard: a },
        _ if a < 0xC0 => Step::Authority(a & 1 == 0),
        _ => Step::Forget,
    };
    (step, behind)
}
