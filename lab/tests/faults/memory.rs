//! Memory is short: under a bound that leaves some room the relay stays within it; where an allocation fails it ends at
//! once, to be started again, and has lost nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use lab::{REGISTRY_PORT, World, fault, wait_until};

use crate::book::{Book, Pair};

/// Connections that each have a large frame begun.
const FLOOD: usize = 400;
const FRAME_BYTES: u32 = 60_000;
const MEBIBYTE: u64 = 1 << 20;
const ENDED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn an_allocation_that_fails_ends_the_process_and_loses_nothing() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(20);
    let room = fault::address_space_bytes(appliance.pid()) + MEBIBYTE;
    fault::limit(appliance.pid(), &format!("--as={room}"));
    let mut flood = Vec::new();
    let before = appliance.resident_bytes();
    let ended = (0..FLOOD).any(|_| {
        flood.extend(begun_frame(&world));
        !appliance.is_running()
    });
    let grown = if ended { 0 } else { appliance.resident_bytes().saturating_sub(before) / MEBIBYTE };
    let happened = if ended || fault::try_wait_ended(&mut appliance) {
        let status = appliance.wait_ended(ENDED_WITHIN);
        appliance.restart();
        format!("an allocation failed: ended at once ({status}), started again")
    } else {
        // The allocator had enough in hand.
        format!("{} begun frames cost {grown} MiB, within what it had; served on", flood.len())
    };
    drop(flood);
    let recovery = pair.wait_speaking();
    wait_until("changes to be taken", Duration::from_secs(30), || book.write().ok());
    let lost = book.lost();
    fault::row("no more address space", &happened, lost, recovery);
    assert_eq!(lost, 0);
}

fn begun_frame(world: &World) -> Option<TcpStream> {
    world.relay_host().namespace().enter(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", REGISTRY_PORT)).ok()?;
        stream.write_all(&FRAME_BYTES.to_be_bytes()).ok()?;
        stream.write_all(&vec![b' '; FRAME_BYTES as usize - 1]).ok()?;
        Some(stream)
    })
}
