//! The relay's wall clock jumps, for an hour or a day, forth and back. Only its own: the machine's stays.

use lab::fault::{self, WallClock};
use lab::{ApplianceFlags, Stopwatch, World};

use crate::book::{Book, Pair};

#[test]
fn sessions_and_facts_outlive_jumps_of_the_wall_clock() {
    let Some(world) = World::open() else { return };
    let clock = WallClock::new(&world);
    let mut appliance = world.appliance_with(clock.worn_by(ApplianceFlags::default()));
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(5);
    for jump in ["+3600", "-3600", "+1d", "-1d", "+0"] {
        clock.jump(jump);
        let watch = Stopwatch::start();
        assert!(pair.speaks(10), "{jump}: sessions are kept");
        book.write_many(3);
        let recovery = watch.elapsed();
        assert!(appliance.is_healthy(), "{jump}");
        let lost = book.lost();
        fault::row(&format!("wall clock jumps to {jump}"), "sessions, registrations and lookups go on", lost, recovery);
        assert_eq!(lost, 0, "{jump}");
    }
    // It started yesterday, says its clock.
    clock.jump("-1d");
    appliance.kill();
    let recovery = appliance.restart();
    let lost = book.lost();
    fault::row("restart a day back", "everything stored is there", lost, recovery + pair.wait_speaking());
    assert_eq!(lost, 0);
    let errors = fault::logged(&appliance, "ERROR");
    assert_eq!(errors, 0, "{}", appliance.log_tail());
}
