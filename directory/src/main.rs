//! `pilot-directory`: the directory as a program of its own. Flags to settings, signals to shutdown.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use confinement::{Confinement, Mode, Rings};
use directory::config::DEFAULT_PORT;
use directory::{AdminToken, Config, Enrolment, NoRelay, Running, Tls, TlsSwitch, http};
use flags::{Program, documents};
use tokio::signal::unix::{SignalKind, signal};
use wire::cidr::Cidr;
use zeroize::Zeroizing;

/// The directory of a Pilot network: registrations, names, trust, networks.
///
/// Every flag can also be set as PILOT_DIRECTORY_FLAG in the environment, and as a key of the file named by --config; flags
/// win over the environment, and that over the file. SIGHUP has the certificate read again.
#[derive(Debug, Parser)]
#[command(name = "pilot-directory", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a configuration file with every setting explained and none changed
    DefaultConfig,
    /// Print the words that a shell completes
    #[command(hide = true)]
    Completions(documents::Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(hide = true)]
    Man(documents::Man),
}

#[derive(Debug, Args)]
struct Flags {
    /// File with settings (TOML, the names of the flags as keys).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen: an address, with or without port, a host name, or a port alone.
    #[arg(long, value_name = "ADDR", default_value = "[::]:9000", value_parser = listen_addr)]
    listen: Vec<SocketAddr>,

    /// Folder for the database.
    #[arg(long, value_name = "DIR", default_value = "pilot-directory-data")]
    data_dir: PathBuf,

    /// Certificate chain (PEM) to offer TLS with, on the same port.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// TLS on the same port: with a certificate of our own making, kept in the data folder, whose fingerprint clients pin;
    /// or not at all [default: self-signed, unless --tls-cert names another]
    #[arg(long, value_enum, value_name = "HOW")]
    tls: Option<TlsSwitch>,

    /// As --tls self-signed; of before
    #[arg(long)]
    tls_self_signed: bool,

    /// Refuse connections without TLS.
    #[arg(long)]
    tls_required: bool,

    /// File with the token that administrators present.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// Who belongs to this network: whoever registers, whom the administrator approves, or whose key is listed in
    /// --allowlist.
    #[arg(long, value_enum, default_value_t = Enrolment::Open)]
    enrol: Enrolment,

    /// File with the public keys that are let in, one a line in base64; read again at SIGHUP. One that suddenly names no key
    /// is refused.
    #[arg(long, value_name = "FILE")]
    allowlist: Option<PathBuf>,

    /// Forget nodes that were not there for so many days; 0 keeps them.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    forget_after: u32,

    /// Sources without limits, besides loopback: 10.0.0.0/8 or a single address. May be repeated.
    #[arg(long, value_name = "CIDR")]
    exempt: Vec<Cidr>,

    /// Serve the status page, the operator view, health and metrics over HTTP: 127.0.0.1:3000 or a port alone [default:
    /// off]. The operator view asks for the admin token; put a proxy with TLS before it on other than loopback.
    #[arg(long, value_name = "ADDR", value_parser = http_addr)]
    http: Option<SocketAddr>,

    /// Relay to name to clients. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,

    /// Give up what serving does not need: capabilities, files, system calls.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    confinement: Mode,

    /// How the log on standard error is written: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: telemetry::log::Format,
}

/// Ports below are the system's own, which takes a capability to bind.
const LOW_PORTS_END: u16 = 1024;

const NAME: &str = "pilot-directory";
const HEADING: &str =
    "Settings of pilot-directory. What stands behind a # is an example or the default; without it, it counts.";

fn program() -> Program {
    Program::new(CommandLine::command(), "PILOT_DIRECTORY_")
}

fn main() -> ExitCode {
    let flags = match program().read(std::env::args_os()) {
        Ok((CommandLine { command: Some(command), .. }, _)) => return run_command(&command),
        Ok((CommandLine { command: None, flags }, _)) => flags,
        Err(error) => return error.report(NAME),
    };
    telemetry::log::start_as(NAME, flags.log_format, "info").expect("a level that is one");
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{error:#}")),
    }
}

fn failed(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{NAME}: {text}");
    ExitCode::FAILURE
}

fn run_command(command: &Command) -> ExitCode {
    let program = program();
    let written = match command {
        Command::DefaultConfig => {
            let text = flags::default_file::default_file(program.command(), HEADING, &[]);
            std::io::stdout().lock().write_all(text.as_bytes())
        }
        Command::Completions(arguments) => arguments.print(program.command()),
        Command::Man(arguments) => arguments.print(program.command()),
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(&format!("cannot write: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let relay = NoRelay { advertise: flags.advertise.clone() };
    let http = flags.http;
    confine(&flags)?;
    let running = directory::start(config(flags)?, Arc::new(relay))?;
    let pages = http.map(|address| {
        let site = running.site(None);
        let others = site.probes().merge(running.node_routes(&site));
        http::Server::start(address, Some(site), |_| others)
    });
    let pages = pages.transpose()?;
    // A closed pipe is no reason to stop serving.
    let _ = announce(&running, pages.as_ref());
    confinement::tell_of_keys();
    wait_for_end(|| reload(&running))?;
    drop(pages);
    running.shutdown();
    Ok(())
}

/// Confines this process before it starts a thread; sockets are bound within.
fn confine(flags: &Flags) -> anyhow::Result<()> {
    confinement::harden(flags.confinement);
    // Rules are for folders that are there.
    let folder = &flags.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}; choose another with --data-dir", folder.display()))?;
    confinement::keep_to_owner(folder, directory::store::FILE_NAME, &[]);
    let files = [&flags.config, &flags.tls_cert, &flags.tls_key, &flags.allowlist, &flags.admin_token_file];
    let ports: Vec<u16> = flags.listen.iter().chain(&flags.http).map(SocketAddr::port).collect();
    let needs = Confinement {
        mode: flags.confinement,
        reads: files.into_iter().flatten().cloned().collect(),
        writes: vec![folder.clone()],
        low_ports: ports.iter().any(|port| (1..LOW_PORTS_END).contains(port)),
        binds: ports,
        ..Confinement::default()
    };
    needs.enter()?;
    confinement::seal(flags.confinement, Rings::Made)?;
    Ok(())
}

/// Reads the settings again. The certificate and the list of keys are what can change in place, each by itself: whoever was
/// taken off the list is out, whatever else is wrong.
fn reload(running: &Running) {
    if let Err(error) = running.reload_allowlist() {
        tracing::error!("cannot reload the list of keys, so it stays as it was: {error:#}");
    }
    let reload = || {
        let (line, _) = program().read::<CommandLine>(std::env::args_os())?;
        running.reload_certificate(&config(line.flags)?.tls)
    };
    match reload() {
        Ok(true) => {
            let fingerprint = running.tls_fingerprint().unwrap_or_default();
            tracing::info!(%fingerprint, "new connections get a new certificate");
        }
        Ok(false) => tracing::info!("the certificate is the same; other settings take a restart"),
        Err(error) => tracing::error!("cannot reload the certificate, so it stays as it was: {error:#}"),
    }
}

fn config(flags: Flags) -> anyhow::Result<Config> {
    let mut config = Config::new(flags.data_dir);
    config.listen = flags.listen;
    config.exempt.extend(flags.exempt);
    let files = flags.tls_cert.zip(flags.tls_key);
    config.tls = Tls::chosen(flags.tls, flags.tls_self_signed, files, flags.tls_required)?;
    config.tls_required = flags.tls_required;
    config.enrolment = flags.enrol;
    config.allowlist = flags.allowlist;
    config.forget_after_days = flags.forget_after;
    config.admin_token = flags.admin_token_file.map(admin_token).transpose()?;
    Ok(config)
}

fn admin_token(file: PathBuf) -> anyhow::Result<AdminToken> {
    let text = std::fs::read_to_string(&file)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read the admin token from {}", file.display()))?;
    AdminToken::new(&text).with_context(|| format!("{} is empty; put the admin token into it", file.display()))
}

/// Addresses, names and bare ports; the port defaults to 9000.
fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DEFAULT_PORT));
    }
    let resolved = text.to_socket_addrs().ok().and_then(|mut addrs| addrs.next());
    resolved.ok_or_else(|| "expected an address such as 0.0.0.0:9000, [::]:9000 or localhost:9000".to_owned())
}

/// As [`listen_addr`], but a bare port is one of loopback: the pages speak no TLS.
fn http_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let resolved = text.to_socket_addrs().ok().and_then(|mut addrs| addrs.next());
    resolved.ok_or_else(|| "expected an address and a port such as 127.0.0.1:3000, or a port alone".to_owned())
}

fn announce(running: &Running, pages: Option<&http::Server>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for address in running.local_addrs() {
        writeln!(out, "directory listening on {address}")?;
    }
    if let Some(fingerprint) = running.tls_fingerprint() {
        writeln!(out, "TLS certificate SHA-256 {fingerprint}")?;
    }
    if let Some(pages) = pages {
        writeln!(out, "status page on http://{}", pages.address())?;
    }
    out.flush()
}

/// Returns at SIGINT or SIGTERM; calls `reload` at each SIGHUP.
fn wait_for_end(reload: impl Fn()) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => reload(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        program().command().clone().debug_assert();
    }
}
