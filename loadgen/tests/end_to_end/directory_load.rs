//! Loads of a directory: the real program, in a process of its own, and one that refuses.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::command::{loadgen, status, text, undisturbed};
use crate::directory::start_directory;
use crate::turn;

/// `pilot-directory` on a free port, with an empty folder; both go with this value.
struct Directory {
    process: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Directory {
    fn start(flags: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut process = Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("directory listening on ").expect("it says where it listens").to_owned();
        Self { process, address, _data: data }
    }

    /// The report of a run against it, and how that ended.
    fn load(&self, arguments: &[&str]) -> (Value, i32) {
        let _turn = turn();
        let output = loadgen(arguments).args(["--registry", &self.address, "--json"]).output().unwrap();
        let report = serde_json::from_slice(&output.stdout);
        (report.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr))), status(&output))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tests of the whole workspace build it beside the program tested.
fn program() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_loadgen")).with_file_name("pilot-directory");
    assert!(beside.exists(), "{} is missing; build it: cargo build -p directory", beside.display());
    beside
}

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let steps = report["enrolment"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {report}"))
}

#[test]
fn a_directory_is_filled_and_everything_asked_is_answered() {
    let directory = Directory::start(&[]);
    let arguments = ["directory", "--nodes", "90", "--groups", "3", "--rate", "150", "--seconds", "0.4"];
    let arguments = [&arguments[..], &["--connections", "7", "--workers", "2"]].concat();
    let (report, status) = directory.load(&arguments);
    assert_eq!((status, &report["verdict"]), (0, &"ok".into()), "{report}");
    for name in ["registered", "made public", "published", "joined"] {
        assert_eq!(step(&report, name)["requests"], 90, "{name}");
    }
    let phases = report["phases"].as_array().unwrap();
    let kinds: Vec<_> = phases.iter().map(|phase| phase["kind"].as_str().unwrap()).collect();
    let all =
        ["lookup", "resolve-hostname", "resolve", "heartbeat", "query", "signed-query", "mix", "publish", "register"];
    assert_eq!(kinds, all);
    for phase in phases {
        let load = &phase["load"];
        assert_eq!(
            (&load["asked"], &load["answered"], &load["unasked"]),
            (&60.into(), &60.into(), &0.into()),
            "{phase}"
        );
        assert_eq!(load["errors"], serde_json::json!({}), "{phase}");
        assert!(load["latency_us"]["p99"].as_f64().unwrap() > 0.0, "{phase}");
    }
    for kind in [4, 5] {
        // Of 60 answers, each worker's first is read as a whole.
        assert!(phases[kind]["load"]["hits_mean"].is_number(), "{}", phases[kind]);
        assert!(phases[kind]["load"]["answer_bytes_mean"].as_f64().unwrap() > 200.0, "answers have hits: {report}");
    }
    assert_eq!(report["process"]["pid"], directory.process.id());
    assert!(report["process"]["after"]["resident_bytes"].as_u64().unwrap() > 1 << 20);

    // The same nodes once more: known, public and members already, with newer records.
    let (report, status) = directory.load(&[&arguments[..], &["--kinds", "lookup"]].concat());
    assert_eq!(status, 0, "{report}");
    assert_eq!(step(&report, "made public")["requests"], 0);
    assert_eq!(step(&report, "published")["requests"], 90);
}

#[test]
fn a_search_confirms_what_it_finds_and_then_asks_at_half() {
    let directory = Directory::start(&[]);
    let arguments = ["directory", "--nodes", "20", "--kinds", "lookup", "--find-max", "--trial", "0.2"];
    let (report, status) =
        directory.load(&[&arguments[..], &["--seconds", "0.3", "--rate", "500", "--max-p99", "100"]].concat());
    let phase = &report["phases"][0];
    let (finding, trials) = (&phase["search"]["finding"], phase["search"]["trials"].as_array().unwrap());
    let last = trials.last().unwrap();
    let verdict = report["verdict"].as_str().unwrap();
    // On a host busy with something else no rate may hold; then nothing is claimed, and somebody is named.
    match finding["found"].as_str().unwrap() {
        "nothing" => {
            let expected = if finding["limit"] == "relay" { (1, "slow") } else { (3, "generator_limit") };
            assert_eq!((status, verdict), expected, "{finding}");
            assert!(phase["load"].is_null(), "{phase}");
        }
        _ => {
            assert_eq!((status, verdict, &last["rate"]), (0, "ok", &finding["rate_pps"]), "{finding}");
            assert_eq!(last["seconds"], 0.3, "the last one confirms");
            assert!(last["latency_us"]["p99"].as_f64().unwrap() <= 100_000.0, "{last}");
            assert_eq!(phase["load"]["rate"].as_u64().unwrap(), last["rate"].as_u64().unwrap() / 2);
        }
    }
}

#[test]
fn a_directory_that_limits_is_quoted_with_the_way_out() {
    let registry = start_directory(Some("rate limited: too many requests from this address")).to_string();
    let output =
        undisturbed(&mut loadgen(&["directory", "--nodes", "5", "--connections", "1", "--registry", &registry]));
    let stderr = text(&output.stderr);
    assert_eq!(status(&output), 3, "{stderr}");
    assert!(stderr.contains("refuses a register request: rate limited") && stderr.contains("--exempt"), "{stderr}");
}

#[test]
fn idle_connections_are_held_and_divided_by() {
    let directory = Directory::start(&["--tls-self-signed"]);
    for flags in [&["idle", "--count", "300"][..], &["idle", "--count", "20", "--tls"]] {
        let (report, status) = directory.load(flags);
        assert_eq!((status, &report["connections"]), (0, &flags[2].parse::<u64>().unwrap().into()), "{report}");
        assert_eq!(report["is_tls"], flags.contains(&"--tls"));
        let grown = report["with_all"]["resident_bytes"].as_f64().unwrap()
            - report["before"]["resident_bytes"].as_f64().unwrap();
        let each = report["process_bytes_each"].as_f64().unwrap();
        assert!((each - grown.max(0.0) / report["connections"].as_f64().unwrap()).abs() < 1e-6, "{report}");
    }
    let (report, status) = directory.load(&["idle", "--count", "400", "--max-bytes", "1"]);
    assert_eq!(status, 1, "no connection costs nothing: {report}");
}

#[test]
fn a_plain_directory_is_not_taken_for_one_with_tls() {
    let directory = Directory::start(&["--tls", "off"]);
    let output = loadgen(&["idle", "--count", "2", "--tls", "--registry", &directory.address]).output().unwrap();
    assert_eq!(status(&output), 3);
    assert!(
        text(&output.stderr).starts_with("loadgen: connection ") || text(&output.stderr).contains("connection 0 of 2")
    );
}
