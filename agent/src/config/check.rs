//! `pilot-agent config check`: what a daemon with these settings would meet.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Serialize;

use super::settings::Settings;
use super::{Config, REGISTRY_DEFAULT};

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

fn identity(path: &Path) -> Finding {
    let shown = path.display();
    match fs::read(path).map(|_| fs::metadata(path)) {
        Ok(Ok(found)) if found.permissions().mode() & 0o077 != 0 => finding(
            "identity",
            Status::Note,
            format!("{shown} can be read by others than its owner; chmod 600 {shown}"),
        ),
        Ok(_) => finding("identity", Status::Ok, format!("{shown} is there")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            finding("identity", Status::Ok, format!("{shown} will be made at the first start"))
        }
        Err(error) => problem("identity", format!("{shown}: {error}")),
    }
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
}
