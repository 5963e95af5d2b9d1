//! Trace messages (0D), byte by byte as written by hand.

use wire::beacon::{Message, TRACE_LEN, kind};
use wire::codec::Writer;
use wire::trace::TraceContext;
use wire::{DecodeError, Format, NodeId};

/// The context of the recommendation's example, from node 5 to node 0x01020304.
const BYTES: [u8; TRACE_LEN] = [
    0x0D, // type
    0x00, 0x00, 0x00, 0x05, // sender
    0x01, 0x02, 0x03, 0x04, // dest
    0x4B, 0xF9, 0x2F, 0x35, 0x77, 0xB3, 0x4D, 0xA6, 0xA3, 0xCE, 0x92, 0x9D, 0x0E, 0x0E, 0x47, 0x36, // trace
    0x00, 0xF0, 0x67, 0xAA, 0x0B, 0xA9, 0x02, 0xB7, // span
    0x01, // flags
];

fn message() -> Message<'static> {
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    Message::Trace { sender: NodeId(5), dest: NodeId(0x0102_0304), context }
}

#[test]
fn a_trace_message_is_read_and_written() {
    assert_eq!(Message::decode(&BYTES), Ok(message()));
    let mut out = [0; TRACE_LEN];
    message().encode(&mut Writer::new(&mut out));
    assert_eq!(out, BYTES);
    assert_eq!(Format::of(&BYTES), Format::Beacon);
    assert_eq!((kind::TRACE, kind::LAST), (0x0D, 0x0D));
}

#[test]
fn what_follows_is_ignored_and_unknown_flags_are_kept() {
    let longer = [&BYTES[..], b"from a later version"].concat();
    assert_eq!(Message::decode(&longer), Ok(message()));
    let mut flagged = BYTES;
    flagged[TRACE_LEN - 1] = 0xFE;
    let Ok(Message::Trace { context, .. }) = Message::decode(&flagged) else { panic!("a trace message") };
    assert_eq!((context.flags, context.is_sampled()), (0xFE, false));
}

#[test]
fn what_is_cut_short_or_has_an_id_of_zeros_is_refused() {
    for len in 0..TRACE_LEN {
        assert!(matches!(Message::decode(&BYTES[..len]), Err(DecodeError::Truncated { .. })), "{len} bytes");
    }
    for zeros in [9..25, 25..33] {
        let mut bytes = BYTES;
        bytes[zeros].fill(0);
        assert!(matches!(Message::decode(&bytes), Err(DecodeError::Invalid(_))), "{bytes:02x?}");
    }
    assert_eq!(Format::of(&[0x0E, 0, 0, 0, 5]), Format::Unknown);
    assert!(matches!(Message::decode(&[0x0E, 0, 0, 0, 5]), Err(DecodeError::UnknownType(0x0E))));
    let all_set = TraceContext { trace_id: [0xFF; 16], span_id: [0xFF; 8], flags: 0xFF };
    assert_eq!(all_set.to_string().parse(), Ok(all_set));
}
