//! Memory for keys. A [`Locked`] value lies in pages of this crate's own: never written to swap, in no core dump, not
//! passed on to a forked process, and wiped when the value goes.
//!
//! ```text
//!   Locked<T> ── slots of 64, 128, 192 … bytes, by the size of T
//!                  └── slabs: 4 to 64 KiB of pages, mapped, locked and given back to the kernel as they are needed
//! ```
//!
//! Locking is aimed at keys alone. A process locked as a whole (`mlockall`) could not give memory back any more, and would
//! count all of it against a limit at which serving ends. Many keys share a page, since a fleet's node has thousands.
//!
//! Where the limit of locked memory (`RLIMIT_MEMLOCK`) is used up, values lie in pages that are not locked, but like the
//! others in all else. That is counted ([`usage`]), and told once ([`when_unlocked`]).
//!
//! What a computation with a key leaves on the stack is wiped by [`scrubbed`].

mod locked;
mod scrub;
mod slots;

pub use locked::{Locked, Usage, usage, when_unlocked};
pub use scrub::{SCRUBBED_BYTES, scrubbed};
