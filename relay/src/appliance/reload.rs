//! SIGHUP: settings are read again as at the start. What can change while datagrams flow does: the certificate of the
//! directory, the list of keys that may join, and what is logged. What cannot is named in the log, and takes a restart or
//! `pilot-relay upgrade`. Each part goes its own way: one that is wrong stays as it was and keeps none of the others, and
//! the list comes first, so that whoever was taken off it is out whatever else is wrong.

use std::sync::{Arc, Weak};

use anyhow::Context as _;
use directory::Running;
use flags::{Given, Setting};
use nix::sys::signal::{SigSet, Signal};

use super::cli::{self, CommandLine};

/// Settings that take effect when they are read again.
const RELOADABLE: [&str; 5] = ["tls", "tls-cert", "tls-key", "tls-self-signed", "log-level"];

/// The signal, kept from ending the process.
#[derive(Debug)]
pub struct Hangups(SigSet);

impl Hangups {
    /// To be called before any other thread is started.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn block() -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGHUP);
        signals.thread_block().context("cannot block signals")?;
        Ok(Self(signals))
    }
}

/// Reads settings again.
#[derive(Debug)]
pub struct Reloader {
    settings: Vec<Setting>,
    /// Weak, as the end of the directory is not to wait for us.
    directory: Option<Weak<Running>>,
}

impl Reloader {
    /// For a process that was started with what was `given`.
    pub fn new(given: Given, directory: Option<&Arc<Running>>) -> Self {
        Self { settings: given.settings(), directory: directory.map(Arc::downgrade) }
    }

    fn reload(&self) {
        let directory = self.directory.as_ref().and_then(Weak::upgrade);
        if let Some(Err(error)) = directory.as_ref().map(|directory| directory.reload_allowlist()) {
            tracing::error!("cannot reload the list of keys, so it stays as it was: {error:#}");
        }
        if let Err(error) = self.reload_settings(directory.as_deref()) {
            tracing::error!("cannot reload the settings, so they stay as they were: {error:#}");
        }
    }

    /// The error is one line, and no setting has changed then.
    fn reload_settings(&self, directory: Option<&Running>) -> anyhow::Result<()> {
        let read = cli::program().read::<CommandLine>(std::env::args_os());
        let (CommandLine { arguments, .. }, given) = read?;
        let level = arguments.log_level.clone();
        let new = arguments.resolve()?;
        telemetry::log::set_level(&level).context("--log-level")?;
        if let Some(directory) = directory {
            match directory.reload_certificate(&new.tls) {
                Ok(true) => {
                    let fingerprint = directory.tls_fingerprint().unwrap_or_default();
                    tracing::info!(%fingerprint, "new connections to the directory get a new certificate");
                }
                Ok(false) => {}
                Err(error) => tracing::error!("cannot reload the certificate, so it stays as it was: {error:#}"),
            }
        }
        let settings = given.settings();
        let waiting = waiting(&self.settings, &settings);
        if waiting.is_empty() {
            tracing::info!("settings were read again");
        } else {
            tracing::warn!(settings = %waiting.join(", "), "settings were read again; these take a restart");
        }
        Ok(())
    }
}

/// The settings that are other than at the start and cannot change in place.
fn waiting(started: &[Setting], now: &[Setting]) -> Vec<String> {
    let differs = |setting: &&Setting| {
        started.iter().find(|old| old.key == setting.key).map(|old| &old.value) != Some(&setting.value)
    };
    now.iter()
        .filter(differs)
        .map(|setting| setting.key.clone())
        .filter(|key| !RELOADABLE.contains(&key.as_str()))
        .collect()
}

/// Reloads at each hang-up, on a thread of its own.
///
/// # Errors
/// There is no thread.
pub fn follow(Hangups(signals): Hangups, reloader: Reloader) -> anyhow::Result<()> {
    let follow = move || {
        while signals.wait().is_ok() {
            reloader.reload();
        }
    };
    std::thread::Builder::new().name("reload".to_owned()).spawn(follow).context("cannot start a thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use flags::Origin;

    use super::*;

    #[test]
    fn what_takes_a_restart_is_named() {
        let setting = |key: &str, value: &str| Setting {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            origin: Origin::Default,
        };
        let old = [setting("shards", "1"), setting("log-level", "info"), setting("http", "off")];
        let new = [setting("shards", "2"), setting("log-level", "debug"), setting("http", "off")];
        assert_eq!(waiting(&old, &new), ["shards"]);
        assert!(waiting(&old, &old).is_empty());
        // The names are those of flags.
        let known: Vec<_> =
            cli::program().command().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        assert!(RELOADABLE.iter().all(|name| known.iter().any(|known| known == name)), "{known:?}");
    }
}
