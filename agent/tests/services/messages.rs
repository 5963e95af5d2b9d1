//! Messages: the inbox, its bounds, and hostile peers.

use std::time::Duration;

use agent::services::exchange::folder;
use agent::services::exchange::inbox::{Inbox, Stored};
use agent::services::exchange::receiver::Error;
use agent::services::exchange::sender::{self, Message};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::spawn_local;
use wire::NodeId;
use wire::address::Address;
use wire::services::exchange::{Content, Tag};

use crate::world::{STAMP, World, contents, encode, hear, hear_text, noise, say, story};

#[test]
fn messages_lie_in_the_inbox_as_they_were_sent() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let long = "zwölf \"Boxkämpfer\"\n\u{1f600}\0".repeat(30_000);
        let binary = noise(400_001);
        let tag = Tag { message_id: Some("q-1"), reply_to: Some("q-0") };
        for (message, tag, ack) in [
            (Message::Text("hello there"), None, "ACK TEXT 11 bytes".to_owned()),
            (Message::Json("{\"a\":1}"), Some(tag), "ACK JSON 7 bytes".to_owned()),
            (Message::Text(&long), None, format!("ACK TEXT {} bytes", long.len())),
            (Message::Binary(&binary), None, "ACK BINARY 400001 bytes".to_owned()),
            (Message::Text(""), None, "ACK TEXT 0 bytes".to_owned()),
        ] {
            let acknowledged = sender::send(&mut stream, message, tag).await.unwrap();
            assert_eq!((acknowledged.text, acknowledged.is_tagged), (ack, tag.is_some()));
        }
        let stored: Vec<_> = Inbox::open(&world.inbox()).unwrap().messages().collect();
        assert_eq!(stored.len(), 5);
        assert!(stored.iter().rev().is_sorted_by_key(|stored| stored.id.split_once('-').unwrap().1.to_owned()));
        let mut messages = stored.into_iter().rev();
        let Stored { id, message: first, .. } = messages.next().unwrap();
        assert!(id.starts_with(&format!("TEXT{STAMP}")), "{id}");
        assert_eq!((first.kind.as_str(), first.from.as_str()), ("TEXT", "0:0000.0000.0002"));
        assert_eq!((first.data.as_deref(), first.bytes), (Some("hello there"), 11));
        assert_eq!((first.data_encoding.as_deref(), first.data_b64.as_deref()), (Some("utf8"), None));
        assert_eq!(first.received_at, "2026-01-01T00:00:00.000000000Z");
        let second = messages.next().unwrap().message;
        assert_eq!((second.kind.as_str(), second.data.as_deref()), ("JSON", Some("{\"a\":1}")));
        assert_eq!((second.message_id.as_deref(), second.reply_to.as_deref()), (Some("q-1"), Some("q-0")));
        assert_eq!(messages.next().unwrap().message.data, Some(long));
        let fourth = messages.next().unwrap().message;
        assert_eq!((fourth.data_encoding.as_deref(), fourth.data.as_deref()), (Some("base64"), None));
        assert_eq!(fourth.body(), binary);
        assert_eq!(messages.next().unwrap().message.data.as_deref(), Some(""));
    });
}

/// The fields of a file are those that existing daemons write, so that existing tools read it.
#[test]
fn files_of_messages_have_the_known_fields() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let tag = Tag { message_id: Some("q-1"), reply_to: Some("q-0") };
        sender::send(&mut stream, Message::Text("hello \"wörld\""), Some(tag)).await.unwrap();
        // What is text as well, but was not sent as such; and text that is none.
        sender::send(&mut stream, Message::Binary(b"bin"), None).await.unwrap();
        say(&mut stream, Content::Text(b"\xff")).await;
        hear_text(&mut stream).await;
        let files = contents(&world.inbox()).into_iter();
        let mut files = files.map(|(_, text)| serde_json::from_slice::<serde_json::Value>(&text).unwrap());
        let (from, received_at) = ("0:0000.0000.0002", "2026-01-01T00:00:00.000000000Z");
        let expected = [
            json!({"type": "BINARY", "from": from, "bytes": 3, "received_at": received_at, "data_encoding": "base64",
                "data_b64": "Ymlu"}),
            json!({"type": "TEXT", "from": from, "bytes": 14, "received_at": received_at, "data_encoding": "utf8",
                "data": "hello \"wörld\"", "message_id": "q-1", "reply_to": "q-0"}),
            json!({"type": "TEXT", "from": from, "bytes": 1, "received_at": received_at, "data_encoding": "base64",
                "data_b64": "/w=="}),
        ];
        for message in expected {
            assert_eq!(files.next(), Some(message));
        }
        assert_eq!(files.next(), None);
    });
}

#[test]
fn folders_that_do_not_exist_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    assert_eq!(Inbox::open(&nowhere).unwrap().entries(), []);
    assert_eq!(folder::entries(&nowhere).unwrap(), []);
}

#[test]
fn a_full_inbox_refuses_until_it_is_emptied() {
    story(async {
        let world = World::with(|config| config.inbox_messages_max = 2);
        let (mut stream, _) = world.connect();
        for _ in 0..2 {
            sender::send(&mut stream, Message::Text("x"), None).await.unwrap();
        }
        let refused = sender::send(&mut stream, Message::Text("x"), None).await;
        assert!(matches!(&refused, Err(sender::Error::Refused(text)) if text.contains("full")), "{refused:?}");
        let all = folder::entries(&world.inbox()).unwrap();
        assert_eq!(folder::remove(&all).unwrap(), 2);
        sender::send(&mut stream, Message::Text("x"), None).await.unwrap();
    });
}

#[test]
fn an_inbox_is_bounded_in_bytes_too() {
    story(async {
        let world = World::with(|config| config.inbox_bytes_max = 10_000);
        let (mut stream, _) = world.connect();
        let refused = sender::send(&mut stream, Message::Binary(&noise(10_001)), None).await;
        assert!(matches!(refused, Err(sender::Error::Refused(_))));
        sender::send(&mut stream, Message::Binary(&noise(100)), None).await.unwrap();
    });
}

#[test]
fn a_full_disk_is_said_to_the_sender_and_leaves_nothing_behind() {
    story(async {
        for room in [0, 100, 200_000] {
            let world = World::new();
            world.disk.room.set(Some(room));
            let (mut stream, _) = world.connect();
            let refused = sender::send(&mut stream, Message::Binary(&noise(1_000_000)), None).await;
            assert!(
                matches!(&refused, Err(sender::Error::Refused(text)) if text.contains("cannot be stored")),
                "{refused:?}"
            );
            say(&mut stream, Content::File { name: "a", data: &noise(3 << 20) }).await;
            assert!(hear_text(&mut stream).await.starts_with("ERR the file cannot be stored"));
            assert_eq!((contents(&world.inbox()), world.files(), world.partials()), (vec![], vec![], vec![]));
            assert_eq!(contents(&world.inbox().join(".partial")), []);
            // The stream is as good as before.
            world.disk.room.set(None);
            sender::send(&mut stream, Message::Text("x"), None).await.unwrap();
            assert_eq!(world.heard.borrow().len(), 1);
        }
    });
}

#[test]
fn files_never_take_the_place_of_others_nor_leave_the_folder() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        for (name, data) in
            [("a.txt", "1"), ("a.txt", "2"), ("../a.txt", "3"), ("/etc/passwd", "4"), ("..", "5"), ("", "6")]
        {
            say(&mut stream, Content::File { name, data: data.as_bytes() }).await;
            assert_eq!(hear_text(&mut stream).await, format!("ACK FILE {} bytes", 3 + name.len()));
        }
        let files: Vec<_> =
            world.files().into_iter().map(|(name, data)| (name, String::from_utf8(data).unwrap())).collect();
        let expected = [("_.", "5"), ("a.txt", "1"), ("a.txt", "2"), ("a.txt", "3"), ("file", "6"), ("passwd", "4")];
        assert_eq!(files, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
        assert_eq!(folder::entries(&world.received()).unwrap().len(), 6);
        assert_eq!(contents(world.folder.path()), []);
    });
}

#[test]
fn an_old_receiver_gets_the_message_without_its_tag() {
    story(async {
        let (mut client, mut server) = duplex(64 << 10);
        let old = spawn_local(async move {
            assert_eq!(hear(&mut server).await.0, 10);
            say(&mut server, Content::Text(b"ACK UNKNOWN(10) 42 bytes")).await;
            assert_eq!(hear(&mut server).await, (1, b"hello".to_vec()));
            say(&mut server, Content::Text(b"ACK TEXT 5 bytes")).await;
        });
        let tag = Tag { message_id: Some("m"), reply_to: None };
        let acknowledged = sender::send(&mut client, Message::Text("hello"), Some(tag)).await.unwrap();
        assert_eq!((acknowledged.text.as_str(), acknowledged.is_tagged), ("ACK TEXT 5 bytes", false));
        old.await.unwrap();
    });
}

#[test]
fn senders_hear_why_when_there_is_no_acknowledgement() {
    story(async {
        let (mut client, server) = duplex(64 << 10);
        let silent = sender::send(&mut client, Message::Text("x"), None).await;
        assert!(matches!(silent, Err(sender::Error::Silent(60))), "{silent:?}");
        drop(server);
        let (mut client, mut server) = duplex(64 << 10);
        let closing = spawn_local(async move { hear(&mut server).await });
        let closed = sender::send(&mut client, Message::Text("x"), None).await;
        assert!(matches!(closed, Err(sender::Error::Closed)), "{closed:?}");
        closing.await.unwrap();
        let (mut client, mut server) = duplex(64 << 10);
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let garbage = sender::send(&mut client, Message::Text("x"), None).await;
        assert!(matches!(garbage, Err(sender::Error::Malformed(_))), "{garbage:?}");
        // A peer that takes nothing.
        let (mut client, _server) = duplex(16);
        let stuck = sender::send(&mut client, Message::Binary(&noise(1000)), None).await;
        assert!(matches!(stuck, Err(sender::Error::Silent(60))), "{stuck:?}");
        let wrong = Tag { message_id: Some("no spaces"), reply_to: None };
        let wrong = sender::send(&mut client, Message::Text("x"), Some(wrong)).await;
        assert!(matches!(wrong, Err(sender::Error::NotSendable(_))), "{wrong:?}");
    });
}

#[test]
fn garbage_and_lying_lengths_end_the_stream_with_a_word() {
    story(async {
        let world = World::new();
        let too_long = [0, 0, 0, 1, 4, 0, 0, 1];
        let nested = encode(Content::Unknown { kind: 10, payload: b"\0\x02{}\0\0\0\x0a" });
        let no_name = encode(Content::Unknown { kind: 4, payload: b"\xff\xffa" });
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &too_long, &nested, &no_name, &[0xff; 100]] {
            let (mut stream, served) = world.connect();
            stream.write_all(bytes).await.unwrap();
            assert!(hear_text(&mut stream).await.starts_with("ERR "), "{bytes:?}");
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            assert!(matches!(served.await.unwrap(), Err(Error::Malformed(_))));
        }
        assert_eq!(world.heard.borrow().len(), 0);
    });
}

#[test]
fn unknown_types_are_acknowledged_by_number_and_traces_refused() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        say(&mut stream, Content::Unknown { kind: 99, payload: b"abc" }).await;
        assert_eq!(hear_text(&mut stream).await, "ACK UNKNOWN(99) 3 bytes");
        say(&mut stream, Content::Trace(b"abc")).await;
        assert!(hear_text(&mut stream).await.starts_with("ERR "));
        assert_eq!(world.heard.borrow().len(), 0);
    });
}

#[test]
fn a_peer_that_stops_within_a_message_or_reads_no_answers_is_given_up() {
    story(async {
        let world = World::new();
        let (mut stream, served) = world.connect();
        stream.write_all(&encode(Content::Text(b"hello"))[..10]).await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        // Its answers fill the way back.
        let (mut stream, served) = world.connect();
        let flood = spawn_local(async move {
            while stream.write_all(&encode(Content::Unknown { kind: 99, payload: b"" })).await.is_ok() {}
            stream
        });
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        flood.await.unwrap();
        // An end within a message is no orderly one.
        let (mut stream, served) = world.connect();
        stream.write_all(&encode(Content::Text(b"hello"))[..10]).await.unwrap();
        drop(stream);
        assert!(matches!(served.await.unwrap(), Err(Error::Stream(_))));
        assert_eq!(world.heard.borrow().len(), 0);
    });
}

#[test]
fn long_messages_wait_for_each_other() {
    story(async {
        let world = World::new();
        // Four that promise much and send nothing more.
        let mut hogs = Vec::new();
        for node in 10..14 {
            let (mut stream, served) = world.connect_from(Address { network: 0, node: NodeId(node) });
            stream.write_all(&[0, 0, 0, 2, 2, 0, 0, 0]).await.unwrap();
            hogs.push((stream, served));
        }
        let (mut stream, _) = world.connect();
        sender::send(&mut stream, Message::Text("short ones pass"), None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let begun = tokio::time::Instant::now();
        // The hogs are given up after a minute in all.
        sender::send(&mut stream, Message::Binary(&noise(2 << 20)), None).await.unwrap();
        assert!(begun.elapsed().as_secs() > 25);
        for (_, served) in hogs {
            assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        }
    });
}

#[test]
fn one_peer_cannot_take_the_room_of_others() {
    story(async {
        let world = World::new();
        let mut hogs = Vec::new();
        for _ in 0..10 {
            let (mut stream, served) = world.connect_from(Address { network: 0, node: NodeId(10) });
            stream.write_all(&[0, 0, 0, 2, 2, 0, 0, 0]).await.unwrap();
            hogs.push((stream, served));
        }
        let (mut stream, _) = world.connect();
        let begun = tokio::time::Instant::now();
        sender::send(&mut stream, Message::Binary(&noise(2 << 20)), None).await.unwrap();
        assert!(begun.elapsed().as_secs() < 30);
        for (_, served) in hogs {
            assert!(matches!(served.await.unwrap(), Err(Error::Silent | Error::Busy)));
        }
    });
}
