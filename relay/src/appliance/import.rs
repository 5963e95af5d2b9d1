//! `pilot-relay import`: the snapshot of another registry into an empty data folder. What the snapshot means is in
//! `directory::import`.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use directory::import::{Plan, Summary};

use super::data_dir::{self, DataDir};

/// Snapshots are read whole; a million nodes take some 400 MB.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;
/// Entries named to a person; programs get all.
const SHOWN_MAX: usize = 20;
/// Something in the snapshot cannot be taken over, so nothing was.
const HAS_INVALID: u8 = 3;

/// Which snapshot, and where to.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The other registry's snapshot (JSON); - is standard input
    #[arg(value_name = "FILE")]
    snapshot: PathBuf,
    /// Folder of the directory's database, which must have no nodes yet [default: as the relay's]
    #[arg(long, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR", hide_env = true)]
    data_dir: Option<PathBuf>,
    /// Leave out what cannot be taken over, instead of taking nothing
    #[arg(long)]
    skip_invalid: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print an object: done, summary, invalid
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Nodes keep number, key, hostname, tags, visibility, trust (both directions), networks and open handshakes. Numbers that
the other registry has handed out and forgotten are given to nobody. Stop the other registry first, so that nobody
registers there meanwhile; then stop this relay, import, and start it.

Trust that is imported lets the one node in at the other. Whom a daemon dials is up to its own memory of handshakes, which is
beside its key and moves along with it: two private daemons that have never shaken hands refuse to dial each other after the
move as they did before (\"refusing tunnel to private node\"), until they do: pilotctl handshake.

Exit status:
  0  done
  1  the file or the folder cannot be used
  2  the command line is wrong
  3  something cannot be taken over, so nothing was; see --skip-invalid";

/// Runs it.
///
/// # Errors
/// What went wrong, and what to do.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let text = read(&arguments.snapshot)?;
    let now = now();
    let plan = directory::import::plan(&text, now, directory::Limits::default().nodes_max)
        .with_context(|| format!("cannot import {}", arguments.snapshot.display()))?;
    drop(text);
    let is_taken = plan.invalid.is_empty() || arguments.skip_invalid;
    if is_taken && !arguments.dry_run {
        let path = arguments.data_dir.clone().map_or_else(data_dir::default_path, Ok)?;
        data_dir::become_owner(&path)?;
        let folder = DataDir::open(Some(path))?;
        directory::import::write(&plan, folder.path(), now)?;
    }
    let is_done = is_taken && !arguments.dry_run;
    let report = if arguments.json {
        let report = serde_json::json!({ "done": is_done, "summary": plan.summary, "invalid": plan.invalid });
        format!("{report:#}\n")
    } else {
        told(&plan, is_done, is_taken)
    };
    let mut out = io::stdout().lock();
    // A reader that has gone away is no error.
    let _ = out.write_all(report.as_bytes()).and_then(|()| out.flush());
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::from(HAS_INVALID) })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || {
        let mut text = Vec::new();
        let source: Box<dyn io::Read> =
            if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(std::fs::File::open(path)?) };
        source.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    let text = read().with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!((text.len() as u64) < SNAPSHOT_BYTES_MAX, "{} is no snapshot: it is too long", path.display());
    Ok(text)
}

#[expect(clippy::disallowed_methods, reason = "the time of the import")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn told(plan: &Plan, is_done: bool, is_taken: bool) -> String {
    let Summary {
        nodes,
        hostnames,
        tagged,
        public,
        kept_for_keys,
        unused_numbers,
        trust_pairs,
        networks,
        members,
        requests,
        responses,
    } = plan.summary;
    let mut text = String::new();
    for invalid in plan.invalid.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  invalid  {invalid}");
    }
    if let Some(more @ 1..) = plan.invalid.len().checked_sub(SHOWN_MAX) {
        let _ = writeln!(text, "  invalid  and {more} more; --json names all");
    }
    let _ = writeln!(
        text,
        "  nodes    {nodes}, of which {hostnames} with a hostname, {tagged} with tags, {public} public\n  \
         numbers  {kept_for_keys} kept for keys that are away, {unused_numbers} put out of use\n  \
         trust    {trust_pairs} pairs\n  networks {networks} with {members} members\n  \
         waiting  {requests} handshake requests, {responses} answers"
    );
    text.push_str(match (is_done, is_taken) {
        (true, _) => "Imported. Start the relay.\n",
        (false, true) => "Nothing was written, as --dry-run asks.\n",
        (false, false) => "Nothing was written. Mend the snapshot, or leave out what is invalid with --skip-invalid.\n",
    });
    text
}
