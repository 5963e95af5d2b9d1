//! Histories as bytes. Every byte string is one; nothing is refused, so nothing a fuzzer tries is wasted.

use std::time::Duration;

/// Bytes of a step.
pub const STEP_LEN: usize = 8;
/// Steps of one history.
pub const STEPS_MAX: usize = 60;

const TIMES_MS: [u64; 8] = [0, 1, 10, 21, 50, 250, 1100, 31_000];

/// Something that happens to one of the two nodes, `host`.
#[derive(Clone, Debug)]
pub enum Step {
    Dial {
        host: usize,
    },
    Write {
        host: usize,
        which: u8,
        len: usize,
    },
    Close {
        host: usize,
        which: u8,
        aborts: bool,
    },
    Datagram {
        host: usize,
        content: [u8; 3],
    },
    Pass(Duration),
    /// A datagram that was sent comes again, or another with one bit changed.
    Inject {
        host: usize,
        which: u8,
        change: Option<(u16, u8)>,
        source: Source,
        wrapped: Option<u8>,
    },
    /// Any bytes come.
    Bytes {
        host: usize,
        source: Source,
        wrapped: Option<u8>,
        bytes: Vec<u8>,
    },
    /// The directory answers what was or was not asked.
    Answer {
        host: usize,
        ticket: u8,
        error: bool,
    },
    Away(bool),
    /// One of so many datagrams is lost.
    Loss(u8),
    Unreachable {
        host: usize,
        direct: bool,
    },
    /// A node ends without a word and starts again.
    Restart {
        host: usize,
    },
}

/// Where a datagram seems to come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// From where the recorded one came, or from the other node.
    Same,
    Relay,
    Stranger,
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
    let host = usize::from(a & 1);
    let source = [Source::Same, Source::Relay, Source::Stranger][usize::from(e) % 3];
    let wrapped = (f & 1 == 1).then_some(f >> 1 & 3);
    let step = match op % 24 {
        0..=2 => Step::Dial { host },
        3..=6 => Step::Write { host, which: b, len: usize::from(u16::from_be_bytes([c, d]) % 5000) + 1 },
        7 => Step::Close { host, which: b, aborts: c & 1 == 1 },
        8 => Step::Datagram { host, content: [b, c, d] },
        9..=12 => Step::Pass(Duration::from_millis(TIMES_MS[usize::from(b) % TIMES_MS.len()])),
        13..=15 => {
            let change = (g & 3 != 0).then_some((u16::from_be_bytes([c, d]), g >> 2));
            Step::Inject { host, which: b, change, source, wrapped }
        }
        16 | 17 => {
            let (bytes, behind) = behind.split_at(behind.len().min(usize::from(b) % 160));
            let bytes = [[&b""[..], b"PILT", b"PILA", b"PILS", b"PILK", b"PILP"][usize::from(c) % 6], bytes].concat();
            return (Step::Bytes { host, source, wrapped, bytes }, behind);
        }
        18 => {
            // What a relay says: an endpoint, a punch, a word from the directory.
            let message =
                [&[[0x02, 0x04, 0x0A, 0x06][usize::from(b) % 4], c % 17, 198, 18, 0, d], &[e; 14][..]].concat();
            Step::Bytes { host, source: Source::Relay, wrapped: None, bytes: message }
        }
        19 => Step::Answer { host, ticket: b, error: c & 1 == 1 },
        20 => Step::Away(a & 3 == 3),
        21 => Step::Loss(b % 8),
        22 => Step::Unreachable { host, direct: b & 1 == 1 },
        _ => Step::Restart { host },
    };
    (step, behind)
}
