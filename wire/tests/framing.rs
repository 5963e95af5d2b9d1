//! The frame decoder: however a stream is cut, the frames are the same, and memory stays bounded.

use proptest::prelude::*;
use wire::DecodeError;
use wire::framing::{FrameDecoder, write_frame};

fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        write_frame(&mut out, |out| out.extend_from_slice(frame));
    }
    out
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_follows() {
    let mut decoder = FrameDecoder::new(100);
    let refused = decoder.decode(&mut [0, 0, 0, 101].as_slice());
    assert_eq!(refused, Err(DecodeError::TooLong { length: 101, limit: 100 }));
    let mut decoder = FrameDecoder::new(100);
    assert!(decoder.decode(&mut [0xFF; 4].as_slice()).is_err());
}

#[test]
fn the_limit_itself_and_nothing_at_all_are_frames() {
    for length in [0, 100] {
        let frame = vec![7; length];
        let bytes = stream(std::slice::from_ref(&frame));
        let mut decoder = FrameDecoder::new(100);
        assert_eq!(decoder.decode(&mut bytes.as_slice()), Ok(Some(frame.as_slice())));
    }
}

#[test]
fn the_end_of_a_stream_inside_a_frame_is_seen() {
    let bytes = stream(&[b"frame".to_vec()]);
    for len in 0..=bytes.len() {
        let mut decoder = FrameDecoder::new(100);
        let frame = decoder.decode(&mut &bytes[..len]).expect("under the limit");
        assert_eq!(frame.is_some(), len == bytes.len());
        assert_eq!(decoder.is_mid_frame(), len != 0 && len != bytes.len(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_cut(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
        cuts in prop::collection::vec(1..20_usize, 1..8),
    ) {
        let bytes = stream(&frames);
        let mut decoder = FrameDecoder::new(50);
        let mut found = Vec::new();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(cuts.next().expect("endless").min(rest.len()));
            rest = later;
            while let Some(frame) = decoder.decode(&mut piece).expect("under the limit") {
                found.push(frame.to_vec());
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert!(!decoder.is_mid_frame());
        prop_assert_eq!(found, frames);
    }
}
