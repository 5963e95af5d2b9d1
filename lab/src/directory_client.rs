//! A client of the directory's JSON protocol, written apart from the product so that a mistake in one shows in the other.
//!
//! Frames are a four-byte length and a JSON object; requests are signed with the node's Ed25519 key.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::{Host, REGISTRY_PORT, RELAY_V4};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The connection failed or ended.
    Connection(io::Error),
    /// The directory answered with an error of the protocol.
    Refused(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(out, "connection: {error}"),
            Self::Refused(text) => write!(out, "refused: {text}"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// One connection, speaking for one key.
#[derive(Debug)]
pub struct DirectoryClient {
    stream: TcpStream,
    key: SigningKey,
    node: Option<u32>,
}

impl DirectoryClient {
    /// Connects from a host. The name determines the key, so the same name is the same node for ever.
    ///
    /// # Errors
    /// When the directory does not take the connection.
    pub fn connect(host: &Host, name: &str) -> Result<Self, CallError> {
        Self::connect_to(host, RELAY_V4, name)
    }

    /// Connects over loopback from the relay's own host: the directory's limits for one address do not apply there.
    ///
    /// # Errors
    /// When the directory does not take the connection.
    pub fn connect_over_loopback(relay_host: &Host, name: &str) -> Result<Self, CallError> {
        Self::connect_to(relay_host, Ipv4Addr::LOCALHOST, name)
    }

    fn connect_to(host: &Host, directory: Ipv4Addr, name: &str) -> Result<Self, CallError> {
        let address = SocketAddr::new(IpAddr::V4(directory), REGISTRY_PORT);
        let stream = host.namespace().enter(|| TcpStream::connect_timeout(&address, ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let key = SigningKey::from_bytes(&Sha256::digest(name.as_bytes()).into());
        Ok(Self { stream, key, node: None })
    }

    /// Waits so long for an answer, in place of ten seconds.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Registers this key with a tunnel endpoint; the node id.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn register(&mut self, listen_addr: SocketAddr, owner: &str) -> Result<u32, CallError> {
        let public_key = self.public_key();
        let listen_addr = listen_addr.to_string();
        let signature = self.sign(&format!("register:{listen_addr}:{public_key}"));
        let answer = self.call(&json!({
            "type": "register", "listen_addr": listen_addr, "public_key": public_key, "owner": owner,
            "signature": signature, "version": "1.18.0",
        }))?;
        let node = answer["node_id"].as_u64().and_then(|node| u32::try_from(node).ok());
        let node = node.ok_or_else(|| CallError::Refused(format!("no node id in {answer}")))?;
        self.node = Some(node);
        Ok(node)
    }

    /// Sends a request about this node, signed as most of them are: over `<type>:<node>` and the values of `more`
    /// that the protocol covers.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_signed(&mut self, kind: &str, covered: &[u64], fields: Value) -> Result<Value, CallError> {
        let node = self.node();
        let mut text = format!("{kind}:{node}");
        for value in covered {
            text.push_str(&format!(":{value}"));
        }
        let mut request = fields;
        request["type"] = kind.into();
        request["node_id"] = node.into();
        request["signature"] = self.sign(&text).into();
        self.call(&request)
    }

    /// Sends one request and awaits its answer.
    ///
    /// # Errors
    /// A failed connection, or the error the directory answered with.
    pub fn call(&mut self, request: &Value) -> Result<Value, CallError> {
        self.send(request)?;
        let answer = self.receive()?;
        if answer["type"] == "error" {
            return Err(CallError::Refused(answer["error"].as_str().unwrap_or_default().to_owned()));
        }
        Ok(answer)
    }

    /// Sends one request without awaiting the answer.
    ///
    /// # Errors
    /// A failed connection.
    pub fn send(&mut self, request: &Value) -> io::Result<()> {
        let body = request.to_string();
        let mut frame = u32::try_from(body.len()).expect("a request is short").to_be_bytes().to_vec();
        frame.extend_from_slice(body.as_bytes());
        self.stream.write_all(&frame)
    }

    /// Signs a text with the node's key; base64, as the protocol carries it.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        BASE64_STANDARD.encode(self.key.sign(text.as_bytes()).to_bytes())
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The node's public key in base64.
    #[must_use]
    pub fn public_key(&self) -> String {
        BASE64_STANDARD.encode(self.key.verifying_key().to_bytes())
    }

    /// The registered node id.
    ///
    /// # Panics
    /// Before [`Self::register`].
    #[must_use]
    #[track_caller]
    pub fn node(&self) -> u32 {
        self.node.expect("register comes first")
    }

    fn receive(&mut self) -> Result<Value, CallError> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        serde_json::from_slice(&body).map_err(|error| CallError::Refused(format!("the answer is no JSON: {error}")))
    }
}
