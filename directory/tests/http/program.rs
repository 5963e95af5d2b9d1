//! `pilot-directory --http`, and a directory at work behind the pages.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use directory::http::Server;
use directory::{Config, NoRelay, Running};

use crate::client::get;

fn start(folder: &std::path::Path) -> Running {
    let mut config = Config::new(folder);
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    directory::start(config, Arc::new(NoRelay::default())).unwrap()
}

#[test]
fn the_program_serves_pages_and_probes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-directory"));
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.split_once("http://").map(|(_, at)| at.to_owned()));
    let address = address.unwrap().parse().unwrap();
    let answers = ["/healthz", "/metrics", "/", "/operator"].map(|path| get(address, path));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200; 4]);
    assert_eq!(answers[0].body, "ok\n");
    assert!(answers[1].body.contains("pilot_directory_nodes 0"));
    assert!(answers[3].body.contains("--admin-token-file"));
}

#[test]
fn growth_outlives_a_restart_and_damage_does_not_stop_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("growth.csv");
    let hours = |running: &Running| {
        let site = running.site(None);
        let server = Server::start("127.0.0.1:0".parse().unwrap(), Some(site), |_| axum::Router::new()).unwrap();
        get(server.address(), "/status/history.json").json()["growth"].as_array().unwrap().len()
    };
    let running = start(folder.path());
    assert_eq!(hours(&running), 1);
    let before = std::fs::read_to_string(&file).unwrap();
    assert_eq!(before.lines().count(), 2, "{before}");
    // An hour long ago, as another process would have left it.
    let (header, rest) = before.split_once('\n').unwrap();
    let old = rest.split(',').next().unwrap().parse::<u64>().unwrap() - 3600 * 48;
    std::fs::write(&file, format!("{header}\n{old},5,3\n{rest}")).unwrap();
    assert_eq!(hours(&running), 2);
    drop(running);
    std::fs::write(&file, "garbage\n").unwrap();
    assert_eq!(hours(&start(folder.path())), 1);
    assert_eq!(std::fs::read_to_string(file.with_extension("csv.damaged")).unwrap(), "garbage\n");
}
