//! Whole runs, against a relay and a directory of our own that do exactly what they are told.

mod accounts;
mod command;
mod directory;
mod directory_load;
mod modes;
mod prefix;
mod relay;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// For whoever makes a load: loads beside each other make each other late.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
