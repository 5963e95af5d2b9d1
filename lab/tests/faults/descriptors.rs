//! Connections until the descriptors are used up: those that are there are served, the log stays readable, the CPU stays
//! idle, and new ones are taken as soon as there is room.

use std::net::TcpStream;
use std::time::Duration;

use lab::{REGISTRY_PORT, Stopwatch, World, fault, wait_until};
use serde_json::json;

use crate::book::{Book, Pair, ask};

const SPARE: usize = 30;
const FLOOD: usize = 300;
const WATCHED: Duration = Duration::from_secs(3);

#[test]
fn a_flood_of_connections_costs_neither_those_who_are_served_nor_the_machine() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(5);
    let mut served = book.client("served before").expect("connections are taken");
    ask(&mut served, &json!({ "type": "lookup", "node_id": 3 }));
    let open = fault::descriptors(appliance.pid());
    fault::limit(appliance.pid(), &format!("--nofile={}", open + SPARE));

    let flood = world
        .relay_host()
        .namespace()
        .enter(|| (0..FLOOD).filter_map(|_| TcpStream::connect(("127.0.0.1", REGISTRY_PORT)).ok()).collect::<Vec<_>>());
    wait_until("the descriptors to be used up", Duration::from_secs(10), || {
        (fault::logged(&appliance, "cannot accept connections") > 0).then_some(())
    });
    let (busy, watch) = (appliance.cpu_time(), Stopwatch::start());
    let mut answered = 0;
    while watch.elapsed() < WATCHED {
        assert_eq!(ask(&mut served, &json!({ "type": "lookup", "node_id": 3 }))["node_id"], 3);
        answered += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let busy = appliance.cpu_time() - busy;
    assert!(pair.speaks(10), "the relay needs no descriptor for a datagram");
    assert!(busy < WATCHED / 4, "it spins: {busy:?} of {WATCHED:?}");
    assert_eq!(fault::logged(&appliance, "cannot accept connections"), 1, "{}", appliance.log_tail());

    drop(flood);
    let watch = Stopwatch::start();
    wait_until("a new connection to be served", Duration::from_secs(30), || book.write().ok());
    let recovery = watch.elapsed();
    let lost = book.lost();
    let happened = format!(
        "{FLOOD} connections at {} free descriptors: {answered} of {answered} questions of one served before answered, \
         {busy:.1?} CPU in {WATCHED:?}, one line logged",
        SPARE
    );
    fault::row("descriptors used up", &happened, lost, recovery);
    assert_eq!(lost, 0);
}
