//! A program with one flag of each kind. The environment is never set here, as tests share it: see the programs' tests.

use std::path::Path;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "thing", args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Check(Check),
    Other,
}

#[derive(Debug, Args)]
struct Check {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
struct Flags {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long, default_value_t = 7)]
    sessions_max: usize,
    #[arg(long)]
    exempt: Vec<String>,
    #[arg(long)]
    log_json: bool,
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    #[arg(long, conflicts_with = "cert")]
    own: bool,
}

fn program() -> Program {
    Program::new(Line::command(), "THING_")
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn read(text: &str, arguments: &[&str]) -> Result<(Line, Given), String> {
    let (_folder, path) = file(text);
    let all = [&["thing"], arguments, &["--config", &path]].concat();
    program().read(all).map_err(|error| error.to_string().replace(&path, "FILE"))
}

fn origin(given: &Given, key: &str) -> (Option<String>, Origin) {
    let setting = given.settings().into_iter().find(|setting| setting.key == key).unwrap();
    let origin = match setting.origin {
        Origin::File { line, .. } => Origin::File { path: "FILE".into(), line },
        other => other,
    };
    (setting.value, origin)
}

#[test]
fn flags_win_over_the_file() {
    let text = "sessions-max = 1\nexempt = [\"a\", \"b\"]\nlog-json = true\n";
    let (line, given) = read(text, &[]).unwrap();
    assert_eq!((line.flags.sessions_max, line.flags.log_json), (1, true));
    assert_eq!(line.flags.exempt, ["a", "b"]);
    let at = |line| Origin::File { path: "FILE".into(), line };
    assert_eq!(origin(&given, "exempt"), (Some("a,b".to_owned()), at(2)));
    let (line, given) = read(text, &["--sessions-max", "2", "--exempt", "c", "--log-json=false"]).unwrap();
    assert_eq!((line.flags.sessions_max, line.flags.log_json), (2, false));
    assert_eq!(line.flags.exempt, ["c"], "a flag replaces the list of the file");
    assert_eq!(origin(&given, "sessions-max"), (Some("2".to_owned()), Origin::Flag));
    let (line, given) = read("", &["--log-json"]).unwrap();
    assert!(line.flags.log_json);
    assert_eq!(origin(&given, "sessions-max"), (Some("7".to_owned()), Origin::Default));
    assert_eq!(origin(&given, "cert"), (None, Origin::Default));
}

#[test]
fn commands_with_the_same_flags_read_the_same_file() {
    let (line, _) = read("sessions-max = 1\n", &["check", "--json"]).unwrap();
    let Some(Sub::Check(check)) = line.command else { panic!("{line:?}") };
    assert_eq!((check.json, check.flags.sessions_max), (true, 1));
    let error = read("json = true\n", &["check"]).unwrap_err();
    assert!(error.contains("FILE:1: there is no setting json"), "{error}");
    let (line, _): (Line, _) = program().read(["thing", "other"]).unwrap();
    assert!(matches!(line.command, Some(Sub::Other)));
}

#[test]
fn refusals_name_the_line_of_the_file() {
    for (text, arguments, words) in [
        ("\nsesions-max = 1\n", &[][..], "FILE:2: there is no setting sesions-max; did you mean sessions-max?"),
        ("zzz = 1\n", &[], "FILE:1: there is no setting zzz; the keys are the names of the flags"),
        ("config = \"x\"\n", &[], "FILE:1: there is no setting config"),
        ("\n\nsessions-max = \"many\"\n", &[], "FILE:3: invalid value 'many' for '--sessions-max <SESSIONS_MAX>'"),
        ("sessions-max = [1, 2]\n", &[], "FILE:1: sessions-max takes one value"),
        ("log-json = 7\n", &[], "FILE:1: invalid value '7'"),
        ("own = true\n", &["--cert", "a", "--key", "b"], "FILE:1: the argument"),
        ("cert = \"a\"\n", &[], "FILE with these flags: the following required arguments were not provided: --key"),
        ("sessions-max = \n", &[], "FILE:1: "),
    ] {
        let error = read(text, arguments).unwrap_err();
        assert!(error.starts_with(words), "{text:?}: {error}");
        assert!(!error.trim_end().contains('\n'), "{error}");
    }
    let missing = program().read::<Line>(["thing", "--config", "/does/not/exist"]).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read --config /does/not/exist"), "{missing}");
}

#[test]
fn what_a_flag_needs_may_be_in_the_file() {
    let (line, _) = read("key = \"k\"\n", &["--cert", "c"]).unwrap();
    assert_eq!(line.flags.key.as_deref(), Some(Path::new("k")));
    assert!(program().read::<Line>(["thing", "--cert", "c"]).is_err());
}
