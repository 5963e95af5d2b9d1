//! Where no more memory may be locked. The limit is a process's, so this is a process of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, setrlimit};
use secrets::{Locked, Usage, usage, when_unlocked};

static TOLD: AtomicU32 = AtomicU32::new(0);

fn told() {
    TOLD.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn beyond_the_limit_keys_work_without_locks_and_are_counted() {
    const LIMIT: u64 = 64 << 10;
    const KEY_BYTES: usize = 1024;
    // With this capability there is no limit. It belongs to the thread.
    caps::drop(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap();
    setrlimit(Resource::RLIMIT_MEMLOCK, LIMIT, LIMIT).unwrap();
    when_unlocked(told);
    let few: Vec<_> = (0..8_u8).map(|byte| Locked::new([byte; KEY_BYTES])).collect();
    assert_eq!(usage(), Usage { locked_bytes: 8 * KEY_BYTES, unlocked_bytes: 0 });
    assert_eq!(TOLD.load(Ordering::SeqCst), 0);

    let many: Vec<_> = (0..200_u8).map(|byte| Locked::new([byte; KEY_BYTES])).collect();
    let Usage { locked_bytes, unlocked_bytes } = usage();
    assert_eq!(locked_bytes + unlocked_bytes, 208 * KEY_BYTES);
    assert_eq!(locked_bytes as u64, LIMIT, "all that may be locked is");
    assert_eq!(TOLD.load(Ordering::SeqCst), 1, "told once");
    assert!(many.iter().zip(0..).all(|(key, byte)| **key == [byte; KEY_BYTES]), "they work all the same");

    drop((few, many));
    assert_eq!(usage(), Usage::default());
    let again = Locked::new([1_u8; KEY_BYTES]);
    assert_eq!(usage(), Usage { locked_bytes: KEY_BYTES, unlocked_bytes: 0 }, "what went can be locked again");
    drop(again);
    assert_eq!(TOLD.load(Ordering::SeqCst), 1);
}
