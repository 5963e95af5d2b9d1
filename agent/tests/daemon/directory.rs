//! The directory's client against the real directory, and against listeners that misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::config::values::{Fingerprint, HostPort};
use agent::daemon::directory::{Directory, Place, Status};
use agent::node::Unanswered;
use directory::{NoRelay, Running, Tls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use wire::NodeId;
use wire::registry::{Answer, Operation};

use crate::world::{LOOK, PATIENCE, loopback, run};

struct Served {
    running: Running,
    _folder: TempDir,
}

fn serve(listen: SocketAddr, tls: Tls) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let mut config = directory::Config::new(folder.path());
    config.listen = vec![listen];
    config.tls = tls;
    config.exempt = vec!["127.0.0.0/8".parse().unwrap()];
    let running = directory::start(config, Arc::new(NoRelay::default())).unwrap();
    Served { running, _folder: folder }
}

fn place(address: SocketAddr) -> Place {
    Place { registry: HostPort::parse(&address.to_string()).unwrap(), fingerprint: None }
}

const LOOKUP: Operation = Operation::Lookup { node_id: NodeId(7) };

fn is_not_found(answer: &Result<Answer, Unanswered>) -> bool {
    matches!(answer, Ok(Answer::Error { error }) if error.contains("not found"))
}

#[test]
fn answers_match_questions() {
    run(|| async {
        let served = serve(loopback(), Tls::Off);
        let mut place = place(served.running.local_addrs()[0]);
        // By name, too.
        place.registry.host = "localhost".to_owned();
        let directory = Directory::new(place, 1);
        assert_eq!(directory.status(), Status::Idle);
        // Many at once, two kinds in turn, over one connection.
        let asked: Vec<_> = (0..200)
            .map(|number| {
                let directory = directory.clone();
                let operation = if number % 2 == 0 { Operation::ListNetworks } else { LOOKUP };
                tokio::task::spawn_local(async move { directory.ask(operation.into()).await })
            })
            .collect();
        for (number, answer) in asked.into_iter().enumerate() {
            let answer = answer.await.unwrap();
            let is_right =
                if number % 2 == 0 { matches!(answer, Ok(Answer::ListNetworks { .. })) } else { is_not_found(&answer) };
            assert!(is_right, "{number}: {answer:?}");
        }
        assert_eq!(directory.status(), Status::Connected);
    });
}

#[test]
fn a_directory_that_is_away_fails_questions_at_once_and_is_found_again() {
    run(|| async {
        let address = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
        let directory = Directory::new(place(address), 1);
        let answer = timeout(PATIENCE, directory.ask(LOOKUP.into())).await.unwrap();
        let Err(Unanswered::Unreachable(reason)) = answer else { panic!("{answer:?}") };
        assert!(reason.contains(&address.to_string()) && reason.contains("refused"), "{reason}");
        let _served = serve(address, Tls::Off);
        answered(&directory).await;
    });
}

async fn answered(directory: &Directory) {
    let found = async {
        while !is_not_found(&directory.ask(LOOKUP.into()).await) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, found).await.expect("the directory is not found again");
}

#[test]
fn a_directory_that_restarts_is_found_again() {
    run(|| async {
        let served = serve(loopback(), Tls::Off);
        let address = served.running.local_addrs()[0];
        let directory = Directory::new(place(address), 1);
        answered(&directory).await;
        served.running.shutdown();
        let _served = serve(address, Tls::Off);
        answered(&directory).await;
    });
}

#[test]
fn only_the_directory_with_the_fingerprint_is_spoken_to() {
    run(|| async {
        let served = serve(loopback(), Tls::SelfSigned);
        let mut place = place(served.running.local_addrs()[0]);
        place.fingerprint = Some(Fingerprint::parse(&served.running.tls_fingerprint().unwrap()).unwrap());
        assert!(is_not_found(&Directory::new(place.clone(), 1).ask(LOOKUP.into()).await));
        place.fingerprint = Some(Fingerprint([7; 32]));
        let answer = Directory::new(place.clone(), 1).ask(LOOKUP.into()).await;
        assert!(
            matches!(&answer, Err(Unanswered::Unreachable(reason)) if reason.contains("fingerprint")),
            "{answer:?}"
        );
        let plain = serve(loopback(), Tls::Off);
        place.registry = self::place(plain.running.local_addrs()[0]).registry;
        let answer = Directory::new(place, 1).ask(LOOKUP.into()).await;
        assert!(
            matches!(&answer, Err(Unanswered::Unreachable(reason)) if reason.contains("speaking TLS")),
            "{answer:?}"
        );
    });
}

/// What a directory's client hears from a listener that reads one question and then sends `bytes`, or nothing at all.
async fn heard(bytes: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let directory = Directory::new(place(listener.local_addr().unwrap()), 1);
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut question = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut question).await.unwrap();
        stream.write_all(bytes.unwrap_or_default()).await.unwrap();
        if bytes.is_none() {
            // The connection stays open, and silent.
            assert_eq!(stream.read(&mut length).await.unwrap(), 0, "the client gives up");
        }
    };
    let (answer, ()) = tokio::join!(timeout(PATIENCE, directory.ask(LOOKUP.into())), answering);
    let Err(Unanswered::Unreachable(reason)) = answer.unwrap() else { panic!("an answer") };
    reason
}

#[test]
fn nonsense_is_named() {
    run(|| async {
        assert!(heard(Some(b"HTTP/1.1 400 Bad Request")).await.contains("another protocol"));
        assert!(heard(Some(b"\0\0\0\x04nope")).await.contains("not an answer"));
        assert!(heard(Some(b"\0\0\0\x02{}")).await.contains("not an answer"));
        assert!(heard(Some(b"")).await.contains("closed"));
    });
}

/// Reads questions up to the first that `is_last`.
async fn read_questions(stream: &mut TcpStream, is_last: impl Fn(&str) -> bool) -> Vec<String> {
    let mut questions = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut question = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut question).await.unwrap();
        questions.push(String::from_utf8(question).unwrap());
        if is_last(&questions[questions.len() - 1]) {
            return questions;
        }
    }
}

#[test]
fn a_host_that_moves_asks_again_over_a_new_connection() {
    run(|| async {
        let begun = tokio::time::Instant::now();
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let directory = Directory::new(place(listener.local_addr().unwrap()), 1);
        let ask = |operation: Operation| {
            let directory = directory.clone();
            tokio::task::spawn_local(async move { directory.ask(operation.into()).await })
        };
        let deregister = ask(Operation::Deregister { node_id: NodeId(7) });
        let lookup = ask(LOOKUP);
        // The old connection takes questions, and is silent from then on.
        let (mut old, _) = listener.accept().await.unwrap();
        read_questions(&mut old, |question| question.contains("lookup")).await;
        directory.reconnect();
        let list = ask(Operation::ListNetworks);
        let lost = timeout(PATIENCE, deregister).await.unwrap().unwrap();
        assert!(matches!(&lost, Err(Unanswered::Unreachable(reason)) if reason.contains("moved")), "{lost:?}");
        let (mut new, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let questions = read_questions(&mut new, |question| question.contains("list_networks")).await;
        assert!(questions.len() == 2 && questions[0].contains("lookup"), "{questions:?}");
        for _ in 0..2 {
            let body = br#"{"type":"error","error":"not found"}"#;
            new.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).await.unwrap();
            new.write_all(body).await.unwrap();
        }
        assert!(is_not_found(&lookup.await.unwrap()) && is_not_found(&list.await.unwrap()));
        assert!(begun.elapsed() < Duration::from_secs(25), "not before the answers were overdue");
    });
}

/// Takes the client's own deadline of 30 seconds.
#[test]
fn silence_is_an_answer_after_a_while() {
    run(|| async {
        let begun = tokio::time::Instant::now();
        assert!(heard(None).await.contains("does not answer"));
        assert!(begun.elapsed() >= Duration::from_secs(29));
    });
}
