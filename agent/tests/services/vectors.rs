//! Frames of real programs, byte for byte.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::services::exchange::Step;

use crate::world::{World, hear, hear_step, hear_text, say_step, story};

const SERVICES: &str = include_str!("../vectors/services.json");
const NEWEST: &str = include_str!("../vectors/services_newest_synthetic.json");

fn vectors(text: &str) -> Vec<(String, Vec<u8>, Value)> {
    let all: Value = serde_json::from_str(text).unwrap();
    let vector = |vector: &Value| {
        let hex = vector["hex"].as_str().unwrap();
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (vector["name"].as_str().unwrap().to_owned(), bytes, vector["inputs"].clone())
    };
    all["vectors"].as_array().unwrap().iter().map(vector).collect()
}

#[test]
fn frames_of_the_oldest_release_are_acknowledged_in_its_words() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        for (name, bytes, _) in vectors(SERVICES) {
            let expected = match name.as_str() {
                "dx_text" => "ACK TEXT 11 bytes",
                "dx_binary" => "ACK BINARY 4 bytes",
                "dx_json" => "ACK JSON 7 bytes",
                "dx_file" => "ACK FILE 19 bytes",
                "dx_empty_text" => "ACK TEXT 0 bytes",
                _ => continue,
            };
            stream.write_all(&bytes).await.unwrap();
            assert_eq!(hear_text(&mut stream).await, expected);
        }
        assert_eq!(world.files(), [("note.txt".to_owned(), b"file body".to_vec())]);
        assert_eq!(world.heard.borrow().len(), 5);
    });
}

#[test]
fn the_acknowledgement_is_the_captured_frame() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let ack = vectors(SERVICES).into_iter().find(|(name, ..)| name == "dx_ack_text").unwrap().1;
        stream.write_all(b"\0\0\0\x01\0\0\0\x0bhello agent").await.unwrap();
        let mut heard = vec![0; ack.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, ack);
    });
}

#[test]
fn tagged_frames_are_acknowledged_as_what_they_carry() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        for (name, bytes, _) in vectors(NEWEST) {
            let expected = match name.as_str() {
                "dx_tagged_text_with_message_id" => "ACK TEXT 5 bytes",
                "dx_tagged_json_reply" => "ACK JSON 2 bytes",
                _ => continue,
            };
            stream.write_all(&bytes).await.unwrap();
            assert_eq!(hear_text(&mut stream).await, expected);
        }
        assert_eq!(world.heard.borrow().len(), 2);
    });
}

#[test]
fn a_transfer_is_the_one_laid_out() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let all = vectors(NEWEST);
        let of = |name: &str| all.iter().find(|(of, ..)| of == name).unwrap().1.clone();
        let mut expect = async |sent: &str, answers: &[&str]| {
            stream.write_all(&of(sent)).await.unwrap();
            for answer in answers {
                let (kind, payload) = hear(&mut stream).await;
                let mut frame = kind.to_be_bytes().to_vec();
                frame.extend((payload.len() as u32).to_be_bytes());
                frame.extend(payload);
                assert_eq!(frame, of(answer), "{answer}");
            }
        };
        expect("filestream_init", &["filestream_init_ack_resume_0"]).await;
        expect("filestream_chunk_0", &["filestream_ack"]).await;
        expect("filestream_done", &["filestream_complete_ok"]).await;
        assert_eq!(world.files(), [("a.txt".to_owned(), b"file content".to_vec())]);
    });
}

/// As a daemon of 1.18.0 was seen to do it: chunk and done at once.
#[test]
fn done_may_follow_without_waiting() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let sha256: [u8; 32] = Sha256::digest(b"some file text\n").into();
        let id = *sha256.first_chunk().unwrap();
        say_step(&mut stream, &id, Step::Init { size_bytes: 15, sha256: &sha256, chunk_bytes: 49152, name: "f.txt" })
            .await;
        assert_eq!(hear_step(&mut stream).await, (5, vec![0; 8]));
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"some file text\n" }).await;
        say_step(&mut stream, &id, Step::Done).await;
        assert_eq!(hear_step(&mut stream).await, (3, vec![0, 0, 0, 0, 0, 0, 0, 15]));
        assert_eq!(hear_step(&mut stream).await, (6, vec![0]));
    });
}
