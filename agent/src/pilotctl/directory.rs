//! One question to the directory over TCP (section 6.1), for what needs no daemon.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::NodeId;
use wire::registry::{LENGTH_BYTES, MESSAGE_BYTES_MAX, push_message};

use super::exit::{Code, Failure};
use crate::config::values::Fingerprint;
use crate::daemon::directory::tls;

/// What the directory knows of a node; anyone may ask.
pub(super) async fn lookup(registry: &str, fingerprint: Option<Fingerprint>, node: NodeId) -> Result<Value, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::new(Code::ConnectionFailed, format!("the directory {registry} cannot be reached: {error}"))
            .hint("name the directory with --registry HOST:PORT or PILOT_REGISTRY")
    };
    let question = json!({"type": "lookup", "node_id": node.0});
    let ask = async {
        let stream = TcpStream::connect(registry).await?;
        match fingerprint {
            None => ask(stream, &question).await,
            Some(pin) => ask(tls::connect(stream, pin).await.map_err(std::io::Error::other)?, &question).await,
        }
    };
    let answer = ask.await.map_err(unreachable)?;
    match answer["error"].as_str() {
        None => Ok(answer),
        Some(error) => Err(Failure::new(Code::ConnectionFailed, format!("lookup: registry: {error}"))
            .hint("find a node by its name: pilotctl find HOSTNAME")),
    }
}

async fn ask(mut socket: impl AsyncRead + AsyncWrite + Unpin, question: &Value) -> std::io::Result<Value> {
    let mut message = Vec::new();
    push_message(&mut message, question);
    socket.write_all(&message).await?;
    socket.flush().await?;
    let mut length = [0; LENGTH_BYTES];
    socket.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other("it does not speak the directory's protocol"));
    }
    let mut answer = vec![0; length];
    socket.read_exact(&mut answer).await?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}
