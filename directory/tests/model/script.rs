//! Histories as bytes. Every byte string is one; nothing is refused, so nothing a fuzzer tries is wasted.

/// Bytes of a step.
pub const STEP_LEN: usize = 8;
/// Steps of one history: signatures take their time.
pub const STEPS_MAX: usize = 80;
/// Keys there are: more than nodes that act, so that keys can be replaced.
pub const KEYS: usize = 8;
/// Connections open at once.
pub const CONNECTIONS: usize = 4;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame with a request comes over a connection.
    Request { connection: usize, ask: Ask, twist: Twist },
    /// Any bytes come over a connection.
    Bytes { connection: usize, bytes: Vec<u8> },
    /// A frame that came before comes again, over this connection.
    Replay { connection: usize, which: u8 },
    /// A connection ends, and its place is taken by another.
    Close { connection: usize },
    /// So many seconds pass.
    Pass(u64),
    /// The process ends and starts again.
    Restart,
}

/// What is asked: an operation by number, who asks by key, and whatever the operation needs.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub operation: u8,
    pub key: usize,
    pub peer: u8,
    pub choice: u8,
    pub flag: bool,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    Nothing,
    /// Signed with another's key.
    WrongKey,
    Unsigned,
    /// A bit of the JSON is another.
    Flipped(u8),
    /// The second half comes with the connection's next frame.
    Halved,
}

/// The steps.
pub fn read(bytes: &[u8]) -> Vec<Step> {
    let (mut steps, mut rest) = (Vec::new(), bytes);
    while steps.len() < STEPS_MAX
        && let Some((step, behind)) = rest.split_first_chunk::<STEP_LEN>()
    {
        let (step, behind) = read_step(step, behind);
        steps.push(step);
        rest = behind;
    }
    steps
}

fn read_step<'a>(&[op, a, b, c, d, e, f, g]: &[u8; STEP_LEN], behind: &'a [u8]) -> (Step, &'a [u8]) {
    let connection = usize::from(b) % CONNECTIONS;
    let step = match op % 32 {
        0 => Step::Close { connection },
        1 => Step::Pass(if a < 0x80 { u64::from(a % 4) } else { 301 }),
        2 if a < 0x40 => Step::Restart,
        2..=4 => Step::Replay { connection, which: a },
        5 => {
            let (bytes, behind) = behind.split_at(behind.len().min(usize::from(c % 64)));
            return (Step::Bytes { connection, bytes: bytes.to_vec() }, behind);
        }
        // Nodes have to exist before anything can happen to them.
        6..=8 => request(connection, 0, &[a, c, d, e, f, g]),
        operation => request(connection, operation - 9 + (f & 1) * 23, &[a, c, d, e, f, g]),
    };
    (step, behind)
}

fn request(connection: usize, operation: u8, &[a, c, d, e, f, g]: &[u8; 6]) -> Step {
    let ask = Ask { operation, key: usize::from(a) % KEYS, peer: c, choice: d, flag: e & 1 == 1 };
    let twist = match g % 16 {
        0..=10 => Twist::Nothing,
        11 => Twist::WrongKey,
        12 => Twist::Unsigned,
        13 | 14 => Twist::Flipped(f),
        _ => Twist::Halved,
    };
    Step::Request { connection, ask, twist }
}
