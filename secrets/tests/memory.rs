//! What the kernel says of the pages that keys lie in, and what is left on a stack.

#[path = "support/scan.rs"]
mod scan;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

use secrets::{Locked, SCRUBBED_BYTES, scrubbed};

#[test]
fn a_key_is_locked_in_no_core_dump_and_in_no_fork() {
    // Enough for slabs of all sizes.
    let keys: Vec<_> = (0..500).map(|_| Locked::new([1_u8; 900])).collect();
    let elsewhere = vec![1_u8; 900];
    let mappings = scan::mappings("self").unwrap();
    let of = |bytes: &[u8]| {
        let address = bytes.as_ptr().addr();
        let mapping = mappings.iter().find(|mapping| mapping.range.contains(&address));
        mapping.expect("it lies in one").is_for_keys()
    };
    assert!(keys.iter().step_by(50).all(|key| of(&**key)));
    assert!(!of(&elsewhere), "what is not asked for");
}

/// In one place, and not in the code of who looks for it.
static MARK: [u8; 16] = *b"a key on a stack";

/// Leaves a key some frames down.
#[inline(never)]
fn leave() -> u8 {
    let mut key = [0_u8; 2048];
    key.chunks_exact_mut(MARK.len()).for_each(|place| place.copy_from_slice(&MARK));
    black_box(&key)[usize::from(black_box(3_u8))]
}

/// How often the mark lies below this frame.
#[inline(never)]
fn left() -> usize {
    let frame = 0_u8;
    let here = std::ptr::from_ref(black_box(&frame));
    let mut stack = vec![0; SCRUBBED_BYTES];
    let memory = File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut stack, (here.addr() - SCRUBBED_BYTES) as u64).unwrap();
    stack.windows(MARK.len()).filter(|window| **window == MARK).count()
}

#[test]
fn nothing_is_left_on_the_stack() {
    // So much of the stack exists: a main thread's grows as it is used.
    scrubbed(|| ());
    assert_eq!(scrubbed(leave), b'e');
    assert_eq!(left(), 0);
    assert_eq!(leave(), b'e');
    assert!(left() > 0, "what is not scrubbed stays");
}

/// What the tests of the programs look for copies with.
#[test]
fn a_copy_elsewhere_is_found_and_told_from_the_key() {
    let key = Locked::new(std::array::from_fn::<u8, 32, _>(|index| (index * 7 + 3) as u8));
    let copy = key.to_vec();
    let mappings = scan::mappings("self").unwrap();
    let found = scan::find("self", &mappings, &*key).unwrap();
    let at = |bytes: &[u8]| {
        let place = found.iter().find(|(_, address)| *address == bytes.as_ptr().addr());
        place.expect("it is found").0.is_for_keys()
    };
    assert!(at(&*key) && !at(&copy));
}

/// The process that is looked through goes on meanwhile, and gives memory back.
#[test]
fn what_is_unmapped_meanwhile_hides_nothing_beside_it() {
    const KEY: [u8; 700] = [0xA5; 700];
    // Those of one size share pages, so that kept and given back ones lie side by side.
    let (kept, given_back): (Vec<_>, Vec<_>) = (0..1000).map(|_| (Locked::new(KEY), Locked::new([2_u8; 900]))).unzip();
    let mappings = scan::mappings("self").unwrap();
    drop(given_back);
    let found = scan::find("self", &mappings, &KEY).unwrap();
    let is_found = |key: &&Locked<[u8; 700]>| found.iter().any(|(_, address)| *address == key.as_ptr().addr());
    assert_eq!(kept.iter().filter(is_found).count(), kept.len());
}
