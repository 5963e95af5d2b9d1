//! The daemon of a fleet host: see `pilot-agent --help`, and `agent::daemon` for how it works.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use agent::config::settings::{Command, CommandLine, ConfigCommand, LogFormat};
use agent::config::{Config, ConfigError, check, default_file};
use agent::daemon::{self, ipc::PlaceError, runtime, state::InUse};
use clap::CommandFactory as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How the program ends.
#[derive(Clone, Copy)]
enum Exit {
    /// As it was told to.
    Success = 0,
    /// Something is wrong with this host or its files.
    Failure = 1,
    /// Something is wrong with the settings.
    Usage = 2,
    /// Another daemon runs already.
    Running = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let config = match CommandLine::read(std::env::args_os()) {
        Ok(CommandLine { command: Some(command), .. }) => return run_command(command),
        Ok(CommandLine { command: None, settings }) => Config::of(settings),
        Err(error) => Err(error.into()),
    };
    let config = match config {
        Ok(config) => config,
        Err(ConfigError::Arguments(error)) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // Help goes to standard output; where that is closed there is nobody to tell.
            let _ = error.print();
            return exit.into();
        }
        Err(error) => return end(Exit::Usage, &error.to_string()),
    };
    let format = match config.log_format {
        LogFormat::Text => telemetry::log::Format::Text,
        LogFormat::Json => telemetry::log::Format::Json,
    };
    if let Err(text) = telemetry::log::start_as("pilot-agent", format, &config.log_level) {
        return end(Exit::Usage, &format!("--log-level {text}"));
    }
    confinement::harden(config.confinement);
    if let Err(error) = daemon::confinement::enter(&config) {
        return end(Exit::Failure, &format!("{error:#}"));
    }
    let ended = runtime::run(|ring| async move {
        let (stop, stopped) = mpsc::channel(2);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // A service has no terminal that could go, and its manager would take the end for one that was wanted.
        let mut hang_up = match std::env::var_os("NOTIFY_SOCKET") {
            Some(_) => Some(signal(SignalKind::hangup())?),
            None => None,
        };
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = received(hang_up.as_mut()) => {
                        tracing::warn!("a hang-up changes nothing: settings are read at the start");
                        continue;
                    }
                }
                let _ = stop.try_send(());
            }
        });
        daemon::run(config, ring, stopped).await
    });
    match ended {
        Ok(Ok(())) => Exit::Success.into(),
        Ok(Err(error)) => {
            let is_running = matches!(error.downcast_ref(), Some(PlaceError::Taken(_))) || error.is::<InUse>();
            end(if is_running { Exit::Running } else { Exit::Failure }, &format!("{error:#}"))
        }
        Err(error) => end(Exit::Failure, &format!("the kernel gives no event queue: {error}")),
    }
}

/// Waits for a signal; for ever where there is none to wait for.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Does something else than to be the node.
fn run_command(command: Command) -> ExitCode {
    use std::io::Write as _;
    let line = CommandLine::command();
    let written = match command {
        Command::Completions(arguments) => arguments.print(&line),
        Command::Man(arguments) => arguments.print(&line),
        Command::Config(ConfigCommand::Default) => {
            std::io::stdout().lock().write_all(default_file::default_file().as_bytes())
        }
        Command::Config(ConfigCommand::Check(arguments)) => {
            let (text, exit) = check::run(arguments.settings, arguments.json);
            return match std::io::stdout().lock().write_all(text.as_bytes()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    end(Exit::Failure, &format!("cannot write: {error}"))
                }
                _ => ExitCode::from(exit),
            };
        }
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            end(Exit::Failure, &format!("cannot write: {error}"))
        }
        _ => Exit::Success.into(),
    }
}

fn end(exit: Exit, text: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "pilot-agent: {text}");
    exit.into()
}
