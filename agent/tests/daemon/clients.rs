//! Clients that misbehave: garbage, silence, sudden death. The daemon and its other clients do not mind.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wire::ipc::{Reply, Request};

use crate::world::{Client, LOOK, PATIENCE, World, loopback, run};

/// A write that takes longer has stalled.
const STALLED: Duration = Duration::from_secs(3);

#[test]
fn a_frame_that_cannot_be_is_answered_and_ends_the_connection() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut client = daemon.client().await;
        client.socket.write_all(&[0xFF; 64]).await.unwrap();
        let frame = client.next().await.expect("an answer");
        assert!(matches!(frame.reply(), Reply::Error { text, .. } if text.contains("no frame")), "{frame:?}");
        assert_eq!(client.next().await, None);
        daemon.client().await.info().await;
    });
}

#[test]
fn errors_are_worded_as_clients_know_them() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut client = daemon.client().await;
        // From the wire specification's `ipc.json`, and of our own.
        let cases: [(&[u8], &str); 6] = [
            (&[0x7F], "unknown command: 0x7F"),
            (&[0x03, 1, 2], "dial: missing address/port"),
            (&[0x06, 0, 0, 0xFF, 0xFF, 0x78], "connection 65535 not found"),
            (&[0x01, 0, 7], "port 7 already bound"),
            (&[0x0F, 0x06, 0, 0, 0, 9], "handshake revoke: node 9 was not trusted"),
            (&[], "an empty frame has no command"),
        ];
        for (body, expected) in cases {
            client.send_raw(body).await;
            let frame = client.next().await.expect("an answer");
            assert_eq!(frame.reply(), Reply::Error { code: 1, text: expected });
        }
        client.send_raw(&[0x08, 0, 0, 0xFF, 0xFF]).await;
        assert_eq!(client.next().await.unwrap().reply(), Reply::CloseOk { connection: 65535 });
        client.info().await;
    });
}

/// Whatever the mode of the socket. Only root can be another user for once.
#[test]
fn another_user_is_told_to_go() {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        // Where everybody gets to them.
        let program = world.folder().join("pilotctl");
        fs::copy(env!("CARGO_BIN_EXE_pilotctl"), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(world.folder(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&daemon.socket, Permissions::from_mode(0o666)).unwrap();
        let info = |uid| {
            let mut command = Command::new(&program);
            command.env_clear().uid(uid).args(["--json", "--socket"]).arg(&daemon.socket).arg("info");
            spawn_blocking(move || command.output().unwrap())
        };
        let own = info(0).await.unwrap();
        assert!(own.status.success(), "{own:?}");
        let other = info(NOBODY).await.unwrap();
        assert!(!other.status.success(), "{other:?}");
        let said = [other.stdout, other.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(said.contains("serves only the user it runs as"), "{said}");
    });
}

#[test]
fn what_a_client_owned_goes_with_it() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut first = daemon.client().await;
        assert_eq!(first.bind(5000).await, 5000);
        let mut second = daemon.client().await;
        assert_eq!(second.refused(Request::Bind { port: 5000 }).await, "port 5000 already bound");
        drop(first);
        bind_soon(&mut second, 5000).await;
        // And a port given back is free at once.
        second.ask(Request::Unbind { port: 5000 }).await.json();
        assert_eq!(second.bind(5000).await, 5000);
        assert!(second.bind(0).await >= 49152);
    });
}

async fn bind_soon(client: &mut Client, port: u16) {
    let bound = async {
        while !matches!(client.ask(Request::Bind { port }).await.reply(), Reply::BindOk { .. }) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, bound).await.expect("the port does not become free");
}

#[test]
fn a_client_that_never_reads_holds_up_only_itself() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let mut lazy = bravo.client().await;
        let port = lazy.bind(0).await;
        let target = lazy.node().await;

        let mut sender = alpha.client().await;
        let stream = sender.dial(target, port).await;
        fill(&mut sender, stream).await;
        // Others on either side are served meanwhile.
        alpha.client().await.info().await;
        let mut other = bravo.client().await;
        assert_eq!(other.info().await["connections"], 1);
        // When the lazy one dies its stream ends, and so does the sender's.
        drop(lazy);
        let ended = async {
            while other.info().await["connections"] != 0 {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the dead client's stream stays open");
    });
}

#[test]
fn too_many_requests_under_way_are_refused() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut client = daemon.client().await;
        let wait = Request::Handshake(wire::ipc::HandshakeRequest::WaitForTrust {
            node: wire::NodeId(99),
            timeout_ms: 600_000,
        });
        for _ in 0..65 {
            client.send(wait).await;
        }
        let frame = client.next().await.unwrap();
        assert!(matches!(frame.reply(), Reply::Error { text, .. } if text.contains("too many requests")), "{frame:?}");
        client.send(Request::Cancel(&[])).await;
        let mut cancelled = 0;
        loop {
            match client.next().await.unwrap().reply() {
                Reply::Answer { json, .. } => assert_eq!(json, r#"{"cancelled":64}"#),
                Reply::Error { text, .. } => {
                    assert_eq!(text, "cancelled");
                    cancelled += 1;
                }
                other => panic!("{other:?}"),
            }
            if cancelled == 64 {
                break;
            }
        }
    });
}

#[test]
fn a_client_that_dies_with_its_stream_full_is_let_go() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let mut lazy = bravo.client().await;
        let port = lazy.bind(0).await;
        let target = lazy.node().await;
        let mut sender = alpha.client().await;
        let stream = sender.dial(target, port).await;
        fill(&mut sender, stream).await;
        drop(sender);
        // What it wrote is still to be delivered, but it has closed.
        let mut other = alpha.client().await;
        let closed = async {
            while other.info().await["conn_list"][0]["state"] != "FIN_WAIT" {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, closed).await.expect("the dead client's stream stays open");
    });
}

/// Writes until the daemon takes no more.
async fn fill(client: &mut Client, stream: u32) {
    let piece = vec![7; 256 << 10];
    for _ in 0..256 {
        let mut frame = Vec::new();
        Request::Send { connection: stream, data: &piece }.encode(&mut frame);
        if timeout(STALLED, client.socket.write_all(&frame)).await.is_err() {
            return;
        }
    }
    panic!("nothing ever stalls");
}

#[test]
fn a_flood_of_datagrams_starves_nobody() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut client = daemon.client().await;
        let tunnel = client.info().await["endpoint"].as_str().unwrap().to_owned();
        let is_over = Arc::new(AtomicBool::new(false));
        let flood = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let socket = UdpSocket::bind(loopback()).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // Sealed for nobody: as much work as a stranger's datagram can make.
                    let _ = socket.send_to(&[b"PILS".as_slice(), &[7; 200]].concat(), &tunnel);
                }
            }
        });
        let received = async |client: &mut Client| client.info().await["pkts_recv"].as_u64().unwrap();
        let before = received(&mut client).await;
        let served = async {
            while received(&mut client).await < before + 20_000 {
                tokio::task::yield_now().await;
            }
        };
        let served = timeout(PATIENCE, served).await;
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        served.expect("clients are not served under the flood");
    });
}
