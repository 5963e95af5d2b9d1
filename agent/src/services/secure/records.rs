//! Records in both directions: numbered from 1, so none can be left out, said twice or come in another order.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use wire::services::secure::{LENGTH_MAX, NONCE_LEN, Record, Role, TAG_LEN};

use super::Error;
use crate::aead::{Aead, Aes256Gcm, KEY_LEN};
use crate::services::incoming::Incoming;

/// The direction toward us.
pub struct Reader<R> {
    incoming: Incoming<R>,
    cipher: Aes256Gcm,
    peer: Role,
    counter: u64,
}

/// The direction from us.
pub struct Writer<W> {
    stream: W,
    cipher: Aes256Gcm,
    own: Role,
    counter: u64,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(stream: R, key: &[u8; KEY_LEN], peer: Role) -> Self {
        Self { incoming: Incoming::new(stream), cipher: Aes256Gcm::new(key), peer, counter: 0 }
    }

    /// The next record; none at the end of the stream between two records. May be dropped half-way.
    ///
    /// # Errors
    /// [`Error`]; the channel is of no use then.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some((record, len)) = Record::decode(self.incoming.bytes())? {
                let nonce = self.peer.nonce(self.counter + 1);
                let (sealed, tag) = record.sealed.split_last_chunk::<TAG_LEN>().ok_or(Error::NotAuthentic)?;
                let mut plaintext = sealed.to_vec();
                // Ours is the nonce that counts: a record out of turn does not open.
                let opened = self.cipher.open(&nonce, &nonce[..4], &mut plaintext, tag);
                if opened.is_err() || *record.nonce != nonce {
                    return Err(Error::NotAuthentic);
                }
                self.counter += 1;
                self.incoming.consume(len);
                return Ok(Some(plaintext));
            }
            if !self.incoming.fill().await? {
                let is_between = self.incoming.bytes().is_empty();
                return if is_between {
                    Ok(None)
                } else {
                    Err(Error::Stream(std::io::ErrorKind::UnexpectedEof.into()))
                };
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(stream: W, key: &[u8; KEY_LEN], own: Role) -> Self {
        Self { stream, cipher: Aes256Gcm::new(key), own, counter: 0 }
    }

    /// Seals and sends `plaintext` as one record. Must not be dropped half-way.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        if plaintext.len() > LENGTH_MAX - NONCE_LEN - TAG_LEN {
            return Err(Error::TooLong(plaintext.len()));
        }
        self.counter += 1;
        let nonce = self.own.nonce(self.counter);
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_LEN);
        sealed.extend(plaintext);
        let tag = self.cipher.seal(&nonce, &nonce[..4], &mut sealed);
        sealed.extend(tag);
        let mut bytes = Vec::with_capacity(4 + NONCE_LEN + sealed.len());
        Record { nonce: &nonce, sealed: &sealed }.encode(&mut bytes)?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The stream, to be closed.
    pub fn into_inner(self) -> W {
        self.stream
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        Ok(self.stream.shutdown().await?)
    }
}
