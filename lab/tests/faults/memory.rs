//! Memory is short. Hostile connections take what the connections' budget allows and no more; where even that is not there,
//! the kernel ends the process, which is started again and has lost nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use lab::fault::{self, MemoryBound};
use lab::{REGISTRY_PORT, World};

use crate::book::{Book, Pair};

/// Connections that each have all but the last byte of a large frame sent.
const FLOOD: usize = 400;
const FRAME_BYTES: u32 = 60_000;
const MEBIBYTE: u64 = 1 << 20;
/// The flood takes up to four times what it has sent, while buffers grow.
const ENOUGH: u64 = 160 * MEBIBYTE;
const TOO_LITTLE: u64 = 6 * MEBIBYTE;
const ENDED_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_flood_of_begun_frames_stays_within_its_bound() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(10);
    let before = appliance.resident_bytes();
    let bound = MemoryBound::more(appliance.pid(), ENOUGH);
    let flood: Vec<_> = (0..FLOOD).filter_map(|_| begun_frame(&world)).collect();
    assert_eq!(flood.len(), FLOOD, "connections are taken");
    assert!(pair.speaks(20), "the relay goes on");
    book.write_many(10);
    assert!(appliance.is_running() && appliance.is_healthy());
    let grown = appliance.resident_bytes().saturating_sub(before) / MEBIBYTE;
    drop((flood, bound));
    let recovery = pair.wait_speaking();
    let lost = book.lost();
    let happened = format!("{FLOOD} begun frames cost {grown} MiB; everybody served on");
    fault::row(&format!("memory limit with {} MiB to spare", ENOUGH / MEBIBYTE), &happened, lost, recovery);
    assert_eq!(lost, 0);
}

#[test]
fn a_process_that_is_out_of_memory_ends_and_has_lost_nothing() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(20);
    let bound = MemoryBound::more(appliance.pid(), TOO_LITTLE);
    assert!(matches!(bound.swap_max(), None | Some(0)), "{:?} bytes may go to swap, and nothing end", bound.swap_max());
    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        if !appliance.is_running() {
            break;
        }
        flood.extend(begun_frame(&world));
    }
    let status = appliance.wait_ended(ENDED_WITHIN);
    assert_eq!(status.signal(), Some(9), "{status}: {}", appliance.log_tail());
    drop((flood, bound));
    let recovery = appliance.restart() + pair.wait_speaking();
    let lost = book.lost();
    let what = format!("memory limit with {} MiB to spare", TOO_LITTLE / MEBIBYTE);
    fault::row(&what, "ended by the kernel under the same flood, started again", lost, recovery);
    assert_eq!(lost, 0);
}

fn begun_frame(world: &World) -> Option<TcpStream> {
    world.relay_host().namespace().enter(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", REGISTRY_PORT)).ok()?;
        stream.set_write_timeout(Some(ENDED_WITHIN)).ok()?;
        stream.write_all(&FRAME_BYTES.to_be_bytes()).ok()?;
        stream.write_all(&vec![b' '; FRAME_BYTES as usize - 1]).ok()?;
        Some(stream)
    })
}
