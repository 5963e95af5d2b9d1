//! What the kernel says of the pages that keys lie in, and what is left on a stack.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

use secrets::{Locked, SCRUBBED_BYTES, scrubbed};

/// The flags of the mapping in which `address` lies (proc(5), `VmFlags`).
fn flags(address: usize) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_within = false;
    for line in text.lines() {
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        if let Some((from, to)) = range
            .and_then(|(from, to)| Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?)))
        {
            is_within = (from..to).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_within) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("{address:x} is in no mapping\n{text}");
}

#[test]
fn a_key_is_locked_in_no_core_dump_and_in_no_fork() {
    let of = |address| ["lo", "dd", "wf"].map(|flag| flags(address).iter().any(|found| found == flag));
    // Enough for slabs of all sizes.
    let keys: Vec<_> = (0..500).map(|_| Locked::new([1_u8; 900])).collect();
    for key in keys.iter().step_by(50) {
        assert_eq!(of(key.as_ptr().addr()), [true; 3]);
    }
    assert_eq!(of(vec![1_u8; 900].as_ptr().addr()), [false; 3], "what is not asked for");
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
