//! What loadgen makes of a load besides counting it: the search, conditions, the page, the comparison.

use std::fs;

use serde_json::Value;

use crate::command::{load, loadgen, status, text, undisturbed};
use crate::directory::start_directory;
use crate::relay::{Behaviour, Fault, Relay};
use crate::turn;

fn dropping(every: u64) -> Relay {
    Relay::start("127.0.0.1:0", Behaviour { fault: Some((Fault::Drop, every)), ..Behaviour::default() })
}

/// A folder that goes with the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn the_highest_rate_is_found_with_one_registration() {
    let behaviour = Behaviour { capacity_pps: Some(3000.0), ..Behaviour::default() };
    let (relay, registry) = (Relay::start("127.0.0.1:0", behaviour), start_directory(None));
    let addresses = [relay.address.to_string(), registry.to_string()];
    let output = undisturbed(
        loadgen(&["--peers", "50", "--find-max", "--rate", "1000", "--trial", "0.3", "--seconds", "0.5"])
            .args(["--relay", &addresses[0], "--registry", &addresses[1], "--max-loss", "1", "--json"])
            .args(["--workers", "1"]),
    );
    let (report, stderr): (Value, _) = (serde_json::from_slice(&output.stdout).unwrap(), text(&output.stderr));
    assert_eq!(status(&output), 0, "{stderr}");
    // With the bucket's 30 ms, 3333 a second pass 0.3 s and 3212 a second 0.5 s. A disturbed generator may stop the
    // search earlier, and then says so; it never goes beyond.
    let finding = &report["search"]["finding"];
    let rate_pps = finding["rate_pps"].as_u64().unwrap();
    assert!(rate_pps <= 3212, "{finding}");
    match finding["found"].as_str().unwrap() {
        // The lowest rate that fails 0.5 s, less the search's step back; unless the relay's socket failed it.
        "highest" => assert!(rate_pps >= 3000 || relay.dropped() > 0, "{finding}"),
        found => assert_eq!(found, "at_least", "{finding}"),
    }
    let trials = report["search"]["trials"].as_array().unwrap();
    assert_eq!(stderr.matches("/s for ").count(), trials.len(), "a line for each trial: {stderr}");
    let last = trials.last().unwrap();
    assert_eq!((&last["is_confirmation"], &last["outcome"]), (&true.into(), &"carried".into()));
    assert_eq!(last["rate_pps"], rate_pps);
    assert_eq!(stderr.matches("registering: 50 of 50").count(), 1, "{stderr}");
    assert_eq!(report["foreign"], 0, "stragglers of a trial are not heard in the next");
}

#[test]
fn a_relay_that_loses_at_any_rate_is_blamed() {
    let _turn = turn();
    let output = load(&dropping(2), &["--find-max", "--trial", "0.1"]).output().unwrap();
    let verdict = text(&output.stdout).lines().last().unwrap();
    // Unless the generator was disturbed in the end, in which case it must say so.
    match status(&output) {
        1 => assert!(verdict.starts_with("verdict       no rate held: the relay loses too many"), "{verdict}"),
        3 => assert!(verdict.starts_with("verdict       nothing found: this host could not"), "{verdict}"),
        status => panic!("{status}: {verdict}"),
    }
}

#[test]
fn a_condition_that_is_true_makes_the_status_1_and_is_named() {
    let relay = dropping(10);
    let output = undisturbed(&mut load(&relay, &["--max-loss", "50", "--fail-if", "loss>5%,p99>60s"]));
    assert_eq!(status(&output), 1);
    assert_eq!(text(&output.stderr).lines().last().unwrap(), "loadgen: loss>5% is true: 10 %");
    let stdout = text(&output.stdout);
    assert!(stdout.contains("condition     p99>60s is not true: "), "{stdout}");
    assert!(stdout.contains("verdict       failed by loss>5%; "), "{stdout}");
    let output = undisturbed(&mut load(&relay, &["--max-loss", "50", "--fail-if", "loss>50%", "--fail-if", "rate<1"]));
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn the_page_is_written_besides_the_report() {
    let (folder, relay) = (folder(), dropping(10));
    let path = folder.path().join("report.html");
    let output = undisturbed(&mut load(&relay, &["--html", path.to_str().unwrap(), "--fail-if", "loss>1%"]));
    assert_eq!(status(&output), 1);
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("loss&gt;1% is true: 10 %") && page.matches("<svg").count() == 4);
    let nowhere = folder.path().join("missing").join("report.html");
    let _turn = turn();
    let output = load(&relay, &["--html", nowhere.to_str().unwrap()]).output().unwrap();
    assert_eq!(status(&output), 3);
    assert!(text(&output.stderr).contains("cannot write"), "{}", text(&output.stderr));
}

#[test]
fn two_reports_are_set_side_by_side() {
    let folder = folder();
    let write = |name: &str, relay: &Relay, arguments: &[&str]| {
        let output = undisturbed(&mut load(relay, &[&["--json"], arguments].concat()));
        let path = folder.path().join(name);
        fs::write(&path, output.stdout).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let perfect = Relay::start("127.0.0.1:0", Behaviour::default());
    let (a, b) = (write("a.json", &perfect, &[]), write("b.json", &dropping(3), &[]));

    let output = loadgen(&["--compare", &a, &b]).output().unwrap();
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
    let loss = text(&output.stdout).lines().find(|line| line.starts_with("loss")).unwrap().to_owned();
    assert!(loss.contains("33.3 %") && loss.ends_with("changed"), "{loss}");

    let output = loadgen(&["--compare", &a, &b, "--json"]).output().unwrap();
    let comparison: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(comparison["rows"][1]["change"], "changed", "{comparison}");

    let other = write("other.json", &perfect, &["--size", "imix"]);
    let output = loadgen(&["--compare", &a, &other]).output().unwrap();
    assert_eq!(status(&output), 2);
    assert!(text(&output.stderr).contains("size 256 against imix"), "{}", text(&output.stderr));

    fs::write(folder.path().join("not.json"), "{}").unwrap();
    let output = loadgen(&["--compare", &a, folder.path().join("not.json").to_str().unwrap()]).output().unwrap();
    assert_eq!(status(&output), 2);
    assert!(text(&output.stderr).contains("write one with: loadgen --json"), "{}", text(&output.stderr));
}
