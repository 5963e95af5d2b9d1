//! Histories from chance, and those on file: see `model/mod.rs`. Each prints what it takes to see it again:
//! `MODEL_SEED=n` runs one, `MODEL_RUNS=n` as many as wanted.

#[path = "model/mod.rs"]
mod model;

use std::path::Path;

use model::script::{STEP_LEN, STEPS_MAX};

/// Random histories that every test run goes through.
const RUNS: u64 = 60;

/// The history of a seed.
fn history(seed: u64) -> Vec<u8> {
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    };
    let words = (0..STEPS_MAX as u64).map(|step| mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step)));
    words.flat_map(u64::to_be_bytes).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_histories_deliver_only_what_was_written() {
    assert_eq!(history(1).len(), STEPS_MAX * STEP_LEN);
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MODEL_RUNS").unwrap_or(RUNS),
    };
    let mut delivered = 0;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| model::run(&history(seed)));
        delivered += result.unwrap_or_else(|_| panic!("MODEL_SEED={seed} shows it"));
    }
    assert!(delivered > 0, "nothing came through");
}

/// What the fuzzer has found worth keeping, and what it found wrong.
#[test]
fn histories_on_file_deliver_only_what_was_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/agent_engine");
    for file in std::fs::read_dir(&folder).expect("a folder of histories") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).expect("a history");
        let result = std::panic::catch_unwind(|| model::run(&bytes));
        assert!(result.is_ok(), "{} shows it", path.display());
    }
}
