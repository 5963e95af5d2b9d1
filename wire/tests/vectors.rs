//! Every vector of every file in `tests/vectors`, byte for byte: decoded to the fields it was made of, encoded to the
//! same bytes. A vector or a file that no check knows is a failure. Prints a count for each file.

#![expect(clippy::print_stdout, reason = "the counts are what this test shows")]

mod fixtures;
mod invariants;
mod vector_checks;

use std::collections::BTreeSet;
use std::panic;
use std::process::ExitCode;

use vector_checks::{addresses, beacon, ipc, packets, sack, secure, services, signatures, stun, tunnel};

/// Runs the check for one entry; `Some` when the entry is known. Failures panic.
type Check = fn(&fixtures::Vector) -> Option<()>;

const FILES: [(&str, Check); 13] = [
    ("addresses.json", addresses::check),
    ("beacon.json", beacon::check),
    ("ipc.json", ipc::check),
    ("ipc_newest.json", ipc::check_newest),
    ("packets.json", packets::check),
    ("sack.json", sack::check),
    ("secure443.json", secure::check),
    ("services.json", services::check),
    ("services_newest_synthetic.json", services::check_newest),
    ("signatures.json", signatures::check),
    ("stun.json", stun::check),
    ("tunnel_v122.json", tunnel::check_v122),
    ("tunnel_v19.json", tunnel::check_v19),
];
const IPC_CAPTURE: &str = "ipc_capture_1_18.json";
/// Exercised by `tests/capabilities.rs`, the first, and `tests/registry.rs`.
const ELSEWHERE: [&str; 4] =
    ["questions.json", "registry_binary.json", "registry_capture_1_18.json", "registry_json.json"];

fn main() -> ExitCode {
    let mut total = Count::default();
    for (file, check) in FILES {
        let entries = fixtures::vectors(file);
        total.add(file, entries.iter().map(|vector| passes(file, &vector.name, || check(vector))));
    }
    let captured = ipc::captured(IPC_CAPTURE);
    total.add(IPC_CAPTURE, captured.iter().map(|entry| passes(IPC_CAPTURE, entry.command(), || entry.check())));

    println!("vectors: {} of {} in all files", total.passed, total.all);
    let unknown = unknown_files();
    unknown.iter().for_each(|file| println!("no check knows the file {file}"));
    if total.passed == total.all && unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Count {
    passed: usize,
    all: usize,
}

impl Count {
    fn add(&mut self, file: &str, results: impl Iterator<Item = bool>) {
        let results: Vec<bool> = results.collect();
        let passed = results.iter().filter(|passed| **passed).count();
        println!("vectors: {passed} of {} in {file}", results.len());
        assert!(!results.is_empty(), "{file} has no vectors");
        self.passed += passed;
        self.all += results.len();
    }
}

fn passes(file: &str, name: &str, check: impl FnOnce() -> Option<()>) -> bool {
    match panic::catch_unwind(panic::AssertUnwindSafe(check)) {
        Ok(Some(())) => true,
        Ok(None) => {
            println!("{file}: no check knows {name}");
            false
        }
        Err(_) => {
            println!("{file}: {name} fails");
            false
        }
    }
}

fn unknown_files() -> BTreeSet<String> {
    let known: BTreeSet<&str> = FILES.iter().map(|(file, _)| *file).chain([IPC_CAPTURE]).chain(ELSEWHERE).collect();
    let folder = std::fs::read_dir(fixtures::folder()).expect("the vector folder is there");
    folder
        .map(|entry| entry.expect("the vector folder is readable").file_name().to_string_lossy().into_owned())
        .filter(|file| !known.contains(file.as_str()))
        .collect()
}
