//! Records of the secure channel as they stand in the stream, and what is signed in it. Keys and seals are the agent's.

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use wire::NodeId;
use wire::services::secure::{Proof, Record, Role, signed};

use crate::fixtures::Vector;

pub fn check(vector: &Vector) -> Option<()> {
    let array = |key: &str| vector.input_bytes(key);
    match vector.name.as_str() {
        name if name.starts_with("record_from_") => {
            let bytes = vector.bytes();
            let role = if name.contains("server") { Role::Server } else { Role::Client };
            let nonce = role.nonce(1);
            assert_eq!((nonce.as_slice(), &nonce[..4]), (array("nonce").as_slice(), array("aad").as_slice()));
            let (record, taken) = Record::decode(bytes).expect("it is a record").expect("it is whole");
            assert_eq!((record.nonce, taken), (&nonce, bytes.len()));
            assert_eq!(record.sealed.len(), array("plaintext").len() + 16);
            assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), Ok(None));
            let mut written = Vec::new();
            assert_eq!(record.encode(&mut written), Ok(()));
            assert_eq!(written, bytes);
        }
        "auth_frame_plaintext" => {
            let node = NodeId(vector.number("node_id"));
            let unix_seconds = vector.number("timestamp");
            let nonce: [u8; 16] = array("nonce").try_into().ok()?;
            let text = signed(node, &array("x25519_public").try_into().ok()?, unix_seconds, &nonce);
            assert_eq!(text.as_slice(), array("signed_bytes"));
            let seed: [u8; 32] = array("ed25519_seed").try_into().ok()?;
            let signature: Signature = SigningKey::from_bytes(&seed).sign(&text);
            let signature = signature.to_bytes();
            let proof = Proof { node, unix_seconds, nonce: &nonce, signature: &signature };
            assert_eq!(Proof::decode(vector.bytes()), Ok(proof));
            assert_eq!(proof.encode().as_slice(), vector.bytes());
        }
        // Derived keys; there are no bytes on the wire.
        "key_derivation_old_and_new" => assert!(vector.bytes.is_none()),
        _ => return None,
    }
    Some(())
}
