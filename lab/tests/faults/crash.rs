//! `SIGKILL` in a burst of registrations. (`kill.rs` does it twenty times over with everything there is to change;
//! `agents.rs` kills daemons in the middle of transfers.)

use lab::{World, fault};

use crate::book::{Book, Pair, burst};

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let books = burst(&world, || appliance.kill());
    let restarted = appliance.restart();
    let lost: usize = books.iter().map(Book::lost).sum();
    let recovery = restarted + pair.wait_speaking();
    let entries: usize = books.iter().map(Book::len).sum();
    let happened = format!("{entries} acknowledged nodes, each with hostname and trust, looked up; same ids");
    fault::row("SIGKILL in a burst of registrations", &happened, lost, recovery);
    assert_eq!(lost, 0);
}
