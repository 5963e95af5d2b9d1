//! `pilot-agent config check`: what a daemon with these settings would meet.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Serialize;

use super::settings::Settings;
use super::values::Listen;
use super::{Config, REGISTRY_DEFAULT};
use crate::daemon::{sockets, state};
use crate::identity::{self, FileError};
use crate::trust::Trust;

const WRONG_SETTING: u8 = 2;
const HAS_PROBLEMS: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Note,
    Problem,
}

#[derive(Clone, Debug, Serialize)]
struct Finding {
    id: &'static str,
    status: Status,
    finding: String,
}

/// The report, and the exit status it means.
#[must_use]
pub fn run(settings: Settings, json: bool) -> (String, u8) {
    let findings = match Config::of(settings) {
        Ok(config) => match telemetry::log::check_level(&config.log_level) {
            Ok(()) => look(&config),
            Err(error) => return told(&[problem("settings", format!("--log-level {error}"))], json, WRONG_SETTING),
        },
        Err(error) => return told(&[problem("settings", error.to_string())], json, WRONG_SETTING),
    };
    let worst = findings.iter().map(|finding| finding.status).max();
    told(&findings, json, if worst == Some(Status::Problem) { HAS_PROBLEMS } else { 0 })
}

fn told(findings: &[Finding], json: bool, exit: u8) -> (String, u8) {
    let text = if json {
        format!("{:#}\n", serde_json::json!(findings))
    } else {
        let word = |status| match status {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Problem => "problem",
        };
        findings
            .iter()
            .map(|found| format!("  {:<7}  {:<9}  {}\n", word(found.status), found.id, found.finding))
            .collect()
    };
    (text, exit)
}

const fn finding(id: &'static str, status: Status, finding: String) -> Finding {
    Finding { id, status, finding }
}

const fn problem(id: &'static str, text: String) -> Finding {
    finding(id, Status::Problem, text)
}

fn look(config: &Config) -> Vec<Finding> {
    let registry = config.registry.to_string();
    let named = if registry == REGISTRY_DEFAULT {
        finding("registry", Status::Note, format!("{registry}, on this very host; name another with --registry"))
    } else if config.registry_fingerprint.is_none() {
        let text =
            format!("{registry}, without TLS; with --registry-fingerprint nobody on the way can read or change it");
        finding("registry", Status::Note, text)
    } else {
        finding("registry", Status::Ok, format!("{registry}, with TLS"))
    };
    let mut findings = vec![named, folder("data-dir", &config.data_dir), identity(&config.identity)];
    if let Some(parent) = config.socket.parent() {
        findings.push(folder("socket", parent));
    }
    findings.extend(trust(&config.data_dir));
    findings.extend(ports(config));
    findings
}

/// Whether files can be made in a folder, or it can be made itself.
fn folder(id: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    let Some((there, found)) = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?))) else {
        return problem(id, format!("{shown} cannot be made; choose another with --{id}"));
    };
    let me = nix::unistd::geteuid();
    let mode = found.permissions().mode();
    let may_write = me.is_root() || mode & 0o002 != 0 || (found.uid() == me.as_raw() && mode & 0o200 != 0);
    if !found.is_dir() {
        problem(id, format!("{} is no folder; choose another with --{id}", there.display()))
    } else if !may_write && mode & 0o020 == 0 {
        problem(id, format!("{} cannot be written by this user; choose another with --{id}", there.display()))
    } else if there == path {
        finding(id, Status::Ok, format!("{shown} is there"))
    } else {
        finding(id, Status::Ok, format!("{shown} will be made at the first start"))
    }
}

/// Read as the daemon reads it.
fn identity(path: &Path) -> Finding {
    let shown = path.display();
    match identity::load(path) {
        Ok(_) => finding("identity", Status::Ok, format!("{shown} is there")),
        Err(FileError::Missing(_)) => {
            finding("identity", Status::Ok, format!("{shown} will be made at the first start"))
        }
        Err(error) => problem("identity", error.to_string()),
    }
}

/// Whom the node trusts; nothing to say where nobody was trusted yet.
fn trust(folder: &Path) -> Option<Finding> {
    let damaged = |error| problem("trust", format!("the trust file in {} is damaged: {error}", folder.display()));
    match state::trust_in(folder) {
        Ok(None) => None,
        Ok(Some(text)) => Some(match Trust::check(&text) {
            Ok(()) => finding("trust", Status::Ok, "whom this node trusts can be read".to_owned()),
            Err(error) => damaged(error),
        }),
        Err(error) => Some(problem("trust", error.to_string())),
    }
}

/// Whether the ports are free. One that the daemon at work may have itself is no problem.
fn ports(config: &Config) -> Vec<Finding> {
    let at_work = state::process_in(&config.data_dir);
    let say = |id, place: String, tried: io::Result<()>| match (tried, at_work) {
        (Ok(()), _) => finding(id, Status::Ok, format!("{place} is free")),
        (Err(error), Some(pid)) if error.kind() == io::ErrorKind::AddrInUse => {
            finding(id, Status::Note, format!("{place} is taken, perhaps by the daemon at work (process {pid})"))
        }
        (Err(error), _) => problem(id, format!("{place} cannot be used: {error}; choose another with --{id}")),
    };
    let tunnel = match config.listen {
        Listen::Anywhere(0) => None,
        Listen::Anywhere(port) => Some(format!("UDP port {port}")),
        Listen::At(address) => Some(format!("UDP {address}")),
    };
    let tunnel = tunnel.map(|place| say("listen", place, sockets::try_out(config.listen)));
    let http = config.http.map(|address| say("http", format!("TCP {address}"), TcpListener::bind(address).map(drop)));
    tunnel.into_iter().chain(http).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_work_is_a_problem() {
        let home = tempfile::tempdir().unwrap();
        let in_home = |name: &str| Some(home.path().join(name));
        let good = Settings { data_dir: in_home("data"), socket: in_home("socket"), ..Settings::default() };
        let (text, exit) = run(good.clone(), false);
        assert_eq!(exit, 0, "{text}");
        assert!(text.contains("on this very host"), "{text}");
        fs::write(home.path().join("file"), "").unwrap();
        let bad = Settings { data_dir: in_home("file/data"), ..good.clone() };
        let (text, exit) = run(bad, true);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((exit, report[1]["status"].as_str()), (HAS_PROBLEMS, Some("problem")), "{text}");
        for wrong in [
            Settings { registry: Some("nonsense".to_owned()), ..good.clone() },
            Settings { log_level: Some("=,=".to_owned()), ..good },
        ] {
            assert_eq!(run(wrong, false).1, WRONG_SETTING);
        }
    }

    #[test]
    fn what_the_daemon_refuses_the_check_refuses_and_nothing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let good =
            Settings { data_dir: Some(data.clone()), socket: Some(home.path().join("s")), ..Settings::default() };
        let check = || run(good.clone(), false);
        assert_eq!(check().1, 0);
        assert!(!data.exists());
        fs::create_dir(&data).unwrap();
        let refused = |words: &[&str]| {
            let (text, exit) = check();
            assert_eq!(exit, HAS_PROBLEMS, "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        };

        let key = data.join(super::super::IDENTITY_NAME);
        identity::create(&key, &[7; 32]).unwrap();
        assert_eq!(check().1, 0, "{}", check().0);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        refused(&["identity", "open to others", "chmod 600"]);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let whole = fs::read_to_string(&key).unwrap();
        fs::write(&key, &whole[..whole.len() / 2]).unwrap();
        refused(&["no identity file"]);
        fs::write(&key, whole).unwrap();

        let trust = data.join("trust.json");
        fs::write(&trust, "{\"trusted\": [").unwrap();
        refused(&["trust file", "damaged", "restore it"]);
        fs::write(&trust, "{}").unwrap();
        assert_eq!(check().1, 0);
    }

    #[test]
    fn a_port_that_is_taken_is_a_problem_unless_the_daemon_at_work_may_have_it() {
        let home = tempfile::tempdir().unwrap();
        let (data_dir, socket) = (Some(home.path().to_owned()), Some(home.path().join("s")));
        let good = Settings { data_dir, socket, ..Settings::default() };
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let (tcp, udp_port) =
            (tcp.local_addr().map(|address| (tcp, address)).unwrap(), udp.local_addr().unwrap().port());
        let http = Settings { http: Some(tcp.1.to_string()), ..good.clone() };
        let listen = |text: String| Settings { listen: Some(text), ..good.clone() };
        let wrong = [
            (http, "--http"),
            (listen(format!("127.0.0.1:{udp_port}")), "--listen"),
            (listen(format!(":{udp_port}")), "--listen"),
        ];
        for (settings, flag) in wrong.clone() {
            let (text, exit) = run(settings, false);
            assert_eq!(exit, HAS_PROBLEMS, "{text}");
            assert!(text.contains(flag), "{flag} in {text}");
        }
        fs::write(home.path().join("pilot.pid"), std::process::id().to_string()).unwrap();
        for (settings, _) in wrong {
            let (text, exit) = run(settings, false);
            assert_eq!(exit, 0, "{text}");
            assert!(text.contains("perhaps by the daemon at work"), "{text}");
        }
    }
}
