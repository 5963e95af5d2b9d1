//! What this relay has from the one before: sockets, listening sockets and sessions, by the hand of a relay at work or
//! from the store of the service manager. What does not fit is told in a line and begins anew.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::unistd::getpid;
use relay::Time;
use relay::inheritance::Descriptor;
use relay::ledger::{self, Contents};
use relay::runtime::Relay;
use socket2::{SockRef, Type};

use super::service_manager::ServiceManager;
use super::store::Store;
use super::succession::{Inherited, Predecessor};

/// Names of listening sockets.
pub const DIRECTORY: &str = "directory";
/// The same for the admin address.
pub const ADMIN: &str = "admin";
/// What to do about an address that has changed on a port that stays.
pub const MOVED: &str = "it has the port until it ends, so this change takes a restart: systemctl restart pilot-relay (a reload is refused)";
/// Names of ledgers begin so; that of each process is another.
const LEDGER: &str = "ledger.";

/// The name of this process's ledger, which that of the one before must not be.
#[must_use]
pub fn ledger_name() -> String {
    format!("{LEDGER}{}.{}", Time::read_clock().0, getpid())
}

/// What there is from before.
#[derive(Debug)]
pub struct Before {
    predecessor: Option<Predecessor>,
    sockets: Vec<Descriptor>,
    listeners: Vec<Descriptor>,
    ledgers: Vec<Descriptor>,
    refused: Vec<String>,
    /// Names of listening sockets that do not fit, and which the relay before still has.
    misfits: Vec<String>,
    /// Where listening sockets are bound that do not fit.
    given_up: Vec<SocketAddr>,
    found: bool,
}

impl Before {
    /// Asks the relay at `succeeded`, else takes what the service manager has passed.
    ///
    /// # Errors
    /// The relay to be succeeded is not there, or refuses.
    pub fn find(succeeded: Option<&Path>, passed: Vec<Descriptor>) -> anyhow::Result<Self> {
        let (predecessor, descriptors) = match succeeded {
            Some(path) => {
                let (predecessor, descriptors) = Predecessor::meet(path)?;
                (Some(predecessor), descriptors)
            }
            None => (None, passed),
        };
        let found = !descriptors.is_empty();
        let (listeners, rest): (Vec<_>, Vec<_>) =
            descriptors.into_iter().partition(|one| one.name == DIRECTORY || one.name == ADMIN);
        let (ledgers, sockets) = rest.into_iter().partition(|one| one.name.starts_with(LEDGER));
        let (refused, misfits, given_up) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { predecessor, sockets, listeners, ledgers, refused, misfits, given_up, found })
    }

    /// Whether there is anything: then nodes are served before the directory is there.
    #[must_use]
    pub const fn is_something(&self) -> bool {
        self.found
    }

    /// Every name under which something is kept.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.sockets, &self.listeners, &self.ledgers].into_iter().flatten().map(|one| one.name.as_str())
    }

    /// How long the service manager waits for signs of life, as the relay before knows it.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.predecessor.as_ref()?.watchdog
    }

    /// Leaves the sessions out: a backup was put in the place of the database, and their numbers are those of another.
    pub fn forget_sessions(&mut self) {
        self.ledgers.clear();
    }

    /// The UDP sockets.
    pub fn take_sockets(&mut self) -> Vec<Descriptor> {
        std::mem::take(&mut self.sockets)
    }

    /// The socket called `name`, where it listens at `wanted`. One that listens elsewhere is given up: at once, so that
    /// its port is free to be bound, or at the latest when the relay before has ended.
    pub fn take_listener(&mut self, name: &str, wanted: SocketAddr, store: &mut Store) -> Option<TcpListener> {
        let index = self.listeners.iter().position(|one| one.name == name)?;
        let Descriptor { file, .. } = self.listeners.swap_remove(index);
        if listens_at(&file, wanted) {
            return Some(TcpListener::from(file));
        }
        self.refused.push(format!("{name}: it does not listen at {wanted}"));
        self.given_up.extend(bound_to(&file));
        drop(file);
        if self.predecessor.is_some() {
            // Until it has ended it may go on with it after all.
            self.misfits.push(name.to_owned());
        } else {
            store.forget(name);
            store.manager().settle();
        }
        None
    }

    /// Why `wanted` cannot be bound, where that is because the relay before listens at another address of its port. It could
    /// be bound once that has ended; but if it could not, nobody would be left to serve.
    #[must_use]
    pub fn obstacle(&self, wanted: SocketAddr, error: &anyhow::Error) -> Option<String> {
        let is_taken = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        let unused = self.listeners.iter().filter_map(|one| bound_to(&one.file)).chain(self.given_up.iter().copied());
        let in_the_way = unused.into_iter().find(|bound| bound.port() == wanted.port())?;
        (self.predecessor.is_some() && error.chain().any(is_taken))
            .then(|| format!("cannot listen on {wanted}: the relay at work listens at {in_the_way}; {MOVED}"))
    }

    /// Takes over: from here on this relay is alone. What arrived since the one before stopped waits in the sockets.
    ///
    /// # Errors
    /// The relay before has ended, or an address cannot be bound.
    pub fn take_over(mut self, relay: &Relay, store: &mut Store) -> anyhow::Result<Taken> {
        let since = self.predecessor.as_ref().map(Predecessor::take).transpose()?;
        let stopped = Time::read_clock();
        self.misfits.iter().for_each(|name| store.forget(name));
        let drops_before = relay.kernel_drops();
        let refused = relay.refused();
        let is_refused = !refused.is_empty();
        for refused in refused {
            let place = refused.bound.map_or_else(|| refused.names.join(" "), |bound| format!("UDP {bound}"));
            self.refused.push(format!("{place}: {}", refused.why));
            refused.names.iter().for_each(|name| store.forget(name));
        }
        if is_refused {
            // A port is free when the last one has closed it, the store included.
            store.manager().settle();
            relay.bind_late()?;
        }
        let mut records = Vec::new();
        for Descriptor { name, file } in std::mem::take(&mut self.ledgers) {
            match ledger::read(file) {
                Ok(Contents { records: found, torn }) => {
                    if torn > 0 {
                        tracing::warn!(
                            torn,
                            "sessions were being written when the relay before ended; they are left out"
                        );
                    }
                    records.extend(found);
                }
                Err(skew) => self.refused.push(format!("{name}: {skew}")),
            }
        }
        let known = ledger::newest(records);
        let read = Time::read_clock();
        let (found, sessions) = (known.len(), relay.inherit(known));
        let inherited = Time::read_clock();
        relay.serve()?;
        relay.wait_for_a_turn();
        let served = Time::read_clock();
        let gap = since.map(|since| served.since(since));
        tracing::debug!(
            stop = ?since.map(|since| stopped.since(since)),
            read = ?read.since(stopped),
            inherit = ?inherited.since(read),
            serve = ?served.since(inherited),
            "what the gap was made of"
        );
        for line in &self.refused {
            tracing::warn!("not taken over from the relay before: {line}; it begins anew");
        }
        if sessions < found {
            tracing::warn!(
                left = found - sessions,
                "sessions not taken over: their address is no longer served, or no room"
            );
        }
        let inherited = Inherited {
            from_version: self.predecessor.as_ref().map(|predecessor| predecessor.status.version.clone()),
            gap_ms: gap.map(|gap| gap.as_secs_f64() * 1e3),
            sessions,
            kernel_drops: relay.kernel_drops().saturating_sub(drops_before),
            refused: self.refused,
        };
        tracing::info!(sessions, gap_ms = inherited.gap_ms, "took over from the relay before");
        Ok(Taken { inherited, predecessor: self.predecessor })
    }
}

/// What has been taken over.
#[derive(Debug)]
pub struct Taken {
    /// The account of it.
    pub inherited: Inherited,
    predecessor: Option<Predecessor>,
}

impl Taken {
    /// Tells the service manager who is the one now, and lets the relay before go; when this returns its database is
    /// closed.
    ///
    /// # Errors
    /// It does not end.
    pub fn dismiss(self, manager: &ServiceManager) -> anyhow::Result<()> {
        let Some(predecessor) = self.predecessor else { return Ok(()) };
        manager.tell(&[&format!("MAINPID={}", std::process::id())]);
        // Before the other ends: the service manager would take that for the end of the service.
        manager.settle();
        predecessor.dismiss()
    }
}

fn listens_at(file: &OwnedFd, wanted: SocketAddr) -> bool {
    let socket = SockRef::from(file);
    let fits = |bound: SocketAddr| {
        is_address(bound.ip(), wanted.ip(), relay::interfaces::has_ipv6())
            && (wanted.port() == 0 || bound.port() == wanted.port())
    };
    socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
        && socket.is_listener().unwrap_or(false)
        && bound_to(file).is_some_and(fits)
}

fn bound_to(file: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(file).local_addr().ok()?.as_socket()
}

/// Whether what is bound to `bound` serves `wanted`: where IPv6 is off, the wildcard of IPv4 stands for its own.
#[must_use]
pub fn is_address(bound: IpAddr, wanted: IpAddr, has_ipv6: bool) -> bool {
    bound == wanted || (!has_ipv6 && bound == Ipv4Addr::UNSPECIFIED && wanted == Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_taken_where_it_listens_as_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let descriptor = |name: &str, file: OwnedFd| Descriptor { name: name.to_owned(), file };
        let passed = vec![
            descriptor(ADMIN, listener.try_clone().unwrap().into()),
            descriptor(DIRECTORY, std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ];
        let mut before = Before::find(None, passed).unwrap();
        let mut store = Store::new(ServiceManager::of_environment(), before.names());
        let store = &mut store;
        assert!(before.is_something());
        assert_eq!(before.names().count(), 2);
        assert!(before.take_listener(DIRECTORY, address, store).is_none(), "a UDP socket");
        assert_eq!(before.take_listener(ADMIN, address, store).unwrap().local_addr().unwrap(), address);
        assert!(before.take_listener(ADMIN, address, store).is_none(), "it is taken");
        let mut before = Before::find(None, vec![descriptor(ADMIN, listener.into())]).unwrap();
        assert!(before.take_listener(ADMIN, "127.0.0.2:0".parse().unwrap(), store).is_none());
        assert!(!Before::find(None, Vec::new()).unwrap().is_something());
    }

    #[test]
    fn a_wildcard_is_another_unless_ipv6_is_off() {
        let (four, six) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
        assert!(is_address(four, four, true) && is_address(six, six, true));
        assert!(is_address(four, six, false), "it is all there is");
        assert!(!is_address(four, six, true), "who comes by IPv6 would be refused");
        assert!(!is_address(six, four, true) && !is_address(six, four, false), "more than was asked for");
    }
}
