//! Packet headers with their CRC.

use wire::DecodeError;
use wire::address::SocketAddress;
use wire::packet::{Flags, Packet, Protocol};

use crate::fixtures::{Vector, hex};
use crate::invariants::written;

pub fn check(vector: &Vector) -> Option<()> {
    let decoded = Packet::decode(vector.bytes());
    match vector.name.as_str() {
        "trailing_bytes_are_ignored" => {
            let payload = hex(vector.expect["payload_hex"].as_str()?);
            assert_eq!(decoded.map(|packet| packet.payload), Ok(payload.as_slice()));
        }
        "bad_crc" => assert_eq!(decoded, Err(DecodeError::Checksum)),
        "short_header" | "truncated_payload" => assert!(matches!(decoded, Err(DecodeError::Truncated { .. }))),
        _ if vector.inputs.get("seq").is_some() => fields(vector),
        _ => return None,
    }
    Some(())
}

fn fields(vector: &Vector) {
    let payload = vector.input_bytes("payload_hex");
    let socket = |address: &str, port: &str| SocketAddress {
        address: vector.text(address).parse().expect("an address"),
        port: vector.number(port),
    };
    let packet = Packet {
        version: vector.number("version"),
        flags: Flags::from_bits(vector.number("flags")),
        protocol: Protocol(vector.number("protocol")),
        source: socket("src", "src_port"),
        destination: socket("dst", "dst_port"),
        sequence: vector.number("seq"),
        acknowledgement: vector.number("ack"),
        window_segments: vector.number("window"),
        payload: &payload,
    };
    assert_eq!(Packet::decode(vector.bytes()), Ok(packet));
    assert_eq!(written(packet.encoded_len(), |out| packet.encode(out)), vector.bytes());
    assert_eq!(vector.bytes()[30..34], hex(vector.expect["crc32"].as_str().expect("a CRC")));
}
