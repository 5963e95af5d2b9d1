//! The relay's wall clock jumps, for an hour or a day, forth and back. Only its own: the machine's stays.

use std::fs;
use std::time::Duration;

use lab::fault::{self, WallClock};
use lab::{ApplianceFlags, Stopwatch, World, wait_until};

use crate::book::{Book, Pair};

/// The growth of the network is looked at every few seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn sessions_and_facts_outlive_jumps_of_the_wall_clock() {
    let Some(world) = World::open() else { return };
    let clock = WallClock::new(&world);
    let mut appliance = world.appliance_with(clock.worn_by(ApplianceFlags::default()));
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(5);
    for jump in ["+3600", "-3600", "+1d", "+2d", "-1d", "+0"] {
        clock.jump(jump);
        let watch = Stopwatch::start();
        assert!(pair.speaks(10), "{jump}: sessions are kept");
        book.write_many(3);
        let recovery = watch.elapsed();
        assert!(appliance.is_healthy(), "{jump}");
        // Each day is written down once it is over.
        let days_over = match jump {
            "+1d" => Some(0),
            "+2d" => Some(1),
            _ => None,
        };
        if let Some(days) = days_over {
            let noticed = || (noticed(&world) >= Some(DAY * days / 2)).then_some(());
            wait_until("the relay to notice what its clock says", NOTICED_WITHIN, noticed);
        }
        let lost = book.lost();
        fault::row(&format!("wall clock jumps to {jump}"), "sessions, registrations and lookups go on", lost, recovery);
        assert_eq!(lost, 0, "{jump}");
    }
    let told = || appliance.metrics().sum("pilot_directory_clock_jumps_total");
    let before = told();
    clock.jump("+3d");
    wait_until("the relay to tell of a jump", NOTICED_WITHIN, || {
        (told() > before && fault::logged(&appliance, "the clock jumped") > 0).then_some(())
    });
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

/// How long the relay has served by its wall clock, as its history of growth says: a row an hour. Without this the clock
/// might not have jumped at all.
fn noticed(world: &World) -> Option<Duration> {
    let text = fs::read_to_string(world.data_dir().join("growth.csv")).ok()?;
    let hours: Vec<u64> = text.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    Some(Duration::from_secs(hours.iter().max()? - hours.iter().min()?))
}
