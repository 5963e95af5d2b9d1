//! The runtime: one thread with tokio's timers and sockets and, where the kernel allows it, an io_uring for files.
//!
//! The ring has the runtime's default flags: with `DEFER_TASKRUN` its completions never arrive. Nothing here awaits a
//! receive of the ring in a `select!`, which would lose what arrives after it is dropped: sockets are tokio's.

use std::io;
use std::time::Duration;

use tokio::runtime;
use tokio::task::LocalSet;

/// Entries of the ring; files need few.
const RING_ENTRIES: u32 = 64;
/// What a blocking look-up may hold the end of the program up.
const BLOCKING_END_MAX: Duration = Duration::from_millis(100);

/// Runs `main` to its end on this thread; it may spawn tasks that are not `Send`.
///
/// # Errors
/// The kernel gives neither a ring nor an event queue.
pub fn run<F: Future>(main: F) -> io::Result<F::Output> {
    // Making a ring is the only proof that this host allows one: settings and sandboxes may both forbid it.
    match tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
        Ok(ring) => Ok(ring.block_on(main)),
        Err(reason) => {
            tracing::info!(%reason, "io_uring is not available here; files go without it");
            plain(main)
        }
    }
}

/// As [`run`], without a ring.
///
/// # Errors
/// The kernel gives no event queue.
pub fn plain<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let output = tasks.block_on(&runtime, main);
    drop(tasks);
    runtime.shutdown_timeout(BLOCKING_END_MAX);
    Ok(output)
}
