//! Secure channels between programs of two nodes: each daemon signs for its own and knows the other's key.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use agent::client::{Client, Listener, SecureError, Stream};
use agent::daemon::clock::{chance, secret, unix_time};
use agent::identity::{Identity, has_signed};
use agent::services::secure::{self, Chance, Channel, Error, Parties, Proofs, Role};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_blocking;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::ipc::Request;
use wire::services::secure::signed;

use crate::world::{Daemon, World, run};

const PORT: u16 = 443;

/// A program of alpha and one of bravo, which listens.
struct Programs {
    _world: World,
    _daemons: [Daemon; 2],
    alpha: Client,
    bravo: Client,
    listener: Listener,
    to: SocketAddress,
}

impl Programs {
    async fn new() -> Self {
        let world = World::new();
        let (a, b) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (alpha, bravo) = (Client::connect(&a.socket).await.unwrap(), Client::connect(&b.socket).await.unwrap());
        let listener = bravo.listen(PORT).await.unwrap();
        let (node, _) = bravo.identity(None).await.unwrap();
        let to = SocketAddress { address: node.address(), port: PORT };
        Self { _world: world, _daemons: [a, b], alpha, bravo, listener, to }
    }

    /// Alpha's end, and bravo's.
    async fn streams(&mut self) -> (Stream, Stream) {
        let (dialled, accepted) = tokio::join!(self.alpha.dial(self.to), self.listener.accept());
        (dialled.unwrap(), accepted.unwrap())
    }
}

fn fresh() -> Chance {
    Chance { secret: secret().unwrap(), nonce: chance().unwrap() }
}

async fn opened(client: &Client, stream: Stream, role: Role) -> Result<Channel<Stream>, SecureError> {
    client.secure(stream, role, fresh(), Rc::new(unix_time), &RefCell::default()).await
}

#[test]
fn two_programs_prove_who_they_are_and_talk() {
    run(|| async {
        let mut programs = Programs::new().await;
        let (near, far) = programs.streams().await;
        let (client, server) =
            tokio::join!(opened(&programs.alpha, near, Role::Client), opened(&programs.bravo, far, Role::Server));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let long = vec![7; 300_000];
        let (written, heard) = tokio::join!(client.write(&long), server.read());
        written.unwrap();
        assert!(heard.unwrap() == Some(long), "other bytes have come");
        server.write(b"thanks").await.unwrap();
        assert_eq!(client.read().await.unwrap(), Some(b"thanks".to_vec()));
        let (_, mut writer) = server.split();
        writer.shutdown().await.unwrap();
        assert_eq!(client.read().await.unwrap(), None);
    });
}

#[test]
fn whoever_signs_with_another_key_is_refused() {
    run(|| async {
        let mut programs = Programs::new().await;
        let (near, far) = programs.streams().await;
        let eve = (programs.to.address.node, Identity::from_seed(&[9; 32]));
        let (own, own_key) = programs.alpha.identity(None).await.unwrap();
        let seen = RefCell::<Proofs>::default();
        let parties =
            Parties { own: eve.0, signer: &eve, peer: own, peer_key: own_key, clock: Rc::new(unix_time), seen: &seen };
        let (client, server) = tokio::join!(
            opened(&programs.alpha, near, Role::Client),
            secure::open(far, Role::Server, fresh(), Some(parties)),
        );
        let Err(SecureError::Channel(Error::NotProven(node, why))) = client else { panic!("it opened") };
        assert_eq!((node, why), (programs.to.address.node, "the signature is wrong"));
        assert!(server.is_err(), "the refused side has no channel either");
    });
}

#[test]
fn a_peer_that_proves_nothing_is_refused() {
    run(|| async {
        let mut programs = Programs::new().await;
        // It opens a channel as old releases do, and waits.
        let (near, far) = programs.streams().await;
        let unproven = async {
            let mut channel = secure::open(far, Role::Server, fresh(), None).await.unwrap();
            channel.read().await
        };
        let (client, _) = tokio::join!(opened(&programs.alpha, near, Role::Client), unproven);
        assert!(matches!(client, Err(SecureError::Channel(Error::Silent))), "{:?}", client.err());
        // It speaks something else altogether.
        let (near, mut far) = programs.streams().await;
        let plain = async {
            far.write_all(&[b'x'; 100]).await.unwrap();
            far.read_to_end(&mut Vec::new()).await
        };
        let (client, _) = tokio::join!(opened(&programs.alpha, near, Role::Client), plain);
        assert!(matches!(client, Err(SecureError::Channel(Error::Malformed(_)))), "{:?}", client.err());
        // Or it dials so.
        let (mut near, far) = programs.streams().await;
        let plain = async {
            near.write_all(&[b'x'; 100]).await.unwrap();
            near.read_to_end(&mut Vec::new()).await
        };
        let (server, _) = tokio::join!(opened(&programs.bravo, far, Role::Server), plain);
        assert!(matches!(server, Err(SecureError::Channel(Error::Malformed(_)))), "{:?}", server.err());
    });
}

#[test]
fn a_daemon_signs_proofs_of_its_own_node_for_now_and_nothing_else() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let client = Client::connect(&daemon.socket).await.unwrap();
        let (node, key) = client.identity(None).await.unwrap();
        assert_eq!(client.identity(Some(node)).await.unwrap(), (node, key), "the directory has the same");
        let now = unix_time().as_secs();
        let question = |unix: u64, nonce: &[u8]| {
            let (x25519, nonce) = (STANDARD.encode([1; 32]), STANDARD.encode(nonce));
            json!({"op": "sign_secure", "x25519": x25519, "unix": unix, "nonce": nonce, "node_id": 99}).to_string()
        };
        let answer = client.ask(Request::Extension(&question(now, &[2; 16]))).await.unwrap();
        assert_eq!(answer["node_id"], node.0);
        let signature = STANDARD.decode(answer["signature"].as_str().unwrap()).unwrap().try_into().unwrap();
        assert!(has_signed(&key, &signed(node, &[1; 32], now, &[2; 16]), &signature));
        for (question, complaint) in [
            (question(now + 3600, &[2; 16]), "for now only"),
            (question(now, &[2; 15]), "16 bytes"),
            (r#"{"op":"sign_secure","text":"anything"}"#.to_owned(), "expected"),
            (r#"{"op":"identity","node_id":"x"}"#.to_owned(), "a node's number"),
            (r#"{"op":"identity","node_id":4000000}"#.to_owned(), "is not known"),
        ] {
            let refused = client.ask(Request::Extension(&question)).await.unwrap_err().to_string();
            assert!(refused.contains(complaint), "{question}: {refused}");
        }
        assert!(matches!(client.identity(Some(NodeId(4_000_000))).await, Err(SecureError::Request(_))));
    });
}

fn pilotctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotctl"));
    command.args(arguments).env("PILOT_SOCKET", socket).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_command_line_says_nothing_to_whoever_proves_nothing() {
    run(|| async {
        let world = World::new();
        let (a, b) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let bravo = Client::connect(&b.socket).await.unwrap();
        let target = bravo.identity(None).await.unwrap().0.to_string();
        let sender = a.socket.clone();

        // The first to come speaks no secure channel, and does not count; the second does.
        let mut receiving = pilotctl(&b.socket, &["recv", "--secure", "--timeout", "60s"]).spawn().unwrap();
        let mut talk = BufReader::new(receiving.stderr.take().unwrap());
        let (waiting, talk) = spawn_blocking(move || {
            let mut line = String::new();
            talk.read_line(&mut line).unwrap();
            (line, talk)
        })
        .await
        .unwrap();
        assert!(waiting.contains("port 443"), "{waiting}");
        let (plain, secure, received, said) = spawn_blocking({
            let (sender, target, mut talk) = (sender.clone(), target.clone(), talk);
            move || {
                let garbage = "x".repeat(100);
                let plain = pilotctl(&sender, &["send", &target, "443", "--data", &garbage]).output().unwrap();
                let secure = pilotctl(&sender, &["connect", &target, "--secure", "-m", "hello"]).output().unwrap();
                let received = receiving.wait_with_output().unwrap();
                let mut said = String::new();
                talk.read_to_string(&mut said).unwrap();
                (plain, secure, received, said)
            }
        })
        .await
        .unwrap();
        assert!(!String::from_utf8_lossy(&plain.stdout).contains("hello"));
        assert!(secure.status.success(), "{secure:?}");
        assert!(received.status.success() && received.stdout == b"hello\n", "{received:?}");
        assert!(said.contains("refused 0:0000.") && said.contains("has proved who it is"), "{said}");

        // A peer that opens the channel, and proves nothing: what was to be said stays here.
        let mut listener = bravo.listen(PORT).await.unwrap();
        let connecting = spawn_blocking(move || {
            pilotctl(&sender, &["--json", "connect", &target, "--secure", "-m", "hello"]).output().unwrap()
        });
        let far = listener.accept().await.unwrap();
        let mut channel = secure::open(far, Role::Server, fresh(), None).await.unwrap();
        channel.write(b"GET /").await.unwrap();
        let heard = channel.read().await;
        assert!(!matches!(heard, Ok(Some(_))), "{heard:?}");
        let refused = connecting.await.unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{complaint}");
        assert!(
            complaint.contains("does not prove that it is node") && complaint.contains("recv --secure"),
            "{complaint}"
        );
    });
}
