//! A directory and a relay at work on loopback, daemons that use them, and clients of the daemons.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::config::Config;
use agent::config::settings::Settings;
use agent::daemon;
use agent::daemon::runtime::{self, Ring};
use directory::{NoRelay, Running};
use relay::locals::Service;
use relay::membership::Membership;
use relay::runtime::Relay;
use relay::server::{Admission, Rules};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};
use wire::framing::FrameDecoder;
use wire::ipc::{HandshakeRequest, Reply, Request, frame_decoder};

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that no event announces.
pub const LOOK: Duration = Duration::from_millis(20);

/// Runs a test in the daemon's runtime.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    runtime::plain(|_| async { timeout(PATIENCE * 3, test()).await.expect("the test does not end") }).unwrap();
}

pub struct World {
    relay: Relay,
    directory: Running,
    folder: TempDir,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = relay::config::Config {
            beacon: Some(loopback()),
            stun: None,
            advertise: Vec::new(),
            cpus: vec![0],
            sessions_max: 1024,
            spin: Duration::ZERO,
            rules: Rules { admission: Admission::Open, ..Rules::default() },
        };
        let relay = Relay::start(&config, Arc::new(Membership::default())).unwrap();
        relay.serve().unwrap();
        let beacon = beacon_of(&relay);
        let mut config = directory::Config::new(folder.path().join("directory"));
        std::fs::create_dir(&config.data_dir).unwrap();
        config.listen = vec![loopback()];
        config.exempt = vec!["127.0.0.0/8".parse().unwrap()];
        let link = NoRelay { advertise: vec![beacon.to_string()] };
        let directory = directory::start(config, Arc::new(link)).unwrap();
        Self { relay, directory, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn registry(&self) -> SocketAddr {
        self.directory.local_addrs()[0]
    }

    pub fn beacon(&self) -> SocketAddr {
        beacon_of(&self.relay)
    }

    /// Settings of a daemon with this name.
    pub fn settings(&self, name: &str) -> Settings {
        Settings {
            registry: Some(self.registry().to_string()),
            beacon: Some(vec![self.beacon().to_string()]),
            listen: Some("127.0.0.1:0".to_owned()),
            socket: Some(self.folder().join(format!("{name}.sock"))),
            data_dir: Some(self.folder().join(name)),
            hostname: Some(name.to_owned()),
            public: Some(true),
            ..Settings::default()
        }
    }

    /// A daemon with these settings, registered.
    pub async fn start(&self, settings: Settings) -> Daemon {
        let daemon = Daemon::start(settings);
        let mut client = daemon.client().await;
        let deadline = async {
            while client.info().await["node_id"] == 0 {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, deadline).await.expect("not registered in time");
        daemon
    }

    /// A daemon with the usual settings, registered.
    pub async fn daemon(&self, name: &str) -> Daemon {
        self.start(self.settings(name)).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.relay.stop();
    }
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn beacon_of(relay: &Relay) -> SocketAddr {
    relay.locals().iter().find(|(_, local)| local.service == Service::Beacon).unwrap().1.bound
}

pub struct Daemon {
    pub socket: PathBuf,
    stop: mpsc::Sender<()>,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    pub fn start(settings: Settings) -> Self {
        let config = Config::from_settings(settings, None).unwrap();
        let socket = config.socket.clone();
        let (stop, stopped) = mpsc::channel(2);
        let ended = spawn_local(daemon::run(config, Ring::Forbidden, stopped));
        Self { socket, stop, ended }
    }

    /// A client, as soon as the daemon takes one.
    pub async fn client(&self) -> Client {
        Client::connect(&self.socket, || !self.ended.is_finished()).await
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send(()).await.unwrap();
        self.ended().await
    }

    /// How it ended, once it has.
    pub async fn ended(self) -> anyhow::Result<()> {
        timeout(PATIENCE, self.ended).await.expect("the daemon does not end").unwrap()
    }
}

/// One frame that a daemon has sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    pub fn reply(&self) -> Reply<'_> {
        Reply::decode(&self.0).expect("the daemon's frames can be decoded")
    }

    pub fn json(&self) -> Value {
        match self.reply() {
            Reply::Answer { json, .. } => serde_json::from_str(json).expect("an answer holds JSON"),
            other => panic!("expected an answer, got {other:?}"),
        }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reply().fmt(f)
    }
}

pub struct Client {
    pub socket: UnixStream,
    decoder: FrameDecoder,
    /// Frames that came while another was awaited.
    pushed: Vec<Frame>,
}

impl Client {
    /// A client, as soon as the daemon takes one, which has to be alive meanwhile.
    pub async fn connect(path: &Path, is_alive: impl Fn() -> bool) -> Self {
        let connected = async {
            loop {
                if let Ok(socket) = UnixStream::connect(path).await {
                    return socket;
                }
                assert!(is_alive(), "the daemon has ended");
                sleep(LOOK).await;
            }
        };
        let socket = timeout(PATIENCE, connected).await.expect("the daemon's socket does not come up");
        Self { socket, decoder: frame_decoder(), pushed: Vec::new() }
    }

    pub async fn send(&mut self, request: Request<'_>) {
        let mut frame = Vec::new();
        request.encode(&mut frame);
        self.socket.write_all(&frame).await.unwrap();
    }

    pub async fn send_raw(&mut self, body: &[u8]) {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.socket.write_all(&frame).await.unwrap();
    }

    /// The next frame; none when the daemon has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        if !self.pushed.is_empty() {
            return Some(self.pushed.remove(0));
        }
        let next = async {
            loop {
                // One byte at a time past a frame's end would be lost: the decoder takes exactly what belongs to it.
                let mut piece = [0; 1];
                if self.socket.read(&mut piece).await.unwrap_or(0) == 0 {
                    return None;
                }
                if let Some(frame) = self.decoder.decode(&mut piece.as_slice()).unwrap() {
                    return Some(Frame(frame.to_vec()));
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the daemon says nothing")
    }

    /// The next frame that `is_wanted`; others stay for later.
    pub async fn await_frame(&mut self, is_wanted: impl Fn(&Reply<'_>) -> bool) -> Frame {
        let mut others = Vec::new();
        loop {
            let frame = self.next().await.expect("the daemon has closed the connection");
            if is_wanted(&frame.reply()) {
                others.append(&mut self.pushed);
                self.pushed = others;
                return frame;
            }
            others.push(frame);
        }
    }

    /// Asks, and gives the answer or the error.
    pub async fn ask(&mut self, request: Request<'_>) -> Frame {
        self.send(request).await;
        self.await_frame(|reply| {
            matches!(reply, Reply::Answer { .. } | Reply::Error { .. } | Reply::BindOk { .. } | Reply::DialOk { .. })
        })
        .await
    }

    /// Asks for what should fail; the text of the error.
    pub async fn refused(&mut self, request: Request<'_>) -> String {
        match self.ask(request).await.reply() {
            Reply::Error { text, .. } => text.to_owned(),
            other => panic!("expected an error, got {other:?}"),
        }
    }

    pub async fn info(&mut self) -> Value {
        self.ask(Request::Info).await.json()
    }

    pub async fn node(&mut self) -> wire::NodeId {
        wire::NodeId(self.info().await["node_id"].as_u64().unwrap().try_into().unwrap())
    }

    pub async fn dial(&mut self, node: wire::NodeId, port: u16) -> u32 {
        let to = wire::address::SocketAddress { address: node.address(), port };
        match self.ask(Request::Dial { to }).await.reply() {
            Reply::DialOk { connection } => connection,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    pub async fn bind(&mut self, port: u16) -> u16 {
        match self.ask(Request::Bind { port }).await.reply() {
            Reply::BindOk { port } => port,
            other => panic!("expected a port, got {other:?}"),
        }
    }

    /// The next stream that a peer opens.
    pub async fn accepted(&mut self) -> u32 {
        match self.await_frame(|reply| matches!(reply, Reply::Accept { .. })).await.reply() {
            Reply::Accept { connection, .. } => connection,
            _ => unreachable!("just checked"),
        }
    }

    /// Bytes of a stream until there are `count`.
    pub async fn receive(&mut self, wanted: u32, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let frame = self
                .await_frame(|reply| matches!(reply, Reply::Recv { connection, .. } if *connection == wanted))
                .await;
            if let Reply::Recv { data, .. } = frame.reply() {
                bytes.extend_from_slice(data);
            }
        }
        bytes
    }

    /// Returns when the daemon says that the stream is closed.
    pub async fn closed(&mut self, wanted: u32) {
        self.await_frame(|reply| matches!(reply, Reply::CloseOk { connection } if *connection == wanted)).await;
    }

    pub async fn trusted(&mut self) -> Value {
        self.ask(Request::Handshake(HandshakeRequest::Trusted)).await.json()
    }
}
