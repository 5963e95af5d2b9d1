//! What a relay with these settings would meet: its data folder and what is in it, its secrets, its certificate, its
//! ports. Read as the relay reads it, with the rights of whoever asks, and never changed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use directory::Tls;
use directory::store::Seen;
use flags::Given;
use relay::server::Admission;
use serde::Serialize;

use super::super::before;
use super::super::cli::{Arguments, Settings};
use super::super::data_dir::{self, DataDir};
use super::super::doctor::{self, Whose};
use super::super::relay_key;

const WRONG_SETTING: u8 = 2;
const HAS_PROBLEMS: u8 = 3;
/// A certificate that ends so soon is worth a word.
const SOON_SECONDS: u64 = 14 * 24 * 60 * 60;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// Worth knowing.
    Note,
    /// The relay would not start, or not serve.
    Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    id: &'static str,
    status: Status,
    finding: String,
}

/// The report, and the exit status it means.
pub fn run(arguments: Arguments, json: bool, given: &Given) -> (String, ExitCode) {
    let mut findings = vec![source(given)];
    let exit = match resolved(arguments) {
        Err(error) => {
            findings.push(Finding { id: "settings", status: Status::Problem, finding: error });
            WRONG_SETTING
        }
        Ok(settings) => {
            findings.push(Finding {
                id: "settings",
                status: Status::Ok,
                finding: "every value can be used".to_owned(),
            });
            findings.extend(look(&settings));
            let worst = findings.iter().map(|finding| finding.status).max();
            if worst == Some(Status::Problem) { HAS_PROBLEMS } else { 0 }
        }
    };
    let text = if json {
        format!("{:#}\n", serde_json::json!(findings))
    } else {
        let word = |status| match status {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Problem => "problem",
        };
        let line = |found: &Finding| format!("  {:<7}  {:<11}  {}\n", word(found.status), found.id, found.finding);
        findings.iter().map(line).collect()
    };
    (text, ExitCode::from(exit))
}

fn resolved(arguments: Arguments) -> Result<Settings, String> {
    telemetry::log::check_level(&arguments.log_level).map_err(|error| format!("--log-level {error}"))?;
    arguments.resolve().map_err(|error| format!("{error:#}"))
}

fn source(given: &Given) -> Finding {
    let set = given.settings().into_iter().filter(|setting| setting.origin != flags::Origin::Default).count();
    let finding = match given.file() {
        Some(path) => format!("{} can be read; {set} settings are given, there or elsewhere", path.display()),
        None => format!("no file is named with --config; {set} settings are given"),
    };
    Finding { id: "file", status: Status::Ok, finding }
}

fn look(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if settings.registry.is_some() {
        findings.push(of_data_dir(settings.data_dir.as_deref()));
        findings.extend(kept(settings));
        findings.extend(certificate(settings, now()));
        findings.extend(enrolment(settings));
    }
    if let Some(path) = &settings.admin_token_file {
        findings.push(match settings.admin_token(None) {
            Ok(_) => secrecy("admin-token", path),
            Err(error) => Finding { id: "admin-token", status: Status::Problem, finding: format!("{error:#}") },
        });
    }
    findings.extend(doctor::ports(settings).into_iter().map(|(port, verdict)| {
        let (status, finding) = match verdict {
            Ok(Whose::Free) => (Status::Ok, format!("{port} is free")),
            Ok(Whose::Kept) => (Status::Ok, format!("{port} is that of the relay at work")),
            Ok(Whose::Moved(bound)) => {
                let finding = format!("{port}: the relay at work listens at {bound}; {}", before::MOVED);
                (Status::Note, finding)
            }
            Err(reason) => (Status::Problem, format!("{port}: {reason}")),
        };
        Finding { id: "port", status, finding }
    }));
    findings
}

#[expect(clippy::disallowed_methods, reason = "a certificate is good or not at the present time")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Others may not read a secret.
fn secrecy(id: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Finding {
            id,
            status: Status::Note,
            finding: format!("{shown} can be read by others than its owner; chmod 600 {shown}"),
        },
        _ => Finding { id, status: Status::Ok, finding: format!("{shown} can be read") },
    }
}

fn of_data_dir(given: Option<&Path>) -> Finding {
    let id = "data-dir";
    let problem = |finding| Finding { id, status: Status::Problem, finding };
    let path = match given.map_or_else(data_dir::default_path, |path| Ok(path.to_owned())) {
        Ok(path) => path,
        Err(error) => return problem(format!("{error:#}")),
    };
    let shown = path.display();
    match fs::metadata(&path) {
        Ok(found) if !found.is_dir() => problem(format!("{shown} is no folder; choose another with --data-dir")),
        Ok(found) => {
            let me = nix::unistd::geteuid();
            let owned = me.is_root() || found.uid() == me.as_raw();
            let mode = found.permissions().mode();
            if !owned && mode & 0o022 == 0 {
                problem(format!("{shown} belongs to another user, who is the one to run this as; or choose --data-dir"))
            } else if mode & 0o077 != 0 {
                let finding = format!("{shown} can be looked into by others than its owner; chmod 700 {shown}");
                Finding { id, status: Status::Note, finding }
            } else {
                Finding { id, status: Status::Ok, finding: format!("{shown} is there") }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let above = path.ancestors().skip(1).find(|above| above.exists());
            match above.map(fs::metadata) {
                Some(Ok(found)) if found.is_dir() => {
                    Finding { id, status: Status::Ok, finding: format!("{shown} will be made at the first start") }
                }
                _ => problem(format!("{shown} cannot be made; choose another with --data-dir")),
            }
        }
        Err(error) => problem(format!("{shown}: {error}")),
    }
}

/// What the relay has kept in its folder, read as it would be read at the start.
fn kept(settings: &Settings) -> Vec<Finding> {
    // A folder that is missing is made, and has nothing in it.
    let Ok(data_dir) = DataDir::existing(settings.data_dir.clone()) else { return Vec::new() };
    let path = data_dir.path();
    let finding = |id, result: anyhow::Result<(Status, String)>| {
        let (status, finding) = result.unwrap_or_else(|error| (Status::Problem, format!("{error:#}")));
        Finding { id, status, finding }
    };
    let database = path.join(directory::store::FILE_NAME);
    let seen = data_dir.look_at_database().map(|seen| match seen {
        None => (Status::Note, "a backup takes its place at the next restart".to_owned()),
        Some(Seen::Missing) => (Status::Ok, format!("{} will be made at the first start", database.display())),
        Some(Seen::Whole(schema)) => (Status::Ok, format!("{} is whole (schema {schema})", database.display())),
        Some(Seen::Unseen) => (
            Status::Note,
            format!("{} is in use, or can only be looked at by whoever opens it; not checked", database.display()),
        ),
    });
    let mut findings = vec![finding("database", seen)];
    let said = |is_there, file: &str| match is_there {
        true => (Status::Ok, format!("{} can be used", path.join(file).display())),
        false => (Status::Ok, format!("{} will be made at the first start", path.join(file).display())),
    };
    if settings.relay.rules.admission != Admission::Open {
        let key = relay_key::check(path).map(|is_there| said(is_there, relay_key::FILE));
        findings.push(finding("relay-key", key));
    }
    if settings.admin_token_file.is_none() {
        let token = data_dir.kept_admin_token().map(|token| said(token.is_some(), data_dir::ADMIN_TOKEN));
        findings.push(finding("admin-token", token));
    }
    findings
}

/// Whom the list of keys lets in, where there is one.
fn enrolment(settings: &Settings) -> Option<Finding> {
    let id = "enrolment";
    let data_dir = settings.data_dir.clone().map_or_else(data_dir::default_path, Ok).unwrap_or_default();
    let policy = match settings.policy(data_dir) {
        Err(error) => return Some(Finding { id, status: Status::Problem, finding: format!("{error:#}") }),
        Ok(policy) => policy,
    };
    let file = settings.allowlist()?.display();
    Some(match policy.listed.len() {
        0 => Finding { id, status: Status::Note, finding: format!("{file} names no key, so it lets nobody in") },
        keys => Finding { id, status: Status::Ok, finding: format!("the allowlist names {keys} keys") },
    })
}

fn certificate(settings: &Settings, now: u64) -> Vec<Finding> {
    let id = "certificate";
    let (cert, key) = match &settings.tls {
        Tls::Off => {
            let finding = "none, so whoever listens reads what nodes ask; leave --tls off out".to_owned();
            return vec![Finding { id, status: Status::Note, finding }];
        }
        Tls::Files { cert, key } => (cert.clone(), key.clone()),
        Tls::SelfSigned | Tls::Offered => {
            let Ok(folder) = settings.data_dir.clone().map_or_else(data_dir::default_path, Ok) else {
                return Vec::new();
            };
            let files = directory::tls::own_files(&folder);
            if !files.0.exists() {
                let finding = "one of the relay's own will be made at the first start".to_owned();
                return vec![Finding { id, status: Status::Ok, finding }];
            }
            files
        }
    };
    let (cert, key) = (cert.as_path(), key.as_path());
    let found = match directory::tls::examine(cert, key) {
        Err(error) => Finding { id, status: Status::Problem, finding: format!("{error:#}") },
        Ok(examined) => {
            let shown = cert.display();
            match examined.validity {
                None => Finding { id, status: Status::Note, finding: format!("{shown} does not say until when") },
                Some(validity) => match validity.objection(now) {
                    Some(reason) => Finding { id, status: Status::Problem, finding: format!("{shown} {reason}") },
                    None => {
                        let left = validity.ends.saturating_sub(now);
                        let status = if left < SOON_SECONDS { Status::Note } else { Status::Ok };
                        let pin = match settings.tls {
                            Tls::Files { .. } => String::new(),
                            _ => format!("; agents pin it: --registry-fingerprint {}", examined.fingerprint),
                        };
                        let finding = format!("{shown} fits its key and ends in {} days{pin}", left / DAY_SECONDS);
                        Finding { id, status, finding }
                    }
                },
            }
        }
    };
    let secret = secrecy("key", key);
    let mut findings = vec![found];
    findings.extend((secret.status != Status::Ok).then_some(secret));
    findings
}
