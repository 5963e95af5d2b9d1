//! `pilot-relay config`: are these settings good, where does each come from, and a file to begin with. How flags,
//! environment and file become settings is in the crate `flags`.

mod check;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use flags::{Given, Setting};

use super::cli;

/// What to do with the settings.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Look at settings, files and ports before a relay is started or restarted with them
    ///
    /// Nothing is changed, and a relay at work is not disturbed. Run it as the user the relay runs as.
    #[command(after_help = EXIT_STATUS)]
    Check(Box<SettingsArguments>),
    /// Print every setting, and where it comes from: flag, environment, line of the file, or default
    Show(Box<SettingsArguments>),
    /// Print a configuration file with every setting explained and none changed
    Default,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  a relay would start with these settings
  2  a setting is wrong
  3  the settings are right, but a file or a port cannot be used";

/// The settings asked about.
#[derive(Clone, Debug, Args)]
pub struct SettingsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The relay's.
    #[command(flatten)]
    relay: cli::Arguments,
}

const HEADING: &str = "\
Settings of pilot-relay. Each is the flag of the same name, see pilot-relay(1). What stands behind a # is an example \
or the default; without it, it counts. Flags and variables PILOT_RELAY_... of the environment win over this file.

After a change: pilot-relay config check --config THIS-FILE";

/// Where the default cannot be written down.
const EXAMPLES: [(&str, &str); 9] = [
    ("data-dir", "\"/var/lib/pilot-relay\""),
    ("beacon", "\"[::]:9001\""),
    ("stun", "\"[::]:3478\""),
    ("registry", "\"[::]:9000\""),
    ("advertise", "[\"relay.example.org\"]"),
    ("cpus", "\"0-3\""),
    ("exempt", "[\"10.0.0.0/8\"]"),
    ("tls-cert", "\"/etc/pilot-relay/cert.pem\""),
    ("tls-key", "\"/etc/pilot-relay/key.pem\""),
];

/// Runs it; `given` is what the arguments were read from.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: Arguments, given: &Given) -> anyhow::Result<ExitCode> {
    let (text, exit) = match arguments.command {
        Command::Check(arguments) => check::run(arguments.relay, arguments.json, given),
        Command::Show(arguments) => (shown(&given.settings(), arguments.json), ExitCode::SUCCESS),
        Command::Default => (default_file(), ExitCode::SUCCESS),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(exit),
    }
}

fn default_file() -> String {
    flags::default_file::default_file(cli::program().command(), HEADING, &EXAMPLES)
}

/// A password in a URL is not shown.
fn shown(settings: &[Setting], json: bool) -> String {
    let mut settings = settings.to_vec();
    for value in
        settings.iter_mut().filter(|setting| setting.key == "otlp").filter_map(|setting| setting.value.as_mut())
    {
        *value = telemetry::export::options::shown(value);
    }
    let settings = settings.as_slice();
    if json {
        return format!("{:#}\n", serde_json::json!(settings));
    }
    let value = |setting: &Setting| setting.value.clone().unwrap_or_else(|| "-".to_owned());
    let width = |texts: &dyn Fn(&Setting) -> usize| settings.iter().map(texts).max().unwrap_or_default();
    let (keys, values) = (width(&|setting| setting.key.len()), width(&|setting| value(setting).len()));
    let line = |setting: &Setting| format!("{:<keys$}  {:<values$}  {}\n", setting.key, value(setting), setting.origin);
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cli::CommandLine;
    use super::*;

    #[test]
    fn the_default_file_has_every_flag_and_each_line_is_accepted() {
        let text = default_file();
        let program = cli::program();
        let shown = program.command().get_arguments().filter(|argument| !argument.is_hide_set());
        let keys: Vec<&str> = shown.filter_map(clap::Arg::get_long).collect();
        for key in keys.iter().filter(|key| !["config", "help", "version"].contains(key)) {
            assert!(text.contains(&format!("\n#{key} = ")), "{key} is missing in\n{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            program.read::<CommandLine>(["pilot-relay", "--config", path.to_str().unwrap()]).map(|(line, _)| line)
        };
        let untouched = read(&text).unwrap();
        assert_eq!(format!("{untouched:?}").replace(path.to_str().unwrap(), ""), {
            std::fs::write(&path, "").unwrap();
            format!("{:?}", read("").unwrap()).replace(path.to_str().unwrap(), "")
        });
        for line in flags::default_file::settings_in(&text) {
            let needed = match line.split(' ').next() {
                Some("tls-cert") => "tls-key = \"k\"\n",
                Some("tls-key") => "tls-cert = \"c\"\n",
                _ => "",
            };
            read(&format!("{needed}{line}\n")).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
