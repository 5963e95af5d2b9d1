//! The settings of a program: flags win over the environment, and that over the file named by `--config`.
//!
//! The command line is read once to see what it and the environment say. What they leave open, the file gives as further
//! arguments, and the whole is read again: one set of definitions checks all three.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use serde::Serialize;

use crate::file::{self, Entry};

/// The flag that names the file. Commands without it are none of ours.
const CONFIG: &str = "config";
/// What clap returns for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// A command line whose flags can be set elsewhere too.
#[derive(Clone, Debug)]
pub struct Program {
    command: Command,
    prefix: &'static str,
}

/// What was given, and where.
#[derive(Clone, Debug)]
pub struct Given {
    matches: ArgMatches,
    file: Option<PathBuf>,
    /// Lines of the file, by id.
    lines: BTreeMap<String, usize>,
    settings: Vec<(String, String)>,
    prefix: &'static str,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key in the file, the flag without dashes.
    pub key: String,
    /// Its value; of a list, separated by commas. `None` where the program chooses.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// A line of the file.
    File {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// The command line.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for help or the version, or is wrong.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The file or the environment is wrong; one line.
    #[error("{0}")]
    Elsewhere(String),
}

impl Error {
    /// Tells the user of `program`, and how it ends.
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        use std::io::Write as _;
        match self {
            Self::Arguments(error) => {
                // Where nobody listens there is nobody to tell.
                let _ = error.print();
                if error.use_stderr() { WRONG_USAGE.into() } else { ExitCode::SUCCESS }
            }
            Self::Elsewhere(text) => {
                let _ = writeln!(std::io::stderr(), "{program}: {text}");
                WRONG_USAGE.into()
            }
        }
    }
}

impl Program {
    /// The program with this command line; its variables in the environment begin with `prefix`. All commands with the
    /// flag `--config` share the flags of the uppermost.
    #[must_use]
    pub fn new(command: Command, prefix: &'static str) -> Self {
        let ids: Vec<String> = settable(&command).map(|arg| arg.get_id().to_string()).collect();
        Self { command: with_environment(command, prefix, &ids), prefix }
    }

    /// The command line with all that was added to it.
    #[must_use]
    pub const fn command(&self) -> &Command {
        &self.command
    }

    /// The flags that can also be set in the file.
    fn settable(&self) -> impl Iterator<Item = &Arg> {
        in_file(&self.command)
    }

    /// Reads `arguments`, the program's name first, and what they leave open from environment and file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read<T: FromArgMatches>(
        &self,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<(T, Given), Error> {
        let given: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let first = self.look(&given)?;
        let innermost = innermost(&first);
        let named = innermost.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned();
        let entries = match &named {
            Some(path) => self.open_entries(innermost, file::read(path).map_err(Error::Elsewhere)?, path)?,
            None => Vec::new(),
        };
        let added = entries.iter().flat_map(Entry::arguments).map(OsString::from);
        let all = given.iter().cloned().chain(added);
        let told = |error: clap::Error| self.told(error, &given, &entries, named.as_ref());
        let matches = self.command.clone().try_get_matches_from(all).map_err(told)?;
        let settings = self.settable().filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_id().to_string())));
        let result = Given {
            lines: entries.iter().map(|entry| (entry.key.clone(), entry.line)).collect(),
            settings: settings.collect(),
            file: named,
            prefix: self.prefix,
            matches,
        };
        Ok((T::from_arg_matches(&result.matches)?, result))
    }

    /// What flags and environment say. What they lack may be in the file.
    fn look(&self, given: &[OsString]) -> Result<ArgMatches, Error> {
        match self.command.clone().try_get_matches_from(given) {
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
                let lenient = self.command.clone().ignore_errors(true).try_get_matches_from(given);
                lenient.map_err(|_| error.into())
            }
            Err(error) => Err(self.told(error, given, &[], None)),
            Ok(matches) => Ok(matches),
        }
    }

    /// The entries that neither flag nor environment has overruled.
    fn open_entries(
        &self,
        given: &ArgMatches,
        entries: Vec<Entry>,
        path: &std::path::Path,
    ) -> Result<Vec<Entry>, Error> {
        let mut open = Vec::new();
        for entry in entries {
            let is_key = |arg: &&Arg| arg.get_long() == Some(entry.key.as_str());
            let Some(arg) = self.settable().find(is_key) else {
                return Err(Error::Elsewhere(format!(
                    "{}:{}: {}",
                    path.display(),
                    entry.line,
                    self.unknown(&entry.key)
                )));
            };
            if entry.values.len() > 1 && !is_list(arg) {
                let text = format!("{}:{}: {} takes one value", path.display(), entry.line, entry.key);
                return Err(Error::Elsewhere(text));
            }
            let source = given.value_source(arg.get_id().as_str());
            if !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
                open.push(entry);
            }
        }
        Ok(open)
    }

    /// There is no such key; the nearest is what clap would suggest for the flag.
    fn unknown(&self, key: &str) -> String {
        let probe = [self.command.get_name().to_owned(), format!("--{key}=")];
        let suggested = match self.command.clone().try_get_matches_from(probe) {
            Err(error) => match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(flag)) => Some(flag.trim_start_matches('-').to_owned()),
                _ => None,
            },
            Ok(_) => None,
        };
        match suggested.filter(|name| self.settable().any(|arg| arg.get_long() == Some(name))) {
            Some(name) => format!("there is no setting {key}; did you mean {name}?"),
            None => format!("there is no setting {key}; the keys are the names of the flags, see --help"),
        }
    }

    /// The error with the place of the wrong value, where that is not the command line.
    fn told(&self, error: clap::Error, given: &[OsString], entries: &[Entry], path: Option<&PathBuf>) -> Error {
        let flags = flags_of(&error);
        let typed = |key: &str| {
            let flag = format!("--{key}");
            let is_flag = |text: &str| text == flag || text.starts_with(&format!("{flag}="));
            given.iter().any(|argument| argument.to_str().is_some_and(is_flag))
        };
        for key in &flags {
            if let (Some(entry), Some(path)) = (entries.iter().find(|entry| entry.key == *key), path) {
                return Error::Elsewhere(format!("{}:{}: {}", path.display(), entry.line, one_line(&error)));
            }
            let variable = variable(self.prefix, key);
            if std::env::var_os(&variable).is_some() && !typed(key) {
                return Error::Elsewhere(format!("{variable} in the environment: {}", one_line(&error)));
            }
        }
        match path {
            Some(path) if !entries.is_empty() => {
                Error::Elsewhere(format!("{} with these flags: {}", path.display(), one_line(&error)))
            }
            _ => error.into(),
        }
    }
}

impl Given {
    /// The file, where one was named.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// Every setting with its value and where it comes from, in the order of `--help`.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let matches = innermost(&self.matches);
        let setting = |(key, id): &(String, String)| {
            let values = matches.try_get_raw(id).ok().flatten();
            let value = values.map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
            let origin = match (matches.value_source(id), self.lines.get(key), &self.file) {
                (Some(ValueSource::CommandLine), Some(line), Some(path)) => {
                    Origin::File { path: path.clone(), line: *line }
                }
                (Some(ValueSource::CommandLine), _, _) => Origin::Flag,
                (Some(ValueSource::EnvVariable), _, _) => Origin::Environment(variable(self.prefix, key)),
                _ => Origin::Default,
            };
            Setting { key: key.clone(), value, origin }
        };
        self.settings.iter().map(setting).collect()
    }
}

/// The flags of `command` that have a name to set them by elsewhere.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set())
}

/// Those of them that can be in the file.
pub(crate) fn in_file(command: &Command) -> impl Iterator<Item = &Arg> {
    settable(command).filter(|arg| arg.get_id() != CONFIG)
}

/// Whether a flag may be repeated.
pub(crate) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// The name of a flag in the environment.
fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.replace('-', "_").to_uppercase())
}

/// Gives the flags `ids` of each command with `--config` their variables. Switches take a value there, and so everywhere:
/// `--log-json=false` overrules a file that says true.
fn with_environment(command: Command, prefix: &'static str, ids: &[String]) -> Command {
    let is_ours = command.get_arguments().any(|arg| arg.get_id() == CONFIG);
    let command = command.mut_subcommands(|subcommand| with_environment(subcommand, prefix, ids));
    if !is_ours {
        return command;
    }
    command.mut_args(|arg| {
        let Some(key) = arg.get_long().filter(|_| ids.iter().any(|id| arg.get_id() == id.as_str())) else { return arg };
        let name = variable(prefix, key);
        let arg = arg.env(name).hide_env(true);
        match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_name("BOOL")
                .value_parser(BoolishValueParser::new()),
            ArgAction::Append => arg.value_delimiter(','),
            _ => arg,
        }
    })
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    let mut matches = matches;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

/// The keys of the flags that an error is about.
fn flags_of(error: &clap::Error) -> Vec<String> {
    let key = |text: &String| {
        let name = text.trim_start_matches('-');
        name.split([' ', '=', '[']).next().unwrap_or_default().to_owned()
    };
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![key(text)],
        Some(ContextValue::Strings(texts)) => texts.iter().map(key).collect(),
        _ => Vec::new(),
    };
    [of(ContextKind::InvalidArg), of(ContextKind::PriorArg)].concat()
}

/// What clap says, without its advice to look elsewhere.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words: Vec<&str> = said.map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests;
