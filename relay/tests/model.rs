//! Histories from chance, and those on file, against the reference: see `model/mod.rs`. Each prints what it takes to see
//! it again: `MODEL_SEED=n` runs one, `MODEL_RUNS=n` as many as wanted.

#[path = "model/mod.rs"]
mod model;

use std::path::Path;

use model::script::{ENDPOINTS, STEP_LEN, endpoint};
use relay::endpoint::mix;

/// Random histories that every test run goes through.
const RUNS: u64 = 1000;
/// Steps of one.
const STEPS: u64 = 160;

/// The history of a seed.
fn history(seed: u64) -> Vec<u8> {
    let words = (0..STEPS).map(|step| mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step)));
    words.flat_map(u64::to_be_bytes).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_histories_go_as_the_reference_says() {
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MODEL_RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| model::run(&history(seed)));
        assert!(result.is_ok(), "MODEL_SEED={seed} shows it");
    }
}

/// What the fuzzer has found worth keeping, and what it found wrong.
#[test]
fn histories_on_file_go_as_the_reference_says() {
    let mut count = 0;
    for folder in ["../fuzz/seeds/relay_engine", "tests/model/findings"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in std::fs::read_dir(&folder).expect("a folder of histories") {
            let path = file.expect("a file").path();
            let bytes = std::fs::read(&path).expect("a history");
            let result = std::panic::catch_unwind(|| model::run(&bytes));
            assert!(result.is_ok(), "{} shows it", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "no history on file");
}

/// The relay keeps notices by digest; the reference does not know of collisions, so there may be none here.
#[test]
fn the_endpoints_of_the_histories_do_not_share_a_notice() {
    const NOTICES: u64 = 4096;
    let places: std::collections::BTreeSet<_> =
        (0..ENDPOINTS as u8).map(|number| endpoint(number).digest() % NOTICES).collect();
    assert_eq!(places.len(), ENDPOINTS);
    assert_eq!(history(1).len() as u64, STEPS * STEP_LEN as u64);
}
