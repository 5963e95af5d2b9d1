//! One connection, segment by segment: opening, closing, silence, closed windows (section 8).

use std::time::Duration;

use agent::Time;
use agent::stream::{Config, End, Segment, State, Stream};
use wire::address::{Address, SocketAddress};
use wire::codec::Writer;
use wire::packet::{Flags, HEADER_LEN, Packet};
use wire::stream::Sequence;

use crate::world::Datagram;

const FIN_ACK: u8 = Flags::FIN.bits() | Flags::ACK.bits();
const SYN_ACK: u8 = Flags::SYN.bits() | Flags::ACK.bits();

const fn at(milliseconds: u64) -> Time {
    Time(milliseconds * 1_000_000)
}

fn segment(flags: u8, sequence: u32, acknowledgement: u32, window_segments: u16, payload: &[u8]) -> Segment<'_> {
    let (sequence, acknowledgement) = (Sequence(sequence), Sequence(acknowledgement));
    Segment { flags: Flags::from_bits(flags), sequence, acknowledgement, window_segments, payload }
}

fn ack(sequence: u32, acknowledgement: u32, payload: &[u8]) -> Segment<'_> {
    segment(Flags::ACK.bits(), sequence, acknowledgement, 64, payload)
}

fn sent(stream: &mut Stream, now: Time) -> Vec<Datagram> {
    std::iter::from_fn(|| stream.poll_transmit(now).map(|segment| Datagram::of(&segment))).collect()
}

/// Flags, sequence and acknowledgement number, and payload of each.
fn told(datagrams: &[Datagram]) -> Vec<(u8, u32, u32, &[u8])> {
    datagrams.iter().map(|d| (d.flags, d.sequence, d.acknowledgement, d.payload.as_slice())).collect()
}

/// A responder that has answered the SYN.
fn established() -> Stream {
    let mut stream = Stream::accept(at(0), Config::default(), &segment(Flags::SYN.bits(), 0, 0, 64, &[]));
    assert_eq!(told(&sent(&mut stream, at(0))), [(SYN_ACK, 0, 1, &[][..])]);
    stream
}

/// Lets time pass until nothing is due before `until`, and collects what is sent.
fn pass(stream: &mut Stream, until: Time) -> Vec<(Time, Datagram)> {
    let mut all = Vec::new();
    while let Some(now) = stream.poll_timeout().filter(|due| *due <= until) {
        stream.handle_timeout(now);
        all.extend(sent(stream, now).into_iter().map(|datagram| (now, datagram)));
    }
    all
}

#[test]
fn a_connection_opens_and_data_follows_the_answer() {
    let mut stream = Stream::connect(at(0), Config::default());
    stream.write(at(0), b"hello");
    assert_eq!(told(&sent(&mut stream, at(0))), [(Flags::SYN.bits(), 0, 0, &[][..])]);
    stream.handle_segment(at(30), &segment(SYN_ACK, 0, 1, 64, &[]));
    assert_eq!(stream.metrics().smoothed_rtt, Some(Duration::from_millis(30)));
    assert_eq!(told(&sent(&mut stream, at(30))), [(Flags::ACK.bits(), 1, 1, &b"hello"[..])]);
}

#[test]
fn a_syn_is_sent_seven_times() {
    let mut stream = Stream::connect(at(0), Config::default());
    assert_eq!(sent(&mut stream, at(0)).len(), 1);
    let later = pass(&mut stream, at(60_000));
    let times: Vec<u64> = later.iter().map(|(now, _)| now.0 / 1_000_000).collect();
    assert_eq!(times, [250, 750, 1_750, 3_750, 7_750, 15_750, 25_750]);
    assert_eq!(later.last().map(|(_, last)| last.flags), Some(Flags::RST.bits()));
    assert_eq!((stream.state(), stream.end()), (State::Closed, Some(End::TimedOut)));
}

#[test]
fn a_repeated_syn_is_answered_again() {
    let mut stream = established();
    stream.handle_segment(at(250), &segment(Flags::SYN.bits(), 0, 0, 64, &[]));
    assert_eq!(told(&sent(&mut stream, at(250))), [(SYN_ACK, 0, 1, &[][..])]);
}

#[test]
fn a_reset_ends_at_once_and_is_not_answered() {
    let mut stream = Stream::connect(at(0), Config::default());
    sent(&mut stream, at(0));
    stream.handle_segment(at(9), &segment(Flags::RST.bits(), 0, 0, 0, &[]));
    assert_eq!((stream.end(), sent(&mut stream, at(9)).len()), (Some(End::Refused), 0));
    let mut stream = established();
    stream.handle_segment(at(9), &segment(Flags::RST.bits(), 0, 0, 0, &[]));
    assert_eq!((stream.end(), sent(&mut stream, at(9)).len(), stream.poll_timeout()), (Some(End::Reset), 0, None));
}

#[test]
fn only_the_first_fin_is_answered_with_fin() {
    let mut stream = established();
    let fin = segment(Flags::FIN.bits(), 1, 0, 0, &[]);
    stream.handle_segment(at(10), &fin);
    assert_eq!(told(&sent(&mut stream, at(10))), [(FIN_ACK, 1, 2, &[][..])]);
    assert_eq!((stream.state(), stream.end()), (State::TimeWait, Some(End::Finished)));
    stream.handle_segment(at(20), &segment(FIN_ACK, 1, 2, 0, &[]));
    assert_eq!(sent(&mut stream, at(20)), []);
    stream.handle_segment(at(30), &fin);
    assert_eq!(told(&sent(&mut stream, at(30))), [(Flags::ACK.bits(), 1, 2, &[][..])]);
    pass(&mut stream, at(10_010));
    assert_eq!(stream.state(), State::Closed);
}

#[test]
fn a_fin_ahead_of_its_data_waits() {
    let mut stream = established();
    stream.handle_segment(at(10), &segment(Flags::FIN.bits(), 4, 0, 0, &[]));
    assert_eq!((stream.state(), stream.end()), (State::Established, None));
    stream.handle_segment(at(20), &ack(1, 1, b"abc"));
    assert_eq!((stream.state(), stream.readable_bytes()), (State::TimeWait, 3));
    assert_eq!(told(&sent(&mut stream, at(20))), [(FIN_ACK, 1, 5, &[][..])]);
}

#[test]
fn a_fin_whose_data_never_comes_is_not_an_end() {
    let mut stream = established();
    stream.handle_segment(at(10), &segment(Flags::FIN.bits(), 4, 0, 0, &[]));
    pass(&mut stream, at(10_010));
    assert_eq!(stream.end(), Some(End::Truncated));
}

#[test]
fn a_fin_follows_acknowledged_data_and_is_sent_again() {
    let mut stream = established();
    stream.write(at(0), b"abc");
    stream.close(at(0));
    assert_eq!(told(&sent(&mut stream, at(0))), [(Flags::ACK.bits(), 1, 1, &b"abc"[..])]);
    stream.handle_segment(at(20), &ack(1, 4, &[]));
    assert_eq!(told(&sent(&mut stream, at(20))), [(Flags::FIN.bits(), 4, 1, &[][..])]);
    let again = pass(&mut stream, at(200));
    assert_eq!(again.first().map(|(_, fin)| (fin.flags, fin.sequence)), Some((Flags::FIN.bits(), 4)));
    stream.handle_segment(at(200), &segment(FIN_ACK, 1, 5, 0, &[]));
    assert_eq!((stream.state(), sent(&mut stream, at(200))), (State::TimeWait, vec![]));
}

#[test]
fn silence_is_broken_and_then_ends() {
    let mut stream = established();
    let said = pass(&mut stream, at(120_000));
    let keepalives: Vec<_> = said.iter().map(|(now, d)| (now.0 / 1_000_000_000, d.flags, d.window_segments)).collect();
    let keepalive = |second| (second, Flags::ACK.bits(), 1024);
    assert_eq!(keepalives, [keepalive(30), keepalive(60), keepalive(90), (120, Flags::RST.bits(), 1024)]);
    assert_eq!(stream.end(), Some(End::TimedOut));
}

#[test]
fn unanswered_data_is_sent_eight_times_again() {
    let mut stream = established();
    stream.write(at(0), b"abc");
    sent(&mut stream, at(0));
    let again = pass(&mut stream, at(100_000));
    let data: Vec<u64> =
        again.iter().filter(|(_, d)| !d.payload.is_empty()).map(|(now, _)| now.0 / 1_000_000).collect();
    assert_eq!(data, [250, 750, 1_750, 3_750, 7_750, 15_750, 25_750, 35_750]);
    assert_eq!(again.last().map(|(_, last)| last.flags), Some(Flags::RST.bits()));
    assert_eq!(stream.end(), Some(End::TimedOut));
}

#[test]
fn every_second_segment_is_acknowledged_and_a_hole_at_once() {
    let mut stream = established();
    stream.handle_segment(at(10), &ack(1, 1, b"ab"));
    assert_eq!((sent(&mut stream, at(10)), stream.poll_timeout()), (vec![], Some(at(15))));
    stream.handle_segment(at(11), &ack(3, 1, b"cd"));
    assert_eq!(told(&sent(&mut stream, at(11))), [(Flags::ACK.bits(), 1, 5, &[][..])]);
    stream.handle_segment(at(12), &ack(7, 1, b"gh"));
    let block = [&b"SACK\x01"[..], &7u32.to_be_bytes(), &9u32.to_be_bytes()].concat();
    assert_eq!(told(&sent(&mut stream, at(12))), [(Flags::ACK.bits(), 1, 5, block.as_slice())]);
}

#[test]
fn a_closed_window_is_probed() {
    let mut stream = established();
    stream.write(at(0), b"abc");
    sent(&mut stream, at(0));
    stream.handle_segment(at(20), &segment(Flags::ACK.bits(), 1, 4, 0, &[]));
    stream.write(at(20), b"def");
    assert_eq!(sent(&mut stream, at(20)), []);
    let probes = pass(&mut stream, at(1_600));
    let expected = [(at(520), 0), (at(1_520), 3)];
    assert_eq!(probes.iter().map(|(now, d)| (*now, d.payload.len())).collect::<Vec<_>>()[..2], expected);
    stream.handle_segment(at(1_650), &segment(Flags::ACK.bits(), 1, 7, 10, &[]));
    stream.write(at(1_650), b"ghi");
    assert_eq!(told(&sent(&mut stream, at(1_650))), [(Flags::ACK.bits(), 7, 1, &b"ghi"[..])]);
}

#[test]
fn a_keepalive_closes_no_window() {
    let mut stream = established();
    stream.handle_segment(at(20), &segment(Flags::ACK.bits(), 1, 1, 0, &[]));
    stream.write(at(20), b"abc");
    assert_eq!(told(&sent(&mut stream, at(20))), [(Flags::ACK.bits(), 1, 1, &b"abc"[..])]);
}

#[test]
fn data_that_looks_like_a_sack_is_split() {
    let data = b"SACK\x01abcdefgh tail";
    let mut stream = established();
    stream.write(at(10), data);
    let expected = [(Flags::ACK.bits(), 1, 1, &data[..1]), (Flags::ACK.bits(), 2, 1, &data[1..])];
    assert_eq!(told(&sent(&mut stream, at(10))), expected);
}

#[test]
fn a_segment_survives_its_packet() {
    let segment = segment(FIN_ACK, 7, 8, 9, b"payload");
    let socket = |port| SocketAddress { address: Address::default(), port };
    let packet = segment.packet(socket(1000), socket(49_152));
    let mut buffer = [0; HEADER_LEN + 7];
    packet.encode(&mut Writer::new(&mut buffer));
    assert_eq!(Segment::from(&Packet::decode(&buffer).expect("a packet")), segment);
}
