//! Wipes what a computation has left on the stack.
#![forbid(unsafe_code)]

use std::hint::black_box;

use zeroize::Zeroize as _;

/// How much of the stack is wiped. Signatures, key agreements and key schedules go less deep, also without optimization.
pub const SCRUBBED_BYTES: usize = 32 << 10;
/// More than a frame holds beside what it is for.
const FRAME_BYTES_MAX: usize = 512;

/// Does `work`, then wipes the stack it has used, [`SCRUBBED_BYTES`] deep: values that were moved or dropped leave their bytes
/// there. `work` captures secrets by reference: what is moved into it is not wiped. What it returns has to be no secret itself, or a [`Locked`](crate::Locked) one.
#[inline(never)]
pub fn scrubbed<R>(work: impl FnOnce() -> R) -> R {
    let done = apart(work);
    wipe();
    done
}

/// Keeps the frames of `work` below whatever [`wipe`] has above the bytes that it wipes.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    let distance = [0_u8; FRAME_BYTES_MAX];
    black_box(&distance);
    let done = below(work);
    black_box(&distance);
    done
}

#[inline(never)]
fn below<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn wipe() {
    let mut stack = [0_u64; (FRAME_BYTES_MAX + SCRUBBED_BYTES) / size_of::<u64>()];
    black_box(&mut stack).zeroize();
    black_box(&stack);
}
