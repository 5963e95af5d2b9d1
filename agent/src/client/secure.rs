//! A secure channel over a stream (port 443, section 9): both ends prove who they are. The node's key is with the daemon,
//! which signs our proof and knows the peer's key; the channel's own keys never leave this program.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wire::NodeId;
use wire::ipc::Request;

use super::{Client, RequestError, Stream, is_unknown_command};
use crate::services::WallClock;
use crate::services::secure::{self, Chance, Channel, Parties, Proofs, Role, Signer, Signing};

/// Why there is no secure channel.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// Only pilot-agent signs proofs.
    #[error("a secure channel needs pilot-agent: this daemon signs no proofs")]
    Foreign,
    /// The daemon knows no key, or did not answer.
    #[error(transparent)]
    Request(RequestError),
    /// The opening failed.
    #[error(transparent)]
    Channel(#[from] secure::Error),
}

impl From<RequestError> for SecureError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(text)
                if is_unknown_command(&text) || text.contains("does not know the operation") =>
            {
                Self::Foreign
            }
            error => Self::Request(error),
        }
    }
}

impl Client {
    /// Opens a secure channel over `stream`, which this side dialled as a client, or accepted as a server. The peer has to
    /// prove that it is the node at the other end, with the key the directory has for it; so do we. `seen` is to be one
    /// for all channels of a program.
    ///
    /// # Errors
    /// [`SecureError`]; the stream is closed then.
    pub async fn secure(
        &self,
        stream: Stream,
        role: Role,
        chance: Chance,
        clock: WallClock,
        seen: &RefCell<Proofs>,
    ) -> Result<Channel<Stream>, SecureError> {
        let peer = stream.remote().address.node;
        let (own, _) = self.identity(None).await?;
        let (_, peer_key) = self.identity(Some(peer)).await?;
        let parties = Parties { own, signer: self, peer, peer_key, clock, seen };
        Ok(secure::open(stream, role, chance, Some(parties)).await?)
    }

    /// This node and its key, or `node` and the key the directory has for it. Fails early beside a daemon that signs no
    /// proofs.
    ///
    /// # Errors
    /// [`SecureError::Foreign`], [`SecureError::Request`].
    pub async fn identity(&self, node: Option<NodeId>) -> Result<(NodeId, [u8; 32]), SecureError> {
        let mut question = json!({ "op": "identity" });
        if let Some(node) = node {
            question["node_id"] = node.0.into();
        }
        let answer = self.ask(Request::Extension(&question.to_string())).await?;
        let found = answer["node_id"].as_u64().and_then(|node| u32::try_from(node).ok()).map(NodeId);
        let key = decoded(&answer["public_key"]);
        match (found, key) {
            (Some(found), Some(key)) if node.is_none_or(|node| node == found) => Ok((found, key)),
            _ => Err(RequestError::Senseless("a node's key expected".to_owned()).into()),
        }
    }
}

/// The daemon signs.
impl Signer for Client {
    fn sign(&self, public_key: [u8; 32], unix_seconds: u64, nonce: [u8; 16]) -> Signing<'_> {
        let question = json!({
            "op": "sign_secure",
            "x25519": STANDARD.encode(public_key),
            "unix": unix_seconds,
            "nonce": STANDARD.encode(nonce),
        })
        .to_string();
        Box::pin(async move {
            let answer = self.ask(Request::Extension(&question)).await.map_err(|error| error.to_string())?;
            decoded(&answer["signature"]).ok_or_else(|| "the daemon's answer holds no signature".to_owned())
        })
    }
}

fn decoded<const N: usize>(value: &Value) -> Option<[u8; N]> {
    STANDARD.decode(value.as_str()?).ok()?.try_into().ok()
}
