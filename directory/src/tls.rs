//! TLS for the listener: a certificate from files, or one of our own making that clients pin by its fingerprint.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

const CERT_FILE_NAME: &str = "tls-cert.pem";
const KEY_FILE_NAME: &str = "tls-key.pem";

/// The first byte of a TLS connection: a handshake record. A frame's first byte is 0.
pub const HANDSHAKE_RECORD: u8 = 0x16;

/// A certificate in use.
#[derive(Clone)]
pub struct Identity {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    /// Lower-case hex SHA-256 of the leaf certificate, as clients pin it (section 6.1).
    pub fingerprint: String,
}

/// Loads or makes what `tls` asks for; `None` when TLS is off.
///
/// # Errors
/// A file cannot be read or written, or does not hold what it should.
pub fn load(tls: &Tls, data_dir: &Path) -> anyhow::Result<Option<Identity>> {
    let (cert, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key } => (cert.clone(), key.clone()),
        Tls::SelfSigned => self_signed(data_dir)?,
    };
    identity(&cert, &key).map(Some)
}

fn identity(cert: &Path, key: &Path) -> anyhow::Result<Identity> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read a PEM certificate chain from {}", cert.display()))?;
    let Some(leaf) = chain.first() else { bail!("{} holds no PEM certificate", cert.display()) };
    let fingerprint = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a PEM private key from {}", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("the key in {} does not fit {}", key.display(), cert.display()))?;
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
}

/// The certificate in the data folder, made on first use, so that its fingerprint stays.
fn self_signed(data_dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (cert, key) = (data_dir.join(CERT_FILE_NAME), data_dir.join(KEY_FILE_NAME));
    if !cert.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(["pilot-directory".to_owned(), "localhost".to_owned()])?;
        // The key first: a certificate without its key would be kept, and be of no use.
        write(&key, &made.signing_key.serialize_pem(), 0o600)?;
        write(&cert, &made.cert.pem(), 0o644)?;
    }
    Ok((cert, key))
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
