//! Envelopes: a request to a third party, signed with the node's key so that whoever receives it can check who sent it.
//!
//! What is signed is `pilot-req-v1|ADDRESS|UNIX|NONCE|BODY HASH|AUDIENCE`: address in 12 hex digits, nonce in 16, the
//! SHA-256 of the body in 64.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use wire::NodeId;
use wire::address::Address;
use wire::registry::{Answer, Operation};

use super::Context;
use super::client::Outcome;
use super::requests::{Work, failed, own, put};
use crate::daemon::clock::{chance, unix_seconds};
use crate::identity::has_signed;

const VERSION: &str = "pilot-req-v1";
const AUDIENCE_BYTES_MAX: usize = 1024;
/// How far the time in an envelope may be off where the client does not say.
const SKEW_SECONDS_DEFAULT: u64 = 300;

#[derive(Deserialize)]
struct ToSign {
    audience: String,
    body_hash: String,
}

#[derive(Deserialize)]
struct ToVerify {
    envelope: String,
    signature: String,
    #[serde(default)]
    max_skew_secs: u64,
    /// Whether the node must be registered now; it must be in any case for its key to be known.
    #[serde(default)]
    #[expect(dead_code, reason = "taken, and always done")]
    check_standing: bool,
}

pub(super) fn sign(context: Rc<Context>, text: &str) -> Work {
    let Ok(ToSign { audience, body_hash }) = serde_json::from_str(text) else {
        return failed("sign: expected {\"audience\": TEXT, \"body_hash\": 64 hex digits}");
    };
    let is_hash = body_hash.len() == 64 && body_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hash || audience.is_empty() || audience.len() > AUDIENCE_BYTES_MAX || audience.contains('|') {
        return failed("sign: expected an audience without `|` and a body hash of 64 hex digits");
    }
    Box::pin(async move {
        let node = match own(&context) {
            Ok(node) => node,
            Err(text) => return Outcome::Failed(text),
        };
        let nonce = match chance::<8>() {
            Ok(nonce) => u64::from_be_bytes(nonce),
            Err(error) => return Outcome::Failed(format!("sign: {error}")),
        };
        let body_hash = body_hash.to_ascii_lowercase();
        let envelope = canonical(node.address(), unix_seconds(), nonce, &body_hash, &audience);
        let signature = STANDARD.encode(context.identity.sign(envelope.as_bytes()));
        Outcome::Json(json!({ "envelope": envelope, "signature": signature, "node_id": node }))
    })
}

pub(super) fn verify(context: Rc<Context>, text: &str) -> Work {
    let Ok(request) = serde_json::from_str::<ToVerify>(text) else {
        return failed("verify: expected {\"envelope\": TEXT, \"signature\": BASE64}");
    };
    Box::pin(async move {
        match check(&context, &request).await {
            Ok(node) => Outcome::Json(json!({ "valid": true, "node_id": node, "address": node.address().to_string() })),
            Err(reason) => Outcome::Json(json!({ "valid": false, "reason": reason })),
        }
    })
}

async fn check(context: &Context, request: &ToVerify) -> Result<NodeId, String> {
    let (node, signed_at) = read(&request.envelope).ok_or("this is no envelope")?;
    let skew = if request.max_skew_secs == 0 { SKEW_SECONDS_DEFAULT } else { request.max_skew_secs };
    if unix_seconds().abs_diff(signed_at) > skew {
        return Err(format!("signed at {signed_at}, more than {skew} seconds from now"));
    }
    let signature: [u8; 64] = STANDARD
        .decode(&request.signature)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("the signature is no base64 of 64 bytes")?;
    let answer = put(context, Operation::Lookup { node_id: node }).await?;
    let Answer::Lookup(found) = answer else { return Err("the directory gave another answer".to_owned()) };
    let is_valid = has_signed(&found.public_key.0, request.envelope.as_bytes(), &signature);
    if is_valid { Ok(node) } else { Err(format!("not signed by node {node}")) }
}

fn canonical(address: Address, unix: u64, nonce: u64, body_hash: &str, audience: &str) -> String {
    let Address { network, node: NodeId(node) } = address;
    format!("{VERSION}|{network:04x}{node:08x}|{unix}|{nonce:016x}|{body_hash}|{audience}")
}

/// The node that an envelope speaks for, and when it was signed.
fn read(envelope: &str) -> Option<(NodeId, u64)> {
    let fields: Vec<&str> = envelope.split('|').collect();
    let [VERSION, address, unix, nonce, body_hash, audience] = fields.as_slice() else { return None };
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(address, 12) || !is_hex(nonce, 16) || !is_hex(body_hash, 64) || audience.is_empty() {
        return None;
    }
    let node = u32::from_str_radix(&address[4..], 16).ok().map(NodeId)?;
    Some((node, unix.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    const BODY_HASH: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    /// `request_signature_envelope` of the wire specification's vectors.
    #[test]
    fn an_envelope_is_the_one_of_the_specification() {
        let envelope = canonical(NodeId(1).address(), 1_767_225_600, 0x0011_2233_4455_6677, BODY_HASH, "example.org");
        assert_eq!(envelope, format!("pilot-req-v1|000000000001|1767225600|0011223344556677|{BODY_HASH}|example.org"));
        let signature = STANDARD.encode(Identity::from_seed(&[0xA1; 32]).sign(envelope.as_bytes()));
        let expected = "kjuoTMAmCZDc520oXTSm8rtIOXHO7S6KUHE8+hBI11JPfbZ0UWXi0uFEYkTgP3YyFuKKqT64jCacgoa/DyyaDQ==";
        assert_eq!(signature, expected);
        assert_eq!(read(&envelope), Some((NodeId(1), 1_767_225_600)));
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for wrong in
            ["", "pilot-req-v1", "a|b|c|d|e|f", &format!("pilot-req-v1|ü00000000001|1|0011223344556677|{BODY_HASH}|x")]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
