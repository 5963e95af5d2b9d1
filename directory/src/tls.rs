//! TLS for the listener: a certificate from files, or one of our own making that clients pin by its fingerprint. It can be
//! replaced while connections are served.

mod validity;

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use zeroize::{Zeroize as _, Zeroizing};

pub use self::validity::Validity;
use crate::config::Tls;

const CERT_FILE_NAME: &str = "tls-cert.pem";
const KEY_FILE_NAME: &str = "tls-key.pem";

/// The first byte of a TLS connection: a handshake record. A frame's first byte is 0.
pub const HANDSHAKE_RECORD: u8 = 0x16;

/// A certificate in use. New connections get the one put in last; those that stand keep theirs.
#[derive(Clone)]
pub struct Identity {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// What is shown to the next who connects.
#[derive(Debug)]
struct Current(RwLock<Shown>);

#[derive(Clone, Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    fingerprint: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}

impl Identity {
    /// Lower-case hex SHA-256 of the leaf certificate, as clients pin it (section 6.1).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner).fingerprint.clone()
    }

    /// Reads the certificate again. True when it is another one than before.
    ///
    /// # Errors
    /// It cannot be read, does not fit its key, or is out of date; the one before stays.
    pub fn reload(&self, tls: &Tls, data_dir: &Path, now_unix_seconds: u64) -> anyhow::Result<bool> {
        let Some((cert, key)) = files(tls, data_dir)? else { bail!("TLS cannot be switched off while serving") };
        let shown = read(&cert, &key)?;
        if let Some(validity) = Validity::of(shown.certified.cert.first().map_or(&[], |leaf| leaf))
            && let Some(reason) = validity.objection(now_unix_seconds)
        {
            bail!("the certificate in {} {reason}", cert.display());
        }
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.fingerprint != shown.fingerprint;
        *current = shown;
        Ok(is_new)
    }
}

/// Loads or makes what `tls` asks for; `None` when TLS is off, or a certificate nobody insists on cannot be kept: then the log
/// says so.
///
/// # Errors
/// A file cannot be read or written, or does not hold what it should.
pub fn load(tls: &Tls, data_dir: &Path) -> anyhow::Result<Option<Identity>> {
    let (cert, key) = match files(tls, data_dir) {
        Ok(Some(files)) => files,
        Ok(None) => return Ok(None),
        Err(error) if *tls == Tls::Offered => {
            tracing::warn!(
                "TLS is not offered, as its certificate cannot be kept: {error:#}; --tls off says so silently"
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let shown = read(&cert, &key);
    let shown = match tls {
        Tls::SelfSigned | Tls::Offered => shown.with_context(|| {
            // Never by itself: agents may have pinned it.
            format!(
                "the certificate kept in {} is of no use; remove {CERT_FILE_NAME} and {KEY_FILE_NAME} there to have a new \
                 one made, whose fingerprint the agents have to be told, or start with --tls off",
                data_dir.display()
            )
        }),
        Tls::Files { .. } | Tls::Off => shown,
    };
    let current = Arc::new(Current(RwLock::new(shown?)));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Current>::clone(&current));
    Ok(Some(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), current }))
}

/// What can be said of a certificate before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Lower-case hex SHA-256 of the leaf.
    pub fingerprint: String,
    /// When it may be used; `None` where it does not say so in a way that is understood.
    pub validity: Option<Validity>,
}

/// Looks at a certificate chain and its key.
///
/// # Errors
/// A file cannot be read, or the two do not fit.
pub fn examine(cert: &Path, key: &Path) -> anyhow::Result<Examined> {
    let Shown { certified, fingerprint } = read(cert, key)?;
    Ok(Examined { fingerprint, validity: certified.cert.first().and_then(|leaf| Validity::of(leaf)) })
}

/// Where certificate and key are; `None` when TLS is off.
fn files(tls: &Tls, data_dir: &Path) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    Ok(match tls {
        Tls::Off => None,
        Tls::Files { cert, key } => Some((cert.clone(), key.clone())),
        Tls::SelfSigned | Tls::Offered => Some(self_signed(data_dir)?),
    })
}

/// Where the certificate of our own is, or will be.
#[must_use]
pub fn own_files(data_dir: &Path) -> (PathBuf, PathBuf) {
    (data_dir.join(CERT_FILE_NAME), data_dir.join(KEY_FILE_NAME))
}

fn read(cert: &Path, key: &Path) -> anyhow::Result<Shown> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read a PEM certificate chain from {}", cert.display()))?;
    let Some(leaf) = chain.first() else { bail!("{} holds no PEM certificate", cert.display()) };
    let fingerprint = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let certified = CertifiedKey::new(chain, read_key(key)?);
    match certified.keys_match() {
        // Of a kind of certificate that is not understood nobody can say.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => {
            let text = format!("the key in {} does not fit {}", key.display(), cert.display());
            return Err(error).context(text);
        }
    }
    Ok(Shown { certified: Arc::new(certified), fingerprint })
}

/// The key of a PEM file, as it signs. Text and bytes are wiped; what the library makes of them lies where it puts it, in
/// memory that is not locked, since it takes no other.
fn read_key(file: &Path) -> anyhow::Result<Arc<dyn SigningKey>> {
    let shown = file.display();
    let text = Zeroizing::new(std::fs::read(file).with_context(|| format!("cannot read {shown}"))?);
    let mut secret =
        PrivateKeyDer::from_pem_slice(&text).with_context(|| format!("cannot read a PEM private key from {shown}"))?;
    let key = ring::sign::any_supported_type(&secret);
    secret.zeroize();
    key.with_context(|| format!("the key in {shown} is of no use; it takes ECDSA, Ed25519 or RSA"))
}

/// The certificate in the data folder, made on first use, so that its fingerprint stays.
fn self_signed(data_dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (cert, key) = own_files(data_dir);
    if cert.exists() && !key.exists() {
        tracing::warn!(
            "{} is gone, so a new certificate is made, and whoever pins the fingerprint of the old one has to be told",
            key.display()
        );
    }
    if !cert.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(["pilot-directory".to_owned(), "localhost".to_owned()])?;
        // The key first: a certificate without its key would be kept, and be of no use.
        write(&key, &Zeroizing::new(made.signing_key.serialize_pem()), 0o600)?;
        write(&cert, &made.cert.pem(), 0o644)?;
    }
    Ok((cert, key))
}

/// Written beside and renamed, so that a crash or a full disk leaves no half file.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
