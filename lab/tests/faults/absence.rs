//! Relay and directory are away for long: those who speak directly do not notice, and everybody is back by himself with
//! the number he had. (`agents.rs` has the directory away under unmodified daemons; the simulation plays a whole hour.)

use std::thread;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Program, Stopwatch, World, fault, full_run, wait_until};

use crate::book::Book;

const AWAY: Duration = Duration::from_secs(20);
const AWAY_FULL: Duration = Duration::from_secs(3600);
const BACK_WITHIN: Duration = Duration::from_secs(90);

#[test]
fn direct_tunnels_stand_while_relay_and_directory_are_away() {
    if !Program::Ours.is_available() {
        return;
    }
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let start = |name| Daemon::start(&world.host(name), DaemonFlags::named(name).ours().public().fixed_port());
    let (mut near, mut far) = (start("near"), start("far"));
    near.wait_ready();
    far.wait_ready();
    near.time_to_reach("far", BACK_WITHIN);
    let (near_node, far_node, far_address) = (near.node(), far.node(), far.address());
    wait_until("a direct path", BACK_WITHIN, || (near.relays_to(far_node) == Some(false)).then_some(()));
    let mut book = Book::of(&world);
    book.write_many(5);

    appliance.kill();
    let away = if full_run() { AWAY_FULL } else { AWAY };
    let watch = Stopwatch::start();
    let (mut sent, mut answered) = (0, 0);
    while watch.elapsed() < away {
        let report = near.ping(&far_address, 4);
        sent += report.sent;
        answered += report.answered();
    }
    assert_eq!(answered, sent, "pings while nobody else is there");
    appliance.restart();
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        for (daemon, node) in [(&near, near_node), (&far, far_node)] {
            scope.spawn(move || {
                wait_until("a daemon to register again", BACK_WITHIN, || {
                    let info = daemon.pilotctl(&["info"]).ok()?;
                    (info["node_id"] == node).then_some(())
                });
            });
        }
    });
    let mut stranger = start("stranger");
    stranger.wait_ready();
    stranger.time_to_reach("far", BACK_WITHIN);
    let recovery = watch.elapsed();
    assert_eq!((near.node(), far.node()), (near_node, far_node), "the same numbers");
    let lost = book.lost() + sent - answered;
    let happened =
        format!("{answered} of {sent} pings of a direct pair answered meanwhile, same ids, found by a stranger");
    fault::row(&format!("relay and directory away for {away:?}"), &happened, lost, recovery);
    assert_eq!(lost, 0);
}
