//! Two unmodified daemons, each behind its own address translator, reach each other.

use lab::{Daemon, DaemonFlags, Nat, World, evidence};

#[test]
fn two_symmetric_nats() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let (a, b) = (world.site(Nat::Symmetric), world.site(Nat::Symmetric));
    let mut alice = Daemon::start(&a.host("alice"), DaemonFlags::named("alice").public());
    let mut bob = Daemon::start(&b.host("bob"), DaemonFlags::named("bob").public());
    alice.wait_ready();
    bob.wait_ready();
    let before = world.relay_traffic();
    let report = alice.ping("bob", 5);
    evidence(format!("{report}, relay carried {}, {}", world.relay_traffic() - before, report.text));
    let before = world.relay_traffic();
    let bench = alice.bench("bob", 10);
    evidence(format!("{bench:?}, relay carried {}", world.relay_traffic() - before));
    assert_eq!(report.answered(), 5);
}
