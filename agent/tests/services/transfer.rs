//! Files by transfer: broken connections at every step, damage, lies, full disks, old peers.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use agent::services::exchange::receiver::Error;
use agent::services::exchange::sender::Error as SendError;
use agent::services::exchange::transfer::{CONNECTIONS_MAX, Progress, Sent, Transport, send_file};
use agent::services::files::{Chosen, Files as _, Threads, Uring};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::spawn_local;
use wire::NodeId;
use wire::address::Address;
use wire::services::exchange::{Content, Step};

use crate::world::{World, hear, hear_step, hear_text, noise, say, say_step, story};

const CHUNK: usize = 48 << 10;

/// Sends `content`; the first connection breaks after so many bytes written and read.
async fn send(world: &World, content: &[u8], to_write: usize, to_read: usize) -> Result<Sent, SendError> {
    let path = world.own_file(content);
    let is_first = Cell::new(true);
    let dial = async || {
        let is_cut = is_first.replace(false);
        let limit = |bytes: usize| if is_cut { bytes } else { usize::MAX };
        Ok(world.connect_cut(limit(to_write), limit(to_read)))
    };
    send_file(&Threads, &path, "a.bin", dial, |_| {}).await
}

fn id(content: &[u8]) -> ([u8; 16], [u8; 32]) {
    let sha256: [u8; 32] = Sha256::digest(content).into();
    (*sha256.first_chunk().unwrap(), sha256)
}

async fn announce(stream: &mut DuplexStream, content: &[u8], size_bytes: u64) -> [u8; 16] {
    let (id, sha256) = id(content);
    say_step(stream, &id, Step::Init { size_bytes, sha256: &sha256, chunk_bytes: CHUNK as u32, name: "a.bin" }).await;
    id
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[test]
fn files_of_any_size_arrive_whole_and_are_checked() {
    story(async {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7] {
            let world = World::new();
            let content = noise(len);
            let path = world.own_file(&content);
            let heard = RefCell::new(Vec::new());
            let sent = send_file(
                &Threads,
                &path,
                "a.bin",
                async || Ok(world.connect().0),
                |progress: Progress| {
                    heard.borrow_mut().push(progress);
                },
            );
            let sent = sent.await.unwrap();
            assert_eq!((sent.bytes, sent.bytes_resumed, sent.bytes_sent), (len as u64, 0, len as u64));
            assert_eq!((sent.transport, sent.is_verified), (Transport::FileStream, true));
            assert_eq!(sent.sha256, id(&content).1);
            assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
            assert_eq!(world.partials(), []);
            assert_eq!(world.heard.borrow().len(), 1);
            let heard = heard.into_inner();
            assert!(heard.is_sorted_by_key(|progress| progress.acknowledged_bytes));
            assert_eq!(heard.last().map(|progress| progress.acknowledged_bytes), Some(len as u64));
        }
    });
}

#[test]
fn a_connection_may_break_anywhere_and_the_file_arrives_once() {
    story(async {
        let content = noise(5 * CHUNK + 100);
        // Announcement 76 bytes, each chunk 33 and its data, done 25.
        let frames: Vec<usize> = (0..=6).map(|chunk| 76 + chunk * (CHUNK + 33)).collect();
        let total = 76 + 6 * 33 + content.len() + 25;
        let near = |at: usize| [at.saturating_sub(1), at, at + 1, at + 20, at + 40];
        let writes = frames.into_iter().flat_map(near).chain([total - 1, total]).map(|at| (at.min(total), usize::MAX));
        // Opening 33 bytes, acknowledgements 33 each, the last word 26.
        let reads = (0..=33 + 6 * 33 + 26).step_by(8).map(|at| (usize::MAX, at));
        for (to_write, to_read) in writes.chain(reads) {
            let world = World::new();
            let sent = send(&world, &content, to_write, to_read).await;
            let sent = sent.unwrap_or_else(|error| panic!("cut after {to_write} and {to_read}: {error}"));
            assert!(sent.is_verified);
            // The receiver may only now see the end of the first connection.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let files = world.files();
            assert_eq!(files.len(), 1, "cut after {to_write} and {to_read}");
            assert!(files[0].1 == content, "cut after {to_write} and {to_read}");
            assert_eq!(world.partials(), []);
            assert_eq!(world.heard.borrow().len(), 1);
        }
    });
}

#[test]
fn a_transfer_goes_on_where_it_broke() {
    story(async {
        let world = World::new();
        let content = noise(40 * CHUNK);
        let sent = send(&world, &content, 76 + 30 * (CHUNK + 33), usize::MAX).await.unwrap();
        assert!(sent.bytes_sent < content.len() as u64 + 8 * CHUNK as u64, "{sent:?}");
        assert_eq!(world.files()[0].1, content);
        // Another run of the sender finds what the last one left.
        let world = World::new();
        let path = world.own_file(&content);
        let dials = Cell::new(0);
        let dial = async || {
            dials.set(dials.get() + 1);
            if dials.get() > 1 {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            Ok(world.connect_cut(76 + 30 * (CHUNK + 33), usize::MAX))
        };
        let failed = send_file(&Threads, &path, "a.bin", dial, |_| {}).await;
        assert!(matches!(failed, Err(SendError::Stream(_))), "{failed:?}");
        assert!((CONNECTIONS_MAX..=CONNECTIONS_MAX + 1).contains(&dials.get()), "{}", dials.get());
        let sent = send(&world, &content, usize::MAX, usize::MAX).await.unwrap();
        assert!(sent.bytes_resumed >= 20 * CHUNK as u64, "{sent:?}");
        assert_eq!(sent.bytes_sent + sent.bytes_resumed, content.len() as u64);
        assert_eq!(world.files()[0].1, content);
    });
}

/// A daemon takes megabytes from the sender that are on their way still. When the receiver dies, these have not been sent.
#[test]
fn what_a_broken_connection_has_not_brought_is_not_counted() {
    story(async {
        let world = World::new();
        let content = noise(60 * CHUNK);
        let path = world.own_file(&content);
        let dials = Cell::new(0);
        let dial = async || {
            dials.set(dials.get() + 1);
            // The first receiver is killed after some acknowledgements; all the rest of the file is on its way then.
            let to_read = if dials.get() == 1 { 33 + 20 * 33 } else { usize::MAX };
            Ok(world.connect_cut_with_buffer(8 << 20, usize::MAX, to_read))
        };
        let sent = send_file(&Threads, &path, "a.bin", dial, |_| {}).await.unwrap();
        assert_eq!((dials.get(), sent.connections), (2, 2));
        assert!(sent.bytes_resumed >= 20 * CHUNK as u64, "{sent:?}");
        assert_eq!(sent.bytes_sent, content.len() as u64, "nothing was sent twice");
        assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
    });
}

#[test]
fn damage_in_what_an_earlier_connection_brought_is_found_and_sent_anew() {
    story(async {
        let world = World::new();
        let content = noise(10 * CHUNK);
        let (mut stream, served) = world.connect();
        let id = announce(&mut stream, &content, content.len() as u64).await;
        hear_step(&mut stream).await;
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: &content[..CHUNK] }).await;
        hear_step(&mut stream).await;
        drop(stream);
        served.await.unwrap().unwrap();
        let partial = std::fs::read_dir(world.received().join(".partial")).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&partial, noise(CHUNK).into_iter().rev().collect::<Vec<_>>()).unwrap();
        let sent = send(&world, &content, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(sent.bytes_resumed, 0);
        assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
    });
}

#[test]
fn a_partial_that_is_too_long_is_begun_anew() {
    story(async {
        let world = World::new();
        let content = noise(CHUNK);
        let (mut stream, _) = world.connect();
        let id = announce(&mut stream, &content, 2 * CHUNK as u64).await;
        hear_step(&mut stream).await;
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: &noise(CHUNK + 5) }).await;
        hear_step(&mut stream).await;
        drop(stream);
        let sent = send(&world, &content, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(sent.bytes_resumed, 0);
        assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
    });
}

#[test]
fn the_same_file_sent_twice_on_purpose_is_there_twice() {
    story(async {
        let world = World::new();
        for _ in 0..2 {
            send(&world, b"content", usize::MAX, usize::MAX).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let names: Vec<_> = world.files().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.bin", "a.bin"]);
    });
}

#[test]
fn wrong_content_is_never_given_a_name() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let id = announce(&mut stream, b"right", 5).await;
        assert_eq!(hear_step(&mut stream).await.0, 5);
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"wrong" }).await;
        assert_eq!(hear_step(&mut stream).await.0, 3);
        say_step(&mut stream, &id, Step::Done).await;
        let (kind, body) = hear_step(&mut stream).await;
        assert_eq!((kind, body[0]), (6, 1));
        assert!(text(&body).contains("hash mismatch"));
        assert_eq!((world.files(), world.partials()), (vec![], vec![]));
    });
}

#[test]
fn lies_about_sizes_and_places_end_the_transfer_but_not_the_stream() {
    story(async {
        let world = World::with(|config| config.file_bytes_max = 1000);
        let (mut stream, _) = world.connect();
        // More than announced.
        let id = announce(&mut stream, b"x", 3).await;
        assert_eq!(hear_step(&mut stream).await.0, 5);
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"four" }).await;
        assert!(text(&hear_step(&mut stream).await.1).contains("more than was announced"));
        // What follows an abort is passed over.
        say_step(&mut stream, &id, Step::Chunk { offset: 4, data: b"four" }).await;
        say_step(&mut stream, &id, Step::Done).await;
        // A gap.
        let id = announce(&mut stream, b"y", 100).await;
        assert_eq!(hear_step(&mut stream).await.0, 5);
        say_step(&mut stream, &id, Step::Chunk { offset: 50, data: b"late" }).await;
        assert!(text(&hear_step(&mut stream).await.1).contains("missing"));
        say_step(&mut stream, &id, Step::Chunk { offset: u64::MAX, data: b"late" }).await;
        // Less than announced.
        let id = announce(&mut stream, b"z", 100).await;
        assert_eq!(hear_step(&mut stream).await.0, 5);
        say_step(&mut stream, &id, Step::Done).await;
        assert!(text(&hear_step(&mut stream).await.1).contains("100 bytes are missing"));
        // Too big.
        for size_bytes in [1001, u64::MAX] {
            announce(&mut stream, b"w", size_bytes).await;
            let (kind, body) = hear_step(&mut stream).await;
            assert!(kind == 7 && text(&body).contains("too many"), "{}", text(&body));
        }
        // An id of another content.
        let init = Step::Init { size_bytes: 1, sha256: &[7; 32], chunk_bytes: 1, name: "n" };
        say_step(&mut stream, &[8; 16], init).await;
        assert_eq!(hear_step(&mut stream).await.0, 7);
        say(&mut stream, Content::Text(b"still there?")).await;
        assert_eq!(hear_text(&mut stream).await, "ACK TEXT 12 bytes");
        assert_eq!(world.files(), []);
    });
}

#[test]
fn a_chunk_that_comes_twice_is_acknowledged_twice_and_written_once() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        let id = announce(&mut stream, b"abcdef", 6).await;
        hear_step(&mut stream).await;
        for (offset, data, acknowledged) in [(0, &b"abc"[..], 3), (0, b"abc", 3), (3, b"def", 6)] {
            say_step(&mut stream, &id, Step::Chunk { offset, data }).await;
            assert_eq!(hear_step(&mut stream).await, (3, vec![0, 0, 0, 0, 0, 0, 0, acknowledged]));
        }
        say_step(&mut stream, &id, Step::Done).await;
        assert_eq!(hear_step(&mut stream).await, (6, vec![0]));
        assert_eq!(world.files(), [("a.bin".to_owned(), b"abcdef".to_vec())]);
    });
}

#[test]
fn a_full_disk_is_said_to_the_sender_and_the_part_is_removed() {
    story(async {
        let world = World::new();
        world.disk.room.set(Some(3 * CHUNK));
        let refused = send(&world, &noise(200 * CHUNK), usize::MAX, usize::MAX).await;
        assert!(matches!(&refused, Err(SendError::Refused(text)) if text.contains("cannot be stored")), "{refused:?}");
        assert_eq!((world.files(), world.partials()), (vec![], vec![]));
        world.disk.room.set(None);
        send(&world, &noise(200 * CHUNK), usize::MAX, usize::MAX).await.unwrap();
    });
}

#[test]
fn what_could_not_be_flushed_is_not_called_received() {
    story(async {
        let world = World::new();
        world.disk.is_sync_broken.set(true);
        let refused = send(&world, b"content", usize::MAX, usize::MAX).await;
        assert!(matches!(&refused, Err(SendError::Refused(text)) if text.contains("broken")), "{refused:?}");
        assert_eq!((world.files(), world.heard.borrow().len()), (vec![], 0));
    });
}

#[test]
fn a_sender_waits_for_a_disk_that_takes_minutes() {
    story(async {
        let world = World::new();
        world.disk.sync_takes.set(Duration::from_secs(300));
        let content = noise(2 * CHUNK);
        let sent = send(&world, &content, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!((sent.connections, sent.is_verified), (1, true));
        assert_eq!(world.files(), [("a.bin".to_owned(), content.clone())]);
        // Its sender leaves meanwhile: the file is whole nevertheless.
        let (mut stream, served) = world.connect();
        let id = announce(&mut stream, b"second", 6).await;
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"second" }).await;
        say_step(&mut stream, &id, Step::Done).await;
        hear_step(&mut stream).await;
        hear_step(&mut stream).await;
        drop(stream);
        assert!(served.await.unwrap().is_err());
        assert_eq!((world.files().len(), world.heard.borrow().len()), (2, 2));
    });
}

#[test]
fn a_newer_connection_takes_the_transfer_over() {
    story(async {
        let world = World::new();
        let content = noise(3 * CHUNK);
        let (mut old, _) = world.connect();
        let id = announce(&mut old, &content, content.len() as u64).await;
        hear_step(&mut old).await;
        say_step(&mut old, &id, Step::Chunk { offset: 0, data: &content[..CHUNK] }).await;
        hear_step(&mut old).await;
        let sent = send(&world, &content, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(sent.bytes_resumed, CHUNK as u64);
        say_step(&mut old, &id, Step::Chunk { offset: CHUNK as u64, data: &content[CHUNK..2 * CHUNK] }).await;
        assert!(text(&hear_step(&mut old).await.1).contains("another connection"));
        assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
    });
}

#[test]
fn old_receivers_get_the_file_in_one_frame() {
    story(async {
        for is_silent in [false, true] {
            let world = World::new();
            let content = noise(3 * CHUNK);
            let path = world.own_file(&content);
            let dial = async || {
                let (client, mut server) = duplex(64 << 10);
                spawn_local(async move {
                    assert_eq!(hear(&mut server).await.0, 7);
                    if !is_silent {
                        say(&mut server, Content::Text(b"ACK UNKNOWN(7) 68 bytes")).await;
                    }
                    let (kind, payload) = hear(&mut server).await;
                    assert_eq!((kind, &payload[..7]), (4, &b"\0\x05a.bin"[..]));
                    if is_silent {
                        say(&mut server, Content::Text(b"ACK UNKNOWN(7) 68 bytes")).await;
                    }
                    let ack = format!("ACK FILE {} bytes", payload.len());
                    say(&mut server, Content::Text(ack.as_bytes())).await;
                    hear(&mut server).await
                });
                Ok(client)
            };
            let sent = send_file(&Threads, &path, "a.bin", dial, |_| {}).await.unwrap();
            assert_eq!((sent.transport, sent.is_verified), (Transport::Whole, false));
            assert_eq!(sent.bytes_sent, content.len() as u64);
        }
    });
}

#[test]
fn a_file_too_long_for_an_old_receiver_is_not_sent() {
    story(async {
        let world = World::new();
        let path = world.own_file(&vec![0; (16 << 20) + 1]);
        let dial = async || {
            let (client, mut server) = duplex(64 << 10);
            spawn_local(async move {
                hear(&mut server).await;
                say(&mut server, Content::Text(b"ACK UNKNOWN(7) 68 bytes")).await;
                server.read_to_end(&mut Vec::new()).await
            });
            Ok(client)
        };
        let error = send_file(&Threads, &path, "a.bin", dial, |_| {}).await;
        assert!(matches!(error, Err(SendError::NotSendable(_))), "{error:?}");
    });
}

#[test]
fn a_file_too_long_for_one_frame_waits_for_a_slow_receiver() {
    story(async {
        let world = World::new();
        let path = world.own_file(&vec![7; (64 << 20) + 1]);
        let is_first = Cell::new(true);
        let dial = async || {
            if is_first.replace(false) {
                // The announcement, or its answer, takes longer than 5 s.
                let (client, server) = duplex(64 << 10);
                spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    drop(server);
                });
                return Ok(client);
            }
            Ok(world.connect().0)
        };
        let sent = send_file(&Threads, &path, "a.bin", dial, |_| {}).await.unwrap();
        assert!(sent.is_verified);
    });
}

#[test]
fn hostile_receivers_are_given_up_with_a_reason() {
    story(async {
        let world = World::new();
        let content = noise(3 * CHUNK);
        let path = world.own_file(&content);
        let (of, _) = id(&content);
        // (what it says to the announcement, whether that is refused at once)
        let answers: [(Vec<u8>, &str); 4] = [
            (step(&of, Step::InitAck { offset: 1 << 40 }), "resume point"),
            (step(&of, Step::Abort { text: b"no" }), "refuses: no"),
            (b"HTTP/1.1 400 Bad Request".to_vec(), "makes no sense"),
            (step(&of, Step::Complete { status: 3, text: b"what?" }), "refuses: what?"),
        ];
        for (answer, expected) in answers {
            let dial = async || {
                let (client, mut server) = duplex(64 << 10);
                let answer = answer.clone();
                spawn_local(async move {
                    hear(&mut server).await;
                    server.write_all(&answer).await.unwrap();
                    server.read_to_end(&mut Vec::new()).await
                });
                Ok(client)
            };
            let error = send_file(&Threads, &path, "a.bin", dial, |_| {}).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        // Opens, then neither reads nor says anything.
        let dials = Rc::new(Cell::new(0));
        let dial = async || {
            dials.set(dials.get() + 1);
            let (client, mut server) = duplex(1000);
            spawn_local(async move {
                hear(&mut server).await;
                server.write_all(&step(&of, Step::InitAck { offset: 0 })).await.unwrap();
                tokio::time::sleep(Duration::from_secs(100_000)).await;
                drop(server);
            });
            Ok(client)
        };
        let error = send_file(&Threads, &path, "a.bin", dial, |_| {}).await;
        assert!(matches!(error, Err(SendError::Silent(60))), "{error:?}");
        assert_eq!(dials.get(), CONNECTIONS_MAX);
    });
}

fn step(id: &[u8; 16], step: Step<'_>) -> Vec<u8> {
    crate::world::encode(Content::FileStream { id, step })
}

#[test]
fn a_sender_that_stops_leaves_its_part_for_later() {
    story(async {
        let world = World::new();
        let (mut stream, served) = world.connect();
        let id = announce(&mut stream, b"abcdef", 6).await;
        hear_step(&mut stream).await;
        say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"abc" }).await;
        hear_step(&mut stream).await;
        assert!(matches!(served.await.unwrap(), Err(Error::Silent)));
        assert_eq!((world.files().len(), world.partials().len()), (0, 1));
    });
}

#[test]
fn parts_that_nobody_finishes_are_bounded() {
    story(async {
        let world = World::new();
        let (mut stream, _) = world.connect();
        for number in 0_u32..200 {
            let id = announce(&mut stream, &number.to_be_bytes(), 100).await;
            hear_step(&mut stream).await;
            say_step(&mut stream, &id, Step::Chunk { offset: 0, data: b"abc" }).await;
            hear_step(&mut stream).await;
        }
        assert!(world.partials().len() <= 8, "{}", world.partials().len());
    });
}

#[test]
fn a_part_that_is_being_written_is_kept_and_other_peers_parts_too() {
    story(async {
        let world = World::new();
        let content = noise(2 * CHUNK);
        let (mut running, _) = world.connect();
        let id = announce(&mut running, &content, content.len() as u64).await;
        hear_step(&mut running).await;
        say_step(&mut running, &id, Step::Chunk { offset: 0, data: &content[..CHUNK] }).await;
        hear_step(&mut running).await;
        let (mut other, _) = world.connect_from(Address { network: 0, node: NodeId(77) });
        announce(&mut other, b"theirs", 6).await;
        hear_step(&mut other).await;
        drop(other);
        let (mut stream, _) = world.connect();
        for number in 0_u32..100 {
            announce(&mut stream, &number.to_be_bytes(), 4).await;
            hear_step(&mut stream).await;
        }
        say_step(&mut running, &id, Step::Chunk { offset: CHUNK as u64, data: &content[CHUNK..] }).await;
        hear_step(&mut running).await;
        say_step(&mut running, &id, Step::Done).await;
        assert_eq!(hear_step(&mut running).await, (6, vec![0]));
        assert_eq!(world.files(), [("a.bin".to_owned(), content)]);
        assert!(world.partials().iter().any(|(name, _)| name.starts_with("77-")));
        assert!(world.partials().len() <= 9, "{:?}", world.partials());
    });
}

#[test]
fn a_file_that_would_fill_the_disk_is_refused_before_it_comes() {
    story(async {
        let world = World::new();
        world.disk.free_bytes.set(Some((1 << 40) / 100 + 1000));
        let refused = send(&world, &noise(1001), usize::MAX, usize::MAX).await;
        let is_clear = |text: &str| text.contains("room for 1000 bytes, not 1001");
        assert!(matches!(&refused, Err(SendError::Refused(text)) if is_clear(text)), "{refused:?}");
        assert_eq!((world.files(), world.partials()), (vec![], vec![]));
        send(&world, &noise(1000), usize::MAX, usize::MAX).await.unwrap();
        let (mut stream, _) = world.connect();
        say(&mut stream, Content::File { name: "a", data: &noise(1001) }).await;
        let answer = hear_text(&mut stream).await;
        assert!(is_clear(&answer), "{answer}");
        // The real disk says something sensible.
        let space = Threads.space(world.folder.path()).await.unwrap();
        assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
    });
}

#[test]
fn a_file_that_shrinks_meanwhile_is_noticed() {
    story(async {
        let world = World::new();
        let path = world.own_file(&noise(10 * CHUNK));
        let dial = async || {
            // The file has been hashed by now.
            std::fs::write(world.folder.path().join("own file"), b"short").unwrap();
            Ok(world.connect().0)
        };
        let error = send_file(&Threads, &path, "a.bin", dial, |_| {}).await;
        assert!(matches!(error, Err(SendError::Changed)), "{error:?}");
        let nothing =
            send_file(&Threads, &world.inbox().join("none"), "a", async || Ok(world.connect().0), |_| {}).await;
        assert!(matches!(nothing, Err(SendError::File(_))));
    });
}

/// The ring is a back end like the other, where the kernel allows it.
#[test]
fn the_ring_reads_and_writes_files() {
    let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("skipped: no io_uring here ({error})");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let content = noise(30 * CHUNK + 5);
    let own = folder.path().join("own");
    std::fs::write(&own, &content).unwrap();
    let received = folder.path().join("received");
    runtime.block_on(async {
        let config = agent::services::exchange::receiver::Config::new(folder.path().join("inbox"), received.clone());
        let receiver = agent::services::exchange::receiver::Receiver::new(
            config,
            Chosen::Uring(Uring),
            Rc::new(|| Duration::from_secs(crate::world::UNIX)),
            Rc::new(|_| {}),
        );
        let receiver = Rc::new(receiver);
        let dial = async || {
            let (client, server) = duplex(64 << 10);
            let receiver = Rc::clone(&receiver);
            tokio_uring::spawn(async move { receiver.serve(crate::world::PEER, server).await });
            Ok(client)
        };
        let sent = send_file(&Chosen::Uring(Uring), &own, "a.bin", dial, |_| {}).await.unwrap();
        assert!(sent.is_verified);
    });
    assert_eq!(crate::world::unstamped(crate::world::contents(&received)), [("a.bin".to_owned(), content)]);
}
