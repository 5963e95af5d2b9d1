//! Frames of the data exchange and of the event stream.

use wire::DecodeError;
use wire::services::events::Event;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, PAYLOAD_MAX_OLD, Step, Tag, acknowledgement};

use crate::fixtures::{Vector, hex};

pub fn check(vector: &Vector) -> Option<()> {
    let bytes = vector.bytes();
    if vector.expect["valid"] == false {
        let refused = match vector.name.split_once('_')?.0 {
            "dx" => Frame::decode(bytes, PAYLOAD_MAX_OLD).map(|_| ()),
            "ev" => Event::decode(bytes).map(|_| ()),
            _ => return None,
        };
        assert!(matches!(refused, Err(DecodeError::TooLong { .. })), "{refused:?}");
        return Some(());
    }
    let payload = vector.input_bytes("payload_hex");
    if vector.name.starts_with("ev_") {
        let event = Event { topic: vector.text("topic"), payload: &payload };
        assert_eq!(Event::decode(bytes), Ok(Some((event, bytes.len()))));
        assert_eq!(Event::decode(&bytes[..bytes.len() - 1]), Ok(None));
        let mut written = Vec::new();
        assert_eq!(event.encode(&mut written), Ok(()));
        assert_eq!(written, bytes);
        return Some(());
    }
    let content = match vector.number::<u32>("type") {
        1 => Content::Text(&payload),
        2 => Content::Binary(&payload),
        3 => Content::Json(&payload),
        4 => Content::File { name: vector.text("filename"), data: &payload },
        _ => return None,
    };
    if vector.name == "dx_ack_text" {
        assert_eq!(payload, acknowledgement(&Content::Text(b"hello agent"), 11).as_bytes());
    }
    reads_and_writes(bytes, &Frame { tag: None, content });
    Some(())
}

pub fn check_newest(vector: &Vector) -> Option<()> {
    let inputs = &vector.inputs;
    let content = inputs["content"].as_str().or_else(|| inputs["data"].as_str()).map(hex).unwrap_or_default();
    let sha256 = hex("e0ac3601005dfa1864f5392aabaf7d898b1b5bab854f1acb4491bcd806b76b0c");
    let sha256: &[u8; 32] = sha256.as_slice().try_into().ok()?;
    let id = sha256.first_chunk()?;
    let text = |key: &str| inputs[key].as_str().unwrap_or_default();
    let offset = || vector.number("offset");
    let step = match vector.name.as_str() {
        "dx_tagged_text_with_message_id" | "dx_tagged_json_reply" => {
            let tag = Tag { message_id: inputs["message_id"].as_str(), reply_to: inputs["reply_to"].as_str() };
            let inner = text("inner").as_bytes();
            let content = if inputs["inner_type"] == 1 { Content::Text(inner) } else { Content::Json(inner) };
            reads_and_writes(vector.bytes(), &Frame { tag: Some(tag), content });
            return Some(());
        }
        "filestream_init" => Step::Init {
            size_bytes: vector.number("size"),
            sha256,
            chunk_bytes: vector.number("chunk_size"),
            name: text("name"),
        },
        "filestream_init_ack_resume_0" => Step::InitAck { offset: offset() },
        "filestream_chunk_0" => Step::Chunk { offset: offset(), data: &content },
        "filestream_ack" => Step::Ack { offset: offset() },
        "filestream_done" => Step::Done,
        "filestream_complete_ok" | "filestream_complete_failed" => {
            Step::Complete { status: vector.number("status"), text: text("message").as_bytes() }
        }
        "filestream_abort" => Step::Abort { text: text("reason").as_bytes() },
        _ => return None,
    };
    reads_and_writes(vector.bytes(), &Frame { tag: None, content: Content::FileStream { id, step } });
    Some(())
}

fn reads_and_writes(bytes: &[u8], frame: &Frame<'_>) {
    assert_eq!(Frame::decode(bytes, PAYLOAD_MAX), Ok(Some((*frame, bytes.len()))));
    assert_eq!(Frame::decode(&bytes[..bytes.len() - 1], PAYLOAD_MAX), Ok(None));
    let mut written = Vec::new();
    assert_eq!(frame.encode(&mut written, PAYLOAD_MAX), Ok(()));
    assert_eq!(written, bytes);
}
