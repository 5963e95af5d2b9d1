//! What a client needs to open a secure channel (port 443, section 9) in this node's name: whose key is whose, and a proof.
//! The node's key stays here.
//!
//! | extension | answer |
//! |---|---|
//! | `{"op":"identity"}` | `{"node_id":N,"public_key":BASE64}` of this node |
//! | `{"op":"identity","node_id":N}` | the same of another, as the directory has it |
//! | `{"op":"sign_secure","x25519":BASE64,"unix":SECONDS,"nonce":BASE64}` | `{"node_id":N,"signature":BASE64}` |
//!
//! Never is anything signed that a client made up: the text is that of a proof, its prefix and this node's id are put here,
//! the rest has lengths of its own, and the time is now. So a signature proves nothing but that somebody who may use this
//! daemon holds the private half of that X25519 key.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use wire::registry::{Answer, Operation};
use wire::services::secure::signed;

use super::Context;
use super::client::Outcome;
use super::requests::{Work, failed, node_id, own, put};
use crate::daemon::clock::unix_seconds;

/// A proof for a time farther off is not signed, in seconds; peers refuse it as well.
const SKEW_MAX: u64 = 5;

#[derive(Deserialize)]
struct ToSign {
    x25519: String,
    unix: u64,
    nonce: String,
}

pub(super) fn identity(context: Rc<Context>, request: &Value) -> Work {
    let is_own = request.get("node_id").is_none();
    let node = node_id(request);
    if !is_own && node.is_none() {
        return failed("identity: \"node_id\" must be a node's number; leave it out for this node");
    }
    Box::pin(async move {
        let Some(node) = node else {
            return match own(&context) {
                Ok(node) => found(node, &context.identity.public_key()),
                Err(text) => Outcome::Failed(format!("identity: {text}")),
            };
        };
        match put(&context, Operation::Lookup { node_id: node }).await {
            Ok(Answer::Lookup(answer)) if answer.node_id == node => found(node, &answer.public_key.0),
            Ok(_) => Outcome::Failed("identity: the directory gave another answer".to_owned()),
            Err(text) => Outcome::Failed(format!("identity: the key of node {node} is not known: {text}")),
        }
    })
}

fn found(node: wire::NodeId, key: &[u8; 32]) -> Outcome {
    Outcome::Json(json!({ "node_id": node, "public_key": STANDARD.encode(key) }))
}

pub(super) fn sign(context: Rc<Context>, text: &str) -> Work {
    let Some((public_key, unix, nonce)) = read(text) else {
        return failed(
            "sign_secure: expected {\"x25519\": BASE64 of 32 bytes, \"unix\": SECONDS, \"nonce\": BASE64 of 16 bytes}",
        );
    };
    if unix_seconds().abs_diff(unix) > SKEW_MAX {
        return failed("sign_secure: a proof is signed for now only; \"unix\" is more than 5 s off");
    }
    Box::pin(async move {
        match own(&context) {
            Ok(node) => {
                let signature = context.identity.sign(&signed(node, &public_key, unix, &nonce));
                Outcome::Json(json!({ "node_id": node, "signature": STANDARD.encode(signature) }))
            }
            Err(text) => Outcome::Failed(format!("sign_secure: {text}")),
        }
    })
}

fn read(text: &str) -> Option<([u8; 32], u64, [u8; 16])> {
    let ToSign { x25519, unix, nonce } = serde_json::from_str(text).ok()?;
    let public_key = STANDARD.decode(x25519).ok()?.try_into().ok()?;
    Some((public_key, unix, STANDARD.decode(nonce).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parts_of_a_proof_are_read() {
        let text = |x25519: &[u8], nonce: &[u8]| {
            json!({"op": "sign_secure", "x25519": STANDARD.encode(x25519), "unix": 7, "nonce": STANDARD.encode(nonce)})
                .to_string()
        };
        assert_eq!(read(&text(&[1; 32], &[2; 16])), Some(([1; 32], 7, [2; 16])));
        for (x25519, nonce) in [(31, 16), (33, 16), (32, 15), (32, 17), (0, 0)] {
            assert_eq!(read(&text(&vec![1; x25519], &vec![2; nonce])), None, "{x25519} {nonce}");
        }
        assert_eq!(read(r#"{"op":"sign_secure","x25519":"?","unix":7,"nonce":"?"}"#), None);
        assert_eq!(read(r#"{"op":"sign_secure","text":"anything"}"#), None);
    }
}
