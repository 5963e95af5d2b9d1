//! Subscribers, publishers, and those that do not read.

use std::rc::Rc;
use std::time::Duration;

use agent::services::events::{Broker, Error, HELD_BYTES_MAX, QUEUED_EVENTS_MAX, SUBSCRIBERS_MAX, publish, subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, spawn_local};

use crate::world::{PEER, noise, story};

fn connect(broker: &Rc<Broker>) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
    let (client, server) = duplex(4 << 10);
    let broker = Rc::clone(broker);
    (client, spawn_local(async move { broker.serve(PEER, server).await }))
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[test]
fn events_reach_those_who_subscribed_but_not_their_publisher() {
    story(async {
        let broker = Rc::new(Broker::new());
        let mut news = subscribe(connect(&broker).0, "news").await.unwrap();
        let mut all = subscribe(connect(&broker).0, "*").await.unwrap();
        let mut other = subscribe(connect(&broker).0, "weather").await.unwrap();
        settle().await;
        assert_eq!(broker.subscribers(), 3);
        let event = |payload: &[u8]| Some(("news".to_owned(), payload.to_vec()));
        let (mut publisher, _) = connect(&broker);
        publish(&mut publisher, "news", b"first").await.unwrap();
        assert_eq!(news.next().await.unwrap(), event(b"first"));
        assert_eq!(all.next().await.unwrap(), event(b"first"));
        let long = noise(300_000);
        let (mut another, _) = connect(&broker);
        let (written, heard) = tokio::join!(publish(&mut another, "news", &long), news.next());
        written.unwrap();
        assert_eq!(heard.unwrap(), event(&long));
        // One who publishes has subscribed, but not to what is its own.
        assert_eq!(publisher.read_u16().await.unwrap(), 4);
        let silent = tokio::time::timeout(Duration::from_secs(1), other.next()).await;
        assert!(silent.is_err(), "{silent:?}");
        let mut own = [0];
        assert!(tokio::time::timeout(Duration::from_secs(1), another.read(&mut own)).await.is_err());
        broker.publish_own("weather", b"rain").unwrap();
        assert_eq!(other.next().await.unwrap(), Some(("weather".to_owned(), b"rain".to_vec())));
    });
}

#[test]
fn whoever_leaves_is_forgotten() {
    story(async {
        let broker = Rc::new(Broker::new());
        let (client, served) = connect(&broker);
        let subscription = subscribe(client, "*").await.unwrap();
        settle().await;
        assert_eq!(broker.subscribers(), 1);
        drop(subscription);
        served.await.unwrap().unwrap();
        assert_eq!(broker.subscribers(), 0);
        let (client, served) = connect(&broker);
        drop(client);
        served.await.unwrap().unwrap();
    });
}

#[test]
fn one_that_does_not_read_holds_nobody_up_and_finds_the_newest() {
    story(async {
        let broker = Rc::new(Broker::new());
        let mut slow = subscribe(connect(&broker).0, "*").await.unwrap();
        let mut quick = subscribe(connect(&broker).0, "*").await.unwrap();
        settle().await;
        let count = 3 * QUEUED_EVENTS_MAX as u64;
        for number in 0..count {
            broker.publish_own("n", &number.to_be_bytes()).unwrap();
            let (_, payload) = quick.next().await.unwrap().unwrap();
            assert_eq!(payload, number.to_be_bytes());
        }
        let counters = broker.counters();
        assert_eq!((counters.published, counters.delivered), (count, 2 * count));
        assert!(counters.dropped > count / 2, "{counters:?}");
        let mut last = None;
        for _ in 0..count - counters.dropped {
            let (_, payload) = slow.next().await.unwrap().unwrap();
            let number = u64::from_be_bytes(payload.try_into().unwrap());
            assert!(last < Some(number));
            last = Some(number);
        }
        assert_eq!(last, Some(count - 1));
    });
}

#[test]
fn queues_are_bounded_in_bytes_and_the_stalled_are_dropped() {
    story(async {
        let broker = Rc::new(Broker::new());
        let (client, served) = connect(&broker);
        let _stalled = subscribe(client, "*").await.unwrap();
        settle().await;
        for _ in 0..100 {
            broker.publish_own("n", &noise(1 << 20)).unwrap();
        }
        assert!(broker.counters().dropped >= 96, "{:?}", broker.counters());
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        assert_eq!(broker.subscribers(), 0);
    });
}

#[test]
fn subscribers_are_bounded() {
    story(async {
        let broker = Rc::new(Broker::new());
        let mut subscriptions = Vec::new();
        for _ in 0..SUBSCRIBERS_MAX {
            subscriptions.push(subscribe(connect(&broker).0, "*").await.unwrap());
        }
        settle().await;
        let (client, served) = connect(&broker);
        let mut refused = subscribe(client, "*").await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(Error::TooMany)));
        assert_eq!(refused.next().await.unwrap(), None);
    });
}

#[test]
fn garbage_ends_the_stream_and_nothing_else() {
    story(async {
        let broker = Rc::new(Broker::new());
        for bytes in [&[4, 1][..], &[0, 1, b'a', 1, 0, 0, 1], &[0, 1, 0xff, 0, 0, 0, 0]] {
            let (mut client, served) = connect(&broker);
            client.write_all(bytes).await.unwrap();
            assert!(matches!(served.await.unwrap(), Err(Error::Malformed(_))));
        }
        let (mut client, served) = connect(&broker);
        client.write_all(&[0, 4, b'n']).await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        let (mut client, served) = connect(&broker);
        client.write_all(&[0, 4, b'n']).await.unwrap();
        drop(client);
        assert!(matches!(served.await.unwrap(), Err(Error::Stream(_))));
        let (mut client, _) = connect(&broker);
        let long = "x".repeat(1025);
        assert!(matches!(publish(&mut client, &long, b"").await, Err(Error::NotSendable(_))));
        assert_eq!(broker.counters().published, 0);
    });
}

#[test]
fn an_event_that_drips_is_not_awaited_for_ever() {
    story(async {
        let broker = Rc::new(Broker::new());
        let (mut client, served) = connect(&broker);
        client.write_all(&[0, 1, b'n', 0, 0, 0, 0]).await.unwrap();
        client.write_all(&[0, 1, b'n', 0, 16, 0, 0]).await.unwrap();
        let mut bytes = 0;
        while client.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(30)).await;
            bytes += 1;
            assert!(bytes < 100, "it is still awaited");
        }
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
    });
}

#[test]
fn one_peer_holds_one_long_event_in_part_and_another_peer_is_heard() {
    story(async {
        let broker = Rc::new(Broker::new());
        let mut half = vec![0, 1, b'n', 0, 0x40, 0, 0];
        half.extend(noise(2 << 20));
        let mut streams = Vec::new();
        for _ in 0..8 {
            let (mut client, served) = connect(&broker);
            client.write_all(&[0, 1, b'n', 0, 0, 0, 0]).await.unwrap();
            let half = half.clone();
            let written = spawn_local(async move {
                // All of it is taken, or none of what is behind the first mebibyte.
                let is_taken = tokio::time::timeout(Duration::from_secs(20), client.write_all(&half)).await.is_ok();
                (client, is_taken)
            });
            streams.push((written, served));
        }
        let mut all = subscribe(connect(&broker).0, "*").await.unwrap();
        settle().await;
        let (client, server) = duplex(4 << 10);
        let other = wire::address::Address { network: 0, node: wire::NodeId(9) };
        let served = Rc::clone(&broker);
        spawn_local(async move { served.serve(other, server).await });
        let mut client = client;
        let long = noise(3 << 20);
        let (published, heard) = tokio::join!(publish(&mut client, "n", &long), all.next());
        published.unwrap();
        assert_eq!(heard.unwrap().map(|(_, payload)| payload == long), Some(true));
        let mut taken = 0;
        let mut clients = Vec::new();
        for (written, _) in &mut streams {
            let (client, is_taken) = written.await.unwrap();
            clients.push(client);
            taken += usize::from(is_taken);
        }
        assert_eq!(taken, 1);
    });
}

#[test]
fn what_waits_for_all_subscribers_is_bounded_and_those_that_read_get_all() {
    story(async {
        let broker = Rc::new(Broker::new());
        let mut slow = Vec::new();
        for number in 0..8 {
            slow.push(connect(&broker));
            let _ = subscribe(&mut slow[number].0, &number.to_string()).await.unwrap();
        }
        let mut quick = subscribe(connect(&broker).0, "quick").await.unwrap();
        settle().await;
        // Each of the slow has an event of its own, and is in the middle of it.
        for number in 0..8 {
            broker.publish_own(&number.to_string(), &noise(15 << 20)).unwrap();
            settle().await;
            assert!(broker.held_bytes() <= HELD_BYTES_MAX, "{}", broker.held_bytes());
        }
        broker.publish_own("quick", b"still").unwrap();
        assert_eq!(quick.next().await.unwrap(), Some(("quick".to_owned(), b"still".to_vec())));
        assert_eq!(broker.subscribers(), 5);
        for (_, served) in slow.drain(..4) {
            assert!(matches!(served.await.unwrap(), Err(Error::Slow)));
        }
        drop(slow);
        settle().await;
        assert_eq!(broker.held_bytes(), 0);
    });
}
