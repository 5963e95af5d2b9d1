//! One message to one node's inbox, and whether it has arrived: yes, no, or nobody knows.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use wire::address::{Address, SocketAddress};
use wire::ipc::Request;
use wire::services::exchange::Tag;

use super::exchange::PORT;
use crate::client::Stream;
use crate::pilotctl::session::{Daemon, close};
use crate::pilotctl::{duration, text};
use crate::services::exchange::sender::{self, Error, Message};

/// What became of a message.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The receiver has confirmed it.
    Done(Confirmed),
    /// It has not been delivered, and why.
    Failed(String),
    /// It was on its way when the connection, or the time, ended: the receiver may have it.
    Uncertain(String),
}

/// A receiver's word.
#[derive(Debug)]
pub(super) struct Confirmed {
    /// What it has said.
    pub text: String,
    /// The trace the delivery belongs to, where it was asked for and the daemon knows one.
    pub trace_id: Option<String>,
}

/// How long a delivery may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the stream is open and the key proved.
    pub dial: Duration,
    /// In all.
    pub whole: Duration,
}

impl Limits {
    /// The same for every part.
    pub(super) const fn whole(whole: Duration) -> Self {
        Self { dial: whole, whole }
    }
}

/// Sends `message`, within `limits`. With `key` only to a node that has proved to hold that key.
pub(super) async fn deliver(
    daemon: &Daemon,
    to: Address,
    key: Option<&Value>,
    message: Message<'_>,
    tag: Tag<'_>,
    limits: Limits,
    is_trace_wanted: bool,
) -> Delivery {
    let is_sending = Cell::new(false);
    let delivering = async {
        let mut stream = match dial_within(daemon, to, key, limits.dial).await {
            Ok(stream) => stream,
            Err(reason) => return Delivery::Failed(reason),
        };
        is_sending.set(true);
        match sender::send(&mut stream, message, Some(tag)).await {
            Ok(acknowledged) => {
                // Who had the key at first may not be who has confirmed.
                let proved = proves(daemon, to, &stream, key).await;
                let trace_id = if is_trace_wanted { daemon.trace_of(&stream).await } else { None };
                close(stream).await;
                match proved {
                    Ok(()) => Delivery::Done(Confirmed { text: acknowledged.text, trace_id }),
                    Err(reason) => Delivery::Uncertain(reason),
                }
            }
            Err(error) => outcome(&error),
        }
    };
    match tokio::time::timeout(limits.whole, delivering).await {
        Ok(delivery) => delivery,
        Err(_) if is_sending.get() => {
            Delivery::Uncertain(format!("sent, and not confirmed within {}", duration::limit(limits.whole)))
        }
        Err(_) => Delivery::Failed(format!("no answer within {}", duration::limit(limits.whole))),
    }
}

/// As [`dial`], no longer than `limit`.
pub(super) async fn dial_within(
    daemon: &Daemon,
    to: Address,
    key: Option<&Value>,
    limit: Duration,
) -> Result<Stream, String> {
    let dialled = tokio::time::timeout(limit, dial(daemon, to, key)).await;
    dialled.unwrap_or_else(|_| Err(format!("no answer within {}", duration::limit(limit))))
}

/// Opens a stream to the data exchange of a node; with `key` only of one that has proved to hold it.
pub(super) async fn dial(daemon: &Daemon, to: Address, key: Option<&Value>) -> Result<Stream, String> {
    let stream = daemon.client.dial(SocketAddress { address: to, port: PORT }).await;
    let stream = stream.map_err(|error| text::harmless(&error.to_string()).into_owned())?;
    match proves(daemon, to, &stream, key).await {
        Ok(()) => Ok(stream),
        Err(reason) => {
            close(stream).await;
            Err(reason)
        }
    }
}

/// Whether the other end of `stream` has proved to hold `key`, from its opening until now.
async fn proves(daemon: &Daemon, to: Address, stream: &Stream, key: Option<&Value>) -> Result<(), String> {
    let Some(key) = key else { return Ok(()) };
    let question = json!({"op": "tunnel_key", "node_id": to.node, "connection": stream.connection()}).to_string();
    let proved = daemon.client.ask(Request::Extension(&question)).await;
    let proved = proved.map_err(|error| text::harmless(&error.to_string()).into_owned())?;
    if proved["public_key"].is_string() && proved["public_key"] == *key {
        return Ok(());
    }
    Err(match proved["public_key"].is_null() {
        true => "which key whoever answers holds is not certain",
        false => "whoever answers has another key than the one that has signed the record",
    }
    .to_owned())
}

/// What an error of the exchange says about the message.
pub(super) fn outcome(error: &Error) -> Delivery {
    let reason = text::harmless(&error.to_string()).into_owned();
    match error {
        Error::Refused(_) | Error::NotSendable(_) | Error::File(_) | Error::Changed => Delivery::Failed(reason),
        Error::Stream(_) | Error::Closed | Error::Silent(_) | Error::Malformed(_) => Delivery::Uncertain(reason),
    }
}
