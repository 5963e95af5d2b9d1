//! The directory fed with bytes as connections bring them, beside a ledger that only knows the changes it was told of.
//!
//! A history is bytes, eight a step: frames of several nodes with real keys, whole, in pieces, twisted, signed by the wrong
//! key or sent again from elsewhere; connections that end; restarts. `directory/tests/model.rs` runs random ones through
//! SQLite; the fuzz target `directory_framing` lets coverage choose them, without a disk.
//!
//! | part | what it is |
//! |---|---|
//! | [`script`] | bytes to steps |
//! | [`ledger`] | the facts, from the changes alone, and who may cause which change |
//! | [`world`] | service, connections and keys, and what has to hold after every request |

pub mod ledger;
pub mod script;
pub mod world;

/// Runs one history; `stored` takes every change through SQLite and starts again from there.
///
/// # Panics
/// If the directory does not do as it should; the panic's text says what was expected.
pub fn run(bytes: &[u8], stored: bool) {
    let mut world = world::World::new(stored);
    for step in script::read(bytes) {
        world.step(&step);
    }
    world.restart();
}
