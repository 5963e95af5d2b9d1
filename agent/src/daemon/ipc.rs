//! The unix socket for pilotctl and other clients (section 10): who may connect, and how many. Each client has a task of
//! its own, which ends with it.
//!
//! | part | subject |
//! |---|---|
//! | `place` | the socket's file: never another's, gone afterwards |
//! | `client` | one client: its requests, and all that it owns |
//! | `outgoing` | what waits to be written to a client: bounded, so that a slow one holds up only itself |
//! | `requests` | requests that take their time, and their answers |
//! | `trust`, `networks`, `envelope`, `proofs` | the groups among them |
//! | `extension` | what no other daemon knows, documented for programs in any language |
//! | `capabilities`, `groups` | the groups among that |
//! | `traces` | traces of dials, and the flight recorder |
//! | `info` | what the daemon tells of itself |

mod capabilities;
mod client;
mod envelope;
mod extension;
mod groups;
mod info;
mod networks;
mod outgoing;
mod place;
mod proofs;
mod requests;
mod traces;
mod trust;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use wire::ipc::{ERROR_CODE, Reply};

use super::core::Core;
use super::feeds::Feeds;
use super::trust_file::TrustFile;
use crate::Time;
use crate::capability::Verifier;
use crate::identity::Identity;

pub use place::{Place, PlaceError};

/// Clients at a time.
const CLIENTS_MAX: usize = 256;
/// What a refused client may take to read why.
const FAREWELL: Duration = Duration::from_millis(200);
/// A process without file descriptors waits so long for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients are served from.
pub struct Context {
    /// The node.
    pub core: Rc<Core>,
    /// The node's key, to sign envelopes with.
    pub identity: Arc<Identity>,
    /// The release.
    pub version: String,
    /// An email address or another name of whoever runs the node.
    pub owner: String,
    /// Where the tunnel is bound, for a node that no relay has seen yet.
    pub local: SocketAddr,
    /// When the daemon started.
    pub started: Time,
    /// The name the directory has.
    pub hostname: RefCell<String>,
    /// The networks the directory has the node in, the backbone left out.
    pub networks: RefCell<Vec<u16>>,
    /// A client wants the daemon to end.
    pub stop: Notify,
    /// Where trust is kept.
    pub trust: Rc<TrustFile>,
    /// Which capability records have been seen.
    pub verifier: RefCell<Verifier>,
    /// What changes in the directory, for those who watch.
    pub feeds: Rc<Feeds>,
    /// Clients connected.
    pub clients: Cell<usize>,
}

/// Serves clients until it is dropped.
pub async fn serve(context: Rc<Context>, place: &Place) {
    loop {
        match place.accept().await {
            Ok(socket) => greet(&context, socket),
            Err(error) => {
                tracing::warn!(%error, "a client cannot be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn greet(context: &Rc<Context>, socket: UnixStream) {
    let refusal = match may_connect(&socket) {
        Err(error) => Some(format!("the daemon cannot tell who you are: {error}")),
        Ok(false) => Some("this daemon serves only the user it runs as, and root".to_owned()),
        Ok(true) if context.clients.get() >= CLIENTS_MAX => {
            Some(format!("too many clients: {CLIENTS_MAX} are connected; close some"))
        }
        Ok(true) => None,
    };
    let context = Rc::clone(context);
    tokio::task::spawn_local(async move {
        match refusal {
            Some(text) => refuse(socket, &text).await,
            None => {
                context.clients.set(context.clients.get() + 1);
                client::serve(Rc::clone(&context), socket).await;
                context.clients.set(context.clients.get() - 1);
            }
        }
    });
}

/// The user the daemon runs as, and root.
fn may_connect(socket: &UnixStream) -> io::Result<bool> {
    Ok(is_served(socket.peer_cred()?.uid(), geteuid().as_raw()))
}

const fn is_served(client: u32, own: u32) -> bool {
    const ROOT: u32 = 0;
    client == ROOT || client == own
}

async fn refuse(mut socket: UnixStream, text: &str) {
    let mut frame = Vec::new();
    Reply::Error { code: ERROR_CODE, text }.encode(&mut frame);
    let said = async {
        socket.write_all(&frame).await?;
        socket.shutdown().await?;
        // A client that is cut off while it still asks may not read on; it is heard out, and nothing is done.
        let mut unheard = [0; 1024];
        while socket.read(&mut unheard).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_user_is_served_and_root() {
        for (client, own, expected) in
            [(1000, 1000, true), (0, 1000, true), (0, 0, true), (1000, 0, false), (1001, 1000, false)]
        {
            assert_eq!(is_served(client, own), expected, "{client} {own}");
        }
    }
}
