//! The runtime: one thread with tokio's timers and sockets and, where the kernel allows it, an io_uring for files.
//!
//! The ring has the runtime's default flags: with `DEFER_TASKRUN` its completions never arrive. Nothing here awaits a
//! receive of the ring in a `select!`, which would lose what arrives after it is dropped: sockets are tokio's.

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use tokio::runtime;
use tokio::task::LocalSet;

/// Entries of the ring; files need few.
const RING_ENTRIES: u32 = 64;
/// What a blocking look-up may hold the end of the program up.
const BLOCKING_END_MAX: Duration = Duration::from_millis(100);

/// Whether tasks have an io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// They have.
    Available,
    /// This host does not allow it.
    Forbidden,
}

/// Runs `main` to its end on this thread; it may spawn tasks that are not `Send`.
///
/// # Errors
/// The kernel gives neither a ring nor an event queue.
pub fn run<F: Future>(main: impl FnOnce(Ring) -> F) -> io::Result<F::Output> {
    // Making a ring is the only proof that this host allows one: settings and sandboxes may both forbid it.
    match tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
        Ok(ring) => {
            // A name that is being looked up on another thread would hold up the end; the process ends anyway.
            let ring = ManuallyDrop::new(ring);
            Ok(ring.block_on(main(Ring::Available)))
        }
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
pub fn plain<F: Future>(main: impl FnOnce(Ring) -> F) -> io::Result<F::Output> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let output = tasks.block_on(&runtime, main(Ring::Forbidden));
    drop(tasks);
    runtime.shutdown_timeout(BLOCKING_END_MAX);
    Ok(output)
}
