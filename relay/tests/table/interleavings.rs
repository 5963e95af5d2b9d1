//! Every interleaving of one reader with the owner, where a removed slot is taken by another node.

use std::sync::Arc;

use loom::thread;
use relay::sessions::{Activity, Sessions, Table};
use wire::NodeId;

use super::session;

/// Two ids with the same home slot in a table of two slots.
const FIRST: NodeId = NodeId(1);
const SECOND: NodeId = NodeId(3);

#[test]
fn a_reused_slot_never_yields_another_nodes_endpoint() {
    loom::model(|| {
        let table = Table::new(1, 1);
        let mut sessions = Sessions::new(Arc::clone(&table), 0);
        assert_eq!(sessions.slots() as u32, SECOND.0 - FIRST.0, "both ids have the same home");
        let slot = sessions.insert(FIRST, session(FIRST, 1), Activity::default()).unwrap();
        let owner = thread::spawn(move || {
            sessions.remove(slot);
            sessions.insert(SECOND, session(SECOND, 2), Activity::default()).unwrap();
        });
        for (node, version) in [(FIRST, 1), (SECOND, 2)] {
            if let Some(found) = table.find(node) {
                assert_eq!(found, session(node, version));
            }
        }
        owner.join().unwrap();
        assert_eq!(table.find(FIRST), None);
        assert_eq!(table.find(SECOND), Some(session(SECOND, 2)));
    });
}
