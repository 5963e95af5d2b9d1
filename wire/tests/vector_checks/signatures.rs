//! Signed texts: the signature must verify over exactly that text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, SigningKey};

use crate::fixtures::{Vector, hex_array};

pub fn check(vector: &Vector) -> Option<()> {
    let text = match vector.name.as_str() {
        "request_signature_envelope" => vector.text("canonical"),
        "wss_compat_auth_signature" => vector.text("signed_text"),
        name => {
            let text = name.strip_prefix("signed_text/")?;
            assert_eq!(vector.text("signed_text"), text);
            text
        }
    };
    let key = SigningKey::from_bytes(&hex_array(vector.text("ed25519_seed"))).verifying_key();
    let signature = vector.expect["signature_base64"].as_str().expect("a signature");
    let signature = STANDARD.decode(signature).expect("padded base64");
    let signature = Signature::from_slice(&signature).expect("64 bytes");
    key.verify_strict(text.as_bytes(), &signature).expect("the signature fits the text");
    key.verify_strict(&text.as_bytes()[1..], &signature).expect_err("and no other");
    Some(())
}
