//! Histories from chance, and those on file, against the reference: see `model/mod.rs`. Each prints what it takes to see
//! it again: `MODEL_SEED=n` runs one, `MODEL_RUNS=n` as many as wanted.

#[path = "model/mod.rs"]
mod model;

use std::path::{Path, PathBuf};

use model::script::{ENDPOINTS, STEP_LEN, endpoint};
use relay::endpoint::mix;

/// Random histories that every test run goes through.
const RUNS: u64 = 1000;
/// Steps of one that is all chance.
const STEPS: usize = 160;
/// Stories that take several steps in order, which the fuzzer starts from too.
const STORIES: &str = "../fuzz/seeds/relay_engine";

/// What chance gives a seed: words.
fn chance(seed: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |place| mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(place)))
}

/// The history of a seed: all chance, or a story with chance between its steps and behind them.
fn history(seed: u64, stories: &[Vec<u8>]) -> Vec<u8> {
    let mut words = chance(seed);
    let mut random_step = || words.next().expect("without end").to_be_bytes();
    if seed.is_multiple_of(2) || stories.is_empty() {
        return (0..STEPS).flat_map(|_| random_step()).collect();
    }
    let story = &stories[seed as usize / 2 % stories.len()];
    let mut history = Vec::new();
    for step in story.chunks_exact(STEP_LEN) {
        let [change, ..] = random_step();
        match change {
            0..64 if !history.is_empty() => history.extend([step, &random_step()].concat()),
            64..80 => history.extend(random_step()),
            _ => history.extend(step),
        }
    }
    (0..STEPS / 4).for_each(|_| history.extend(random_step()));
    history
}

/// The histories in a folder, with their places.
fn on_file(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a history"))).collect()
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
    let stories: Vec<_> = on_file(STORIES).into_iter().map(|(_, story)| story).collect();
    for seed in seeds {
        let history = history(seed, &stories);
        let result = std::panic::catch_unwind(|| model::run(&history));
        assert!(result.is_ok(), "MODEL_SEED={seed} shows it");
    }
}

/// What the fuzzer has found worth keeping, and what it found wrong.
#[test]
fn histories_on_file_go_as_the_reference_says() {
    let histories: Vec<_> = [STORIES, "tests/model/findings"].into_iter().flat_map(on_file).collect();
    assert!(histories.len() > 20, "stories are missing; fuzz/seeds.py writes them");
    for (path, history) in histories {
        let result = std::panic::catch_unwind(|| model::run(&history));
        assert!(result.is_ok(), "{} shows it", path.display());
    }
}

/// The relay keeps notices by digest; the reference does not know of collisions, so there may be none here.
#[test]
fn the_endpoints_of_the_histories_do_not_share_a_notice() {
    const NOTICES: u64 = 4096;
    let places: std::collections::BTreeSet<_> =
        (0..ENDPOINTS as u8).map(|number| endpoint(number).digest() % NOTICES).collect();
    assert_eq!(places.len(), ENDPOINTS);
}
