//! `SIGSTOP` for ten seconds: the machine was too busy, or somebody debugs.

use std::time::Duration;

use lab::{Stopwatch, World, fault};
use nix::sys::signal::Signal;

use crate::book::{Book, Pair};

const PAUSE: Duration = Duration::from_secs(10);

#[test]
fn sessions_outlive_a_pause() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(5);
    assert!(pair.speaks(10));
    fault::signal(appliance.pid(), Signal::SIGSTOP);
    // What comes meanwhile waits in the sockets.
    pair.one.relay(pair.other.node(), b"said while it was stopped");
    assert!(pair.other.receive(PAUSE).is_none(), "it was not stopped at all");
    fault::signal(appliance.pid(), Signal::SIGCONT);
    let watch = Stopwatch::start();
    let late = pair.other.receive(Duration::from_secs(5)).expect("what was said meanwhile is delivered");
    let recovery = watch.elapsed();
    assert_eq!(late.inner, b"said while it was stopped");
    assert!(pair.speaks(10));
    let lost = book.lost();
    assert!(appliance.is_running() && appliance.is_healthy());
    let errors = fault::logged(&appliance, "ERROR");
    fault::row(
        "SIGSTOP for 10 s",
        &format!("sessions kept, what came meanwhile delivered, {errors} errors logged"),
        lost,
        recovery,
    );
    assert_eq!((lost, errors), (0, 0), "{}", appliance.log_tail());
}
