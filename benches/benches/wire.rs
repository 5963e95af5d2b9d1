//! The codecs on the path of a datagram, and the JSON of the directory.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::beacon::{Message, relay_into_deliver, relay_into_deliver_to};
use wire::codec::Writer;
use wire::registry::{Answer, Request as RegistryRequest, push_message};
use wire::stun::{RESPONSE_MAX, Request as StunRequest, Success, TransactionId};
use wire::{Format, NodeId};

const CLIENT: &str = "198.51.100.7:4000";

fn relayed(inner: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; inner.len() + 16];
    let mut writer = Writer::new(&mut buffer);
    Message::Relay { sender: NodeId(7), dest: NodeId(9), inner }.encode(&mut writer);
    let len = writer.len();
    buffer.truncate(len);
    buffer
}

fn beacon(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("beacon");
    group.throughput(Throughput::Elements(1));
    let mut datagram = relayed(&[0xA5; 1200]);
    group.bench_function("tell the format", |bencher| bencher.iter(|| Format::of(black_box(&datagram))));
    group.bench_function("decode relay", |bencher| bencher.iter(|| Message::decode(black_box(&datagram)).is_ok()));
    // Rewriting leaves the type byte, so the same buffer is a relay message again.
    group.bench_function("decode relay, rewrite to deliver", |bencher| {
        bencher.iter(|| {
            let datagram = black_box(&mut datagram);
            Message::decode(datagram).is_ok().then(|| relay_into_deliver(datagram))
        });
    });
    group.bench_function("decode relay, rewrite to deliver-to", |bencher| {
        bencher.iter(|| {
            let datagram = black_box(&mut datagram);
            datagram[0] = wire::beacon::kind::RELAY;
            Message::decode(datagram).is_ok().then(|| relay_into_deliver_to(datagram))
        });
    });
    group.finish();
}

fn stun(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stun");
    group.throughput(Throughput::Elements(1));
    let client: SocketAddr = CLIENT.parse().expect("an address");
    for fingerprint in [false, true] {
        let mut buffer = [0; wire::stun::REQUEST_MAX];
        let request = StunRequest { fingerprint, ..StunRequest::new(TransactionId::new([7; 12])) };
        let len = request.encode(&mut buffer);
        let mut response = [0; RESPONSE_MAX];
        let name = if fingerprint { "binding with fingerprint" } else { "binding" };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = StunRequest::decode(black_box(&buffer[..len])).expect("a Binding request");
                let success = Success { fingerprint: request.fingerprint, ..Success::new(client) };
                success.encode(&request.transaction, black_box(&mut response))
            });
        });
    }
    group.finish();
}

fn registry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry");
    let signature = "A".repeat(86) + "==";
    let key = "A".repeat(43) + "=";
    let requests = [
        ("lookup", r#"{"type":"lookup","node_id":4711}"#.to_owned()),
        (
            "resolve, signed",
            format!(r#"{{"type":"resolve","node_id":4711,"requester_id":4712,"signature":"{signature}"}}"#),
        ),
        (
            "register, signed",
            format!(
                r#"{{"type":"register","listen_addr":"198.51.100.7:4000","public_key":"{key}","owner":"someone@example.org","hostname":"alice","version":"1.18.0","lan_addrs":["10.0.0.7:4000","192.168.1.7:4000"],"signature":"{signature}"}}"#
            ),
        ),
    ];
    for (name, request) in &requests {
        RegistryRequest::decode(request.as_bytes()).expect("a request");
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| RegistryRequest::decode(black_box(request.as_bytes())));
        });
    }
    let mut out = Vec::with_capacity(1024);
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode an error", |bencher| {
        bencher.iter(|| {
            out.clear();
            push_message(&mut out, &Answer::error(&"node not found"));
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, beacon, stun, registry);
criterion_main!(benches);
