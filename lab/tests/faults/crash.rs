//! `SIGKILL` in a burst of registrations. (`kill.rs` does it twenty times over with everything there is to change;
//! `agents.rs` kills daemons in the middle of transfers.)

use std::thread;
use std::time::Duration;

use lab::{World, fault, wait_until};

use crate::book::{Book, Pair};

const BURST: Duration = Duration::from_secs(3);
const WRITERS: usize = 3;

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(10);
    thread::scope(|scope| {
        let writer = scope.spawn(|| while book.write().is_ok() {});
        let burst = (0..WRITERS).map(|number| {
            let world = &world;
            scope.spawn(move || {
                let mut noise = Book::of(world);
                let _ = (number, noise.write());
            })
        });
        let burst: Vec<_> = burst.collect();
        wait_until("the burst to be over", BURST * 10, || burst.iter().all(|one| one.is_finished()).then_some(()));
        appliance.kill();
        writer.join().expect("a writer stops at a broken connection");
    });
    let restarted = appliance.restart();
    let lost = book.lost();
    let speaking = pair.wait_speaking();
    let happened = format!("{} acknowledged nodes, hostnames and trusts looked up, same ids", book.len());
    fault::row("SIGKILL in a burst of registrations", &happened, lost, restarted + speaking);
    assert_eq!(lost, 0);
}
