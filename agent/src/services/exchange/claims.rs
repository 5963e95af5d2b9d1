//! Which stream has which transfer: the last that asked, since an older one may be broken without knowing it. One that is being
//! checked and given its name is waited for.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tokio::sync::Notify;

/// All claims of a receiver.
#[derive(Default)]
pub(super) struct Claims {
    held: RefCell<Vec<Held>>,
    released: Notify,
}

struct Held {
    path: PathBuf,
    number: usize,
    is_finishing: bool,
}

/// Gives its transfer back when it goes.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    number: usize,
}

impl Claims {
    /// Takes the transfer at `path` from whoever has it. `number` is that of no other claim.
    pub(super) async fn take(&self, path: &Path, number: usize) -> Claim<'_> {
        loop {
            let released = self.released.notified();
            if !self.held.borrow().iter().any(|held| held.path == path && held.is_finishing) {
                break;
            }
            released.await;
        }
        let mut held = self.held.borrow_mut();
        held.retain(|held| held.path != path);
        held.push(Held { path: path.to_owned(), number, is_finishing: false });
        Claim { claims: self, number }
    }

    /// What is claimed.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.held.borrow().iter().map(|held| held.path.clone()).collect()
    }
}

impl Claim<'_> {
    /// Whether no other has taken over.
    pub(super) fn holds(&self) -> bool {
        self.claims.held.borrow().iter().any(|held| held.number == self.number)
    }

    /// From now on others wait. False where another has taken over.
    pub(super) fn finish(&self) -> bool {
        let mut held = self.claims.held.borrow_mut();
        let held = held.iter_mut().find(|held| held.number == self.number);
        held.map(|held| held.is_finishing = true).is_some()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held.borrow_mut().retain(|held| held.number != self.number);
        self.claims.released.notify_waiters();
    }
}
