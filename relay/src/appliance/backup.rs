//! `pilot-relay backup` and `restore`: the data folder to one file and back, while a relay serves or not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use directory::store::{backup as copy, restore as take_back};
use serde_json::json;

use super::data_dir::{self, DataDir};
use super::whereabouts::Whereabouts;

/// Noted in a backup.
const PROGRAM: &str = concat!("pilot-relay ", env!("CARGO_PKG_VERSION"));

/// What to back up, and where to.
#[derive(Clone, Debug, Args)]
pub struct BackupArguments {
    /// The relay's data folder [default: as for serving]
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The file to write [default: pilot-relay-TIME.backup in the current folder]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
    /// Print an object: file, bytes, nodes, schema, files
    #[arg(long)]
    json: bool,
}

/// What to restore, and where to.
#[derive(Clone, Debug, Args)]
pub struct RestoreArguments {
    /// The backup
    #[arg(value_name = "FILE", required_unless_present = "cancel")]
    file: Option<PathBuf>,
    /// The relay's data folder [default: as for serving]
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Give up a restore that waits for the next start
    #[arg(long, conflicts_with = "file")]
    cancel: bool,
    /// Print an object: nodes, made_at (Unix seconds or null), files, pending, kept (folder of what was there, or null); with
    /// --cancel: canceled
    #[arg(long)]
    json: bool,
}

/// Copies the data folder to a file.
///
/// # Errors
/// What went wrong, and what to do.
pub fn backup(arguments: BackupArguments) -> anyhow::Result<ExitCode> {
    let BackupArguments { data_dir, to, force, json } = arguments;
    let data_dir = DataDir::existing(data_dir)?;
    let now = unix_seconds();
    let to = to.unwrap_or_else(|| format!("pilot-relay-{now}.backup").into());
    let report = copy::write(data_dir.path(), &to, force, PROGRAM, now)?;
    let copy::Report { file, bytes, nodes, schema, files } = report;
    if json {
        let object = json!({ "file": file, "bytes": bytes, "nodes": nodes, "schema": schema, "files": files });
        return print(&object.to_string());
    }
    print(&format!(
        "{}: {nodes} nodes, {} KiB\nwith the database {}\nIt holds secrets, as the data folder does. Settings outside the \
         data folder are not in it.",
        file.display(),
        bytes.div_ceil(1024),
        named(&files),
    ))
}

/// Has a backup take the place of the database.
///
/// # Errors
/// What went wrong, and what to do.
pub fn restore(arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    let RestoreArguments { file, data_dir, cancel: _, json } = arguments;
    // The backup is that of whoever runs this, the folder that of the service.
    let source = file.map(|file| take_back::Source::open(&file)).transpose()?;
    let data_dir = data_dir.map_or_else(data_dir::default_path, Ok)?;
    data_dir::become_owner(&data_dir)?;
    let data_dir = Some(data_dir);
    let Some(source) = source else {
        let data_dir = DataDir::existing(data_dir)?;
        let canceled = take_back::cancel(data_dir.path())?;
        let text = if canceled { "the restore is given up" } else { "no restore waits" };
        return print(&if json { json!({ "canceled": canceled }).to_string() } else { text.to_owned() });
    };
    let data_dir = DataDir::open(data_dir)?;
    let report = take_back::restore(data_dir.path(), source, unix_seconds())?;
    let take_back::Report { nodes, made_at, files, kept } = report;
    if kept.is_some() {
        Whereabouts::in_folder(data_dir.path()).remove();
    }
    if json {
        let pending = kept.is_none();
        let object = json!({ "nodes": nodes, "made_at": made_at, "files": files, "pending": pending, "kept": kept });
        return print(&object.to_string());
    }
    let what_next = match kept {
        Some(kept) => format!("Restored; what was there before is kept in {}.", kept.display()),
        None => format!(
            "A relay serves with {}: it takes the backup over at its next start (systemctl restart pilot-relay).\n\
             Until then it serves as before, and what it stores meanwhile will not be in the restored database.\n\
             To give the restore up: pilot-relay restore --cancel",
            data_dir.path().display()
        ),
    };
    print(&format!("{nodes} nodes, with the database {}\n{what_next}", named(&files)))
}

fn named(files: &[String]) -> String {
    if files.is_empty() { "no other file".to_owned() } else { files.join(", ") }
}

/// A reader that has gone away is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::{ErrorKind, Write as _};
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[expect(clippy::disallowed_methods, reason = "a command notes when it was run")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
