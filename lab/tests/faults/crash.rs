//! `SIGKILL` in a burst of registrations. (`kill.rs` does it twenty times over with everything there is to change;
//! `agents.rs` kills daemons in the middle of transfers.)

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::{World, fault, wait_until};

use crate::book::{Book, Pair};

const WRITERS: usize = 3;
/// Entries, of three changes each, before the process is killed.
const BURST: usize = 60;
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let written = AtomicUsize::new(0);
    let books: Vec<Book> = thread::scope(|scope| {
        let writers = (0..WRITERS).map(|number| {
            let (mut book, written) = (Book::titled(&world, &format!("writer-{number}")), &written);
            scope.spawn(move || {
                while book.write().is_ok() {
                    written.fetch_add(1, Ordering::Relaxed);
                }
                book
            })
        });
        let writers: Vec<_> = writers.collect();
        let enough = || (written.load(Ordering::Relaxed) >= BURST).then_some(());
        wait_until("a burst of acknowledged entries", WRITTEN_WITHIN, enough);
        appliance.kill();
        writers.into_iter().map(|writer| writer.join().expect("a writer stops at a broken connection")).collect()
    });
    let restarted = appliance.restart();
    let lost: usize = books.iter().map(Book::lost).sum();
    let recovery = restarted + pair.wait_speaking();
    let entries: usize = books.iter().map(Book::len).sum();
    let happened = format!("{entries} acknowledged nodes, each with hostname and trust, looked up; same ids");
    fault::row("SIGKILL in a burst of registrations", &happened, lost, recovery);
    assert!(entries >= BURST);
    assert_eq!(lost, 0);
}
