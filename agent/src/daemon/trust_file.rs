//! The trust file: when it is written, and who waits for that. What is in it is the node's; how a file is replaced is
//! [`State`]'s.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;

use super::core::Core;
use super::state::State;

/// The trust file, written after each change; changes that come while it is written are written together.
pub struct TrustFile {
    core: Rc<Core>,
    state: Rc<State>,
    changed: Notify,
    is_dirty: Cell<bool>,
    /// What has been written, for one writer at a time: of two, the one with the older text could be the last.
    kept: Mutex<Option<String>>,
}

impl TrustFile {
    /// The file of `core`'s node, in the folder of `state`.
    #[must_use]
    pub fn new(core: Rc<Core>, state: Rc<State>) -> Self {
        Self { core, state, changed: Notify::new(), is_dirty: Cell::new(false), kept: Mutex::default() }
    }

    /// Trust has changed; the file follows.
    pub fn handle_changed(&self) {
        self.is_dirty.set(true);
        self.changed.notify_one();
    }

    /// Writes the file after each change, until it is dropped.
    pub async fn keep(self: Rc<Self>) {
        loop {
            self.changed.notified().await;
            Rc::clone(&self).keep_now().await;
        }
    }

    /// Returns when the last change is in the file, or could not be written. The writing goes on where the caller does not
    /// wait for it: nobody else may write meanwhile.
    pub async fn keep_now(self: Rc<Self>) {
        let _ = spawn_local(async move { self.write().await }).await;
    }

    async fn write(&self) {
        let mut kept = self.kept.lock().await;
        if !self.is_dirty.replace(false) {
            return;
        }
        let text = self.core.look(|node| node.trust().to_json());
        // A client's word is written at once, and then told as a change like any other.
        if kept.as_ref() != Some(&text) {
            let is_kept = self.state.keep_trust(self.core.clock().now(), text.clone()).await;
            *kept = is_kept.then_some(text);
        }
    }
}
