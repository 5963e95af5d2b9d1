//! Port 7.

use agent::services::echo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::world::{noise, story};

#[test]
fn everything_comes_back_until_the_end() {
    story(async {
        let (mut client, server) = duplex(1000);
        let said = noise(100_000);
        let (mut read, mut write) = tokio::io::split(&mut client);
        let mut heard = vec![0; said.len()];
        let served = tokio::task::spawn_local(echo::serve(server));
        let (written, read) = tokio::join!(write.write_all(&said), read.read_exact(&mut heard));
        written.unwrap();
        read.unwrap();
        assert_eq!(heard, said);
        drop(client);
        served.await.unwrap().unwrap();
    });
}
