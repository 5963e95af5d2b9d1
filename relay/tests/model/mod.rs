//! The relay's rules beside a reference that is too simple to be wrong, fed the same history: datagrams, messages between
//! shards late or lost, what the directory and the host say, and time.
//!
//! A history is bytes, eight a step, so that a fuzzer can change one step without shifting the others, chance can write
//! one, and a finding can be kept as a file. `relay/tests/model.rs` runs random ones and those on file with the
//! stable toolchain; the fuzz target `relay_engine` lets coverage choose them.
//!
//! | part | what it is |
//! |---|---|
//! | [`script`] | bytes to steps |
//! | [`reference`] | what should happen, where budgets do not bind |
//! | [`laws`] | what must hold in any case, without a reference |
//! | [`world`] | the relay, both of these, and the comparison |

pub mod laws;
pub mod reference;
pub mod script;
pub mod world;

/// Runs one history.
///
/// # Panics
/// If the relay does not do as it should; the panic's text says what was expected.
pub fn run(bytes: &[u8]) {
    let Some((setting, steps)) = script::read(bytes) else { return };
    let mut world = world::World::new(&setting);
    for step in steps {
        world.step(&step);
    }
    world.finish();
}
