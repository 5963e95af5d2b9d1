//! The library behind the command line, for other programs.

use agent::client::{Client, ConnectError, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::ipc::Request;

use crate::world::World;

fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = std::time::Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(patience, story).await.expect("the story comes to its end") });
}

#[test]
fn streams_carry_more_than_any_queue_holds() {
    let world = World::with_daemon(&[]);
    run(async {
        let client = Client::connect(&world.socket()).await.unwrap();
        let stream = client.dial("0:0000.0000.0001:7".parse().unwrap()).await.unwrap();
        let sent: Vec<u8> = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut echoed = vec![0; sent.len()];
        let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut echoed));
        written.unwrap();
        read.unwrap();
        assert!(echoed == sent);
        let mut stream = reader.unsplit(writer);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(stream.write_all(b"late").await.is_err());
    });
}

#[test]
fn requests_of_many_tasks_get_their_own_answers() {
    let world = World::with_daemon(&[]);
    run(async {
        let client = Client::connect(&world.socket()).await.unwrap();
        let info = client.ask(Request::Info);
        let health = client.ask(Request::Health);
        let missing = client.ask(Request::ResolveHostname("nobody"));
        let (info, health, missing) = tokio::join!(info, health, missing);
        assert_eq!(info.unwrap()["version"], "1.18.0");
        assert_eq!(health.unwrap()["status"], "ok");
        assert!(matches!(missing, Err(RequestError::Refused(_))));
    });
}

#[test]
fn peers_come_in_by_streams_and_datagrams() {
    let world = World::with_daemon(&[]);
    run(async {
        let client = Client::connect(&world.socket()).await.unwrap();
        let mut datagrams = client.datagrams(2000);
        let mut listener = client.listen(5000).await.unwrap();
        let mut stream = listener.accept().await.unwrap();
        let mut data = [0; 11];
        stream.read_exact(&mut data).await.unwrap();
        assert_eq!((&data, stream.remote().to_string()), (b"from a peer", "0:0000.0000.0002:50000".to_owned()));
        client.ask(Request::Info).await.unwrap();
        assert_eq!(&*datagrams.receive().await.unwrap().data, b"a datagram");
    });
}

#[test]
fn a_missing_daemon_is_not_a_refusing_one() {
    let world = World::without_daemon();
    run(async {
        assert!(matches!(Client::connect(&world.socket()).await, Err(ConnectError::NotRunning(_))));
    });
}
