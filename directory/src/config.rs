//! What a directory can be told: where it listens, where it keeps its facts, whom it spares its limits, and every bound
//! that keeps its memory finite. Reading flags is left to `main`.

use std::collections::HashSet;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use secrets::{Locked, scrubbed};
use sha2::{Digest, Sha256};
use wire::cidr::Cidr;
use wire::registry::PublicKey;

use crate::enrolment::{Enrolment, parse_allowlist};
use crate::service::enrolment::Policy;
use crate::store::count_listed;

/// The port daemons expect a directory on.
pub const DEFAULT_PORT: u16 = 9000;

/// Settings of one directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 picks a free one. The IPv6 wildcard serves IPv4 too, and stands for the IPv4
    /// wildcard where the host has no IPv6.
    pub listen: Vec<SocketAddr>,
    /// Folder of the database and of a certificate of our own. Created when missing.
    pub data_dir: PathBuf,
    /// Whether TLS is offered.
    pub tls: Tls,
    /// Refuse connections that do not open with TLS.
    pub tls_required: bool,
    /// What administrators present; without one, requests that need it are refused.
    pub admin_token: Option<AdminToken>,
    /// Sources that no rate or per-address limit applies to.
    pub exempt: Vec<Cidr>,
    /// Who may register.
    pub enrolment: Enrolment,
    /// File with the keys that are let in under [`Enrolment::Approve`] and [`Enrolment::Allowlist`].
    pub allowlist: Option<PathBuf>,
    /// Nodes that were not there for so many days are forgotten; 0 keeps them for ever.
    pub forget_after_days: u32,
    /// Bounds and deadlines.
    pub limits: Limits,
}

impl Config {
    /// The defaults, with facts kept in `data_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))],
            data_dir: data_dir.into(),
            tls: Tls::Off,
            tls_required: false,
            admin_token: None,
            exempt: Cidr::loopback(),
            enrolment: Enrolment::Open,
            allowlist: None,
            forget_after_days: 0,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The rules of enrolment, with the list read.
    ///
    /// # Errors
    /// The list cannot be read, there is none to go by, or it names no key although nodes in the data folder are in by it.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        if self.allowlist.is_some() && self.enrolment == Enrolment::Open {
            bail!(
                "--allowlist says who may register, but --enrol open lets everyone in; use --enrol allowlist or approve"
            );
        }
        if self.allowlist.is_none() && self.enrolment == Enrolment::Allowlist {
            bail!(
                "--enrol allowlist goes by a list of keys; name it with --allowlist FILE, one public key a line, or use \
                 --enrol approve and let nodes in with `pilot-relay nodes approve`"
            );
        }
        let listed = self.allowlist.as_deref().map(read_allowlist).transpose()?.unwrap_or_default();
        if let (Some(file), true) = (&self.allowlist, listed.is_empty()) {
            puts_nobody_out(file, count_listed(&self.data_dir))?;
        }
        Ok(Policy { enrolment: self.enrolment, listed, forget_after_days: self.forget_after_days })
    }
}

/// Refuses a list without a key where so many nodes are in by it: sooner a file that was emptied by mistake than a wish.
pub(crate) fn puts_nobody_out(file: &Path, nodes: usize) -> anyhow::Result<()> {
    if nodes > 0 {
        bail!(
            "--allowlist {} names no key, and nodes that are in by it would be out: {nodes}; write their keys into it, or \
             leave --allowlist out and use --enrol approve, where they wait",
            file.display()
        );
    }
    Ok(())
}

/// The keys in a file, one a line.
pub(crate) fn read_allowlist(file: &Path) -> anyhow::Result<HashSet<PublicKey>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read --allowlist {}", file.display()))?;
    parse_allowlist(&text).map_err(|error| anyhow!("--allowlist {}: {error}", file.display()))
}

/// Whether and how TLS is offered. Plain connections share the port: the first byte tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP only.
    #[default]
    Off,
    /// As [`Tls::SelfSigned`] wherever a certificate can be kept; where the disk does not take a new one, plain TCP only, and
    /// the log says so. One that is there and of no use is an error, as agents may have pinned it. What the programs do when
    /// nobody says anything.
    Offered,
    /// Certificate chain and key, both PEM.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A certificate of our own making, kept in the data folder so that its fingerprint stays the same.
    SelfSigned,
}

/// What `--tls` says of a certificate of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsSwitch {
    /// Offer TLS with it.
    SelfSigned,
    /// Speak plain TCP alone.
    Off,
}

impl Tls {
    /// What the flags of a program say together: `--tls`, `--tls-self-signed` of before, `--tls-cert` with `--tls-key`, and
    /// `--tls-required`.
    ///
    /// # Errors
    /// They contradict each other; the text says which to leave out.
    pub fn chosen(
        switch: Option<TlsSwitch>,
        self_signed: bool,
        files: Option<(PathBuf, PathBuf)>,
        required: bool,
    ) -> anyhow::Result<Self> {
        let own = self_signed || switch == Some(TlsSwitch::SelfSigned);
        let off = switch == Some(TlsSwitch::Off);
        match files {
            // Not by clap, for which a switch that says false is there as well.
            Some(_) if own => bail!("--tls-cert and a certificate of our own are two certificates; choose one"),
            Some(_) if off => bail!("--tls off leaves --tls-cert without use; leave one of them out"),
            _ if off && self_signed => {
                bail!("--tls off and --tls-self-signed contradict each other; leave one of them out")
            }
            _ if off && required => bail!("--tls-required needs TLS; leave --tls off out"),
            Some((cert, key)) => Ok(Self::Files { cert, key }),
            None if off => Ok(Self::Off),
            None if own || required => Ok(Self::SelfSigned),
            None => Ok(Self::Offered),
        }
    }
}

/// Bounds and deadlines. The defaults follow section 6.2 where it gives a number.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; one more is closed at once. Strangers, on whose connection or at whose address no node
    /// has signed, have three quarters of them.
    pub connections_max: usize,
    /// Connections from one address (one /64 in IPv6).
    pub connections_per_ip_max: usize,
    /// Nodes ever registered; each keeps its number for ever.
    pub nodes_max: usize,
    /// Requests per second from one address; more are answered with an error.
    pub requests_per_ip_per_second: u32,
    /// Requests per second from all addresses together at which no node is known; more wait, and then are refused.
    pub requests_of_strangers_per_second: u32,
    /// The same from the addresses of nodes, beyond what each has of its own; all have half as many of their own together.
    pub requests_of_known_per_second: u32,
    /// Requests per second on one connection; above that the connection is slowed.
    pub requests_per_connection_per_second: u32,
    /// Requests that may arrive on one connection within a second; beyond that it is closed.
    pub arrivals_per_connection_max: u32,
    /// Registrations of unknown keys per minute from one address.
    pub registrations_per_ip_per_minute: u32,
    /// Memory for capability records, in bytes; beyond it only a record that is no larger than the one before is taken.
    pub capability_bytes_max: usize,
    /// Memory for changes on their way to the disk, in bytes; beyond it nothing is changed.
    pub waiting_bytes_max: usize,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// From the first byte of a frame, or of a TLS handshake, to its last.
    pub frame_timeout: Duration,
    /// A client that does not take its answers for so long is disconnected.
    pub write_timeout: Duration,
    /// How long an answer waits for its change to reach the disk before it becomes an error.
    pub commit_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_ip_max: 1024,
            nodes_max: 2_000_000,
            requests_per_ip_per_second: 100,
            requests_of_strangers_per_second: 4000,
            requests_of_known_per_second: 20_000,
            requests_per_connection_per_second: 100,
            arrivals_per_connection_max: 500,
            registrations_per_ip_per_minute: 10,
            capability_bytes_max: 1 << 30,
            waiting_bytes_max: 256 << 20,
            idle_timeout: Duration::from_secs(300),
            frame_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            commit_timeout: Duration::from_secs(15),
        }
    }
}

/// An administrator's secret. Only its digest is kept, in locked memory, which also makes the comparison independent of the
/// secret.
#[derive(Clone)]
pub struct AdminToken(Arc<Locked<[u8; 32]>>);

impl AdminToken {
    /// The token `text`, blanks around it removed; `None` when nothing is left.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| scrubbed(|| Self(Arc::new(Locked::new(Sha256::digest(text).into())))))
    }

    /// Whether `presented` is this token, in constant time.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        digests_equal(&self.0, &Sha256::digest(presented).into())
    }
}

impl PartialEq for AdminToken {
    fn eq(&self, other: &Self) -> bool {
        digests_equal(&self.0, &other.0)
    }
}

impl Eq for AdminToken {}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Compares without stopping at the first difference.
pub(crate) fn digests_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_token_matches_itself_alone_and_does_not_print() {
        let token = AdminToken::new(" secret\n").unwrap();
        assert!(token.matches("secret"));
        assert!(!token.matches("secret "));
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(AdminToken::new(" \n"), None);
    }
}
