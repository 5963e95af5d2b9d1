//! Nodes, relays and a directory as they are, in a simulated world: links that delay, lose, duplicate, reorder and have an
//! MTU, NATs as RFC 4787 describes them, hosts that roam, sleep and start anew, and an attacker.
//!
//! Every run prints its seed, and a seed replays exactly. `SIM_SEED=n` runs the worlds of one seed, `SIM_RUNS=n` as many
//! random worlds as wanted, `SIM_TRACE=1` prints every datagram. In every world holds:
//!
//! * streams deliver every byte once and in order ([`flow`]);
//! * nothing is on a wire in clear ([`watch`]);
//! * nothing is accepted that no node has sealed ([`world::World::check`]).

#![expect(clippy::print_stdout, reason = "seeds and figures are what these tests show")]

mod attacker;
mod brokering;
mod chance;
mod directory;
mod flow;
mod host;
mod link;
mod nat;
mod relay;
mod stories;
mod watch;
mod world;

/// The seed of a story's world: its own, or the one that is to be replayed.
fn seed(own: u64) -> u64 {
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(own);
    println!("seed {seed}");
    seed
}

/// How many random worlds to run.
fn runs(usual: u64) -> u64 {
    std::env::var("SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
