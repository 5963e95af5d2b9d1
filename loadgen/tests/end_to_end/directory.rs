//! A directory just large enough to register with. It insists on signatures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use ed25519_dalek::{Signature, VerifyingKey};
use wire::registry::{self, Base64, Operation, Request};

/// The node id a directory here gives to a key: anything but consecutive.
fn node_of(key: &[u8; 32]) -> u32 {
    u32::from_be_bytes(*key.first_chunk().unwrap()) | 1
}

/// A directory on a thread. With `refusal`, every registration is answered with that error.
pub fn start_directory(refusal: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut received = Vec::new();
                let mut chunk = [0; 4096];
                loop {
                    while let Some((message, rest)) = registry::split_message(&received).unwrap() {
                        let answer = refusal.map_or_else(|| admit(message), refuse);
                        let mut framed = u32::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
                        framed.extend(answer.as_bytes());
                        stream.write_all(&framed).unwrap();
                        received = rest.to_vec();
                    }
                    match stream.read(&mut chunk) {
                        Ok(0) | Err(_) => return,
                        Ok(len) => received.extend_from_slice(&chunk[..len]),
                    }
                }
            });
        }
    });
    address
}

fn refuse(text: &str) -> String {
    serde_json::json!({"type": "error", "error": text}).to_string()
}

/// Checks a registration and answers it.
fn admit(message: &[u8]) -> String {
    let Request { operation, signature, .. } = Request::decode(message).unwrap();
    let text = operation.signed_text().unwrap();
    let Operation::Register(register) = operation else { panic!("{operation:?}") };
    let Base64(key) = register.public_key;
    let signature = Signature::from_bytes(&signature.expect("a signature").0);
    VerifyingKey::from_bytes(&key).unwrap().verify_strict(text.as_bytes(), &signature).unwrap();
    let node = node_of(&key);
    let address = format!("0:0000.{:04X}.{:04X}", node >> 16, node & 0xFFFF);
    serde_json::json!({
        "type": "register_ok",
        "node_id": node,
        "network_id": 0,
        "address": address,
        "public_key": register.public_key.to_string(),
    })
    .to_string()
}
