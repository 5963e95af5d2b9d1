//! Who is asked at the relay's own socket: one thread for each who has come, and what two of them ask at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use relay::Time;
use relay::inheritance::Descriptor;
use relay::socket::DESCRIPTORS_PER_MESSAGE_MAX;
use socket2::Socket;

use super::super::phase::Phase;
use super::{Answer, Channel, Duties, End, Request};

/// Connections served at once; the next waits.
const CONNECTIONS_MAX: usize = 8;
/// After an accept that failed: the system is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failures in a row between two lines of the log: a minute of them.
const ACCEPT_FAILURES_PER_LINE: u64 = 600;

pub(super) struct Office {
    duties: Arc<Duties>,
    guests: Arc<AtomicUsize>,
    /// Whether somebody is becoming the successor.
    succession: AtomicBool,
    /// Held by whoever decides what the relay's end is: a successor that takes over, or draining.
    deciding: Mutex<()>,
}

/// One of those who are served at once; dropped, there is room for the next, however the service ended.
struct Guest(Arc<AtomicUsize>);

impl Guest {
    fn enter(guests: &Arc<AtomicUsize>) -> Option<Self> {
        let guest = Self(Arc::clone(guests));
        (guests.fetch_add(1, Ordering::AcqRel) < CONNECTIONS_MAX).then_some(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Office {
    pub(super) fn new(duties: Arc<Duties>) -> Self {
        Self { duties, guests: Arc::default(), succession: AtomicBool::new(false), deciding: Mutex::default() }
    }

    /// Serves whoever connects. Who finds no descriptor or memory left is tried again: otherwise there would be no upgrade
    /// and no draining until a restart.
    pub(super) fn open(self: Arc<Self>, listener: &Socket) {
        let mut failures = 0;
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    if failures > 0 {
                        tracing::info!(failures, "whoever asks at the relay's own socket is served again");
                        failures = 0;
                    }
                    Arc::clone(&self).admit(socket);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if failures % ACCEPT_FAILURES_PER_LINE == 0 {
                        tracing::warn!(%error, "cannot serve the relay's own socket; who waits there is tried again all the \
                                                time");
                    }
                    failures += 1;
                    thread::park_timeout(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn admit(self: Arc<Self>, socket: Socket) {
        let allowed = getsockopt(&socket, PeerCredentials)
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw());
        if !allowed {
            return;
        }
        let Some(guest) = Guest::enter(&self.guests) else { return };
        let body = move || {
            let _guest = guest;
            if let Ok(channel) = Channel::new(socket)
                && let Err(error) = self.serve(&channel)
            {
                tracing::debug!(%error, "a connection to the relay's own socket has failed");
            }
        };
        if let Err(error) = thread::Builder::new().name("succession".to_owned()).spawn(body) {
            tracing::warn!(%error, "no thread to serve the relay's own socket");
        }
    }

    fn serve(&self, channel: &Channel) -> anyhow::Result<()> {
        while let Some((request, _)) = channel.receive::<Request>()? {
            match request {
                Request::Status => channel.send(&Answer::Status(Box::new(self.duties.status())), &[])?,
                Request::Drain { deadline_seconds } => {
                    if self.drain(Duration::from_secs(deadline_seconds)) {
                        channel.send(&Answer::Draining, &[])?;
                    } else {
                        refuse(
                            channel,
                            "this relay is about to end; if another has taken over, drain that one: ask again",
                        )?;
                    }
                }
                Request::Succeed => return self.hand_over(channel),
                Request::Take | Request::Serving => refuse(channel, "say Succeed first")?,
            }
        }
        Ok(())
    }

    /// Begins to drain; a successor that is still to take over is refused then. False when one has: the nodes are its own.
    fn drain(&self, deadline: Duration) -> bool {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = self.duties.phase.get() < Phase::Stopping;
        if is_ours {
            (self.duties.drain)(deadline);
        }
        is_ours
    }

    /// Nothing else is decided from here on. The error says what has been decided.
    fn give_way(&self) -> Result<(), Phase> {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        match self.duties.phase.get() {
            Phase::Serving => {
                self.duties.phase.advance(Phase::Stopping);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn hand_over(&self, channel: &Channel) -> anyhow::Result<()> {
        if self.duties.phase.get() != Phase::Serving {
            return refuse(channel, &format!("this relay is {}", self.duties.phase.get().text()));
        }
        if self.succession.swap(true, Ordering::AcqRel) {
            return refuse(channel, "another successor is about to take over");
        }
        let outcome = self.hand_over_to(channel);
        self.succession.store(false, Ordering::Release);
        outcome
    }

    fn hand_over_to(&self, channel: &Channel) -> anyhow::Result<()> {
        let duties = &self.duties;
        send_descriptors(channel, duties.descriptors()?, duties.watchdog)?;
        match channel.receive::<Request>() {
            Ok(Some((Request::Take, _))) => {}
            other => {
                tracing::warn!("a successor came and did not take over ({other:?}); this relay goes on");
                return Ok(());
            }
        }
        let since = Time::read_clock();
        if let Err(phase) = self.give_way() {
            return refuse(channel, &format!("this relay is {} since you asked", phase.text()));
        }
        duties.relay.finish();
        duties.relay.close_sockets();
        let taken = channel.send(&Answer::Stopped { since_nanos: since.0 }, &[]).and_then(|()| channel.receive());
        match taken {
            Ok(Some((Request::Serving, _))) => duties.end(End::Succeeded),
            other => {
                tracing::error!("the successor took over and has failed: {other:?}");
                duties.end(End::Abandoned);
            }
        }
        // The connection stays open until this process has ended: that is what the successor waits for.
        loop {
            thread::park();
        }
    }
}

fn refuse(channel: &Channel, why: &str) -> anyhow::Result<()> {
    channel.send(&Answer::Refused { why: why.to_owned() }, &[])
}

fn send_descriptors(channel: &Channel, mut rest: Vec<Descriptor>, watchdog: Option<Duration>) -> anyhow::Result<()> {
    let watchdog_micros = watchdog.and_then(|watchdog| u64::try_from(watchdog.as_micros()).ok());
    loop {
        let next = rest.split_off(rest.len().min(DESCRIPTORS_PER_MESSAGE_MAX));
        let (names, files): (Vec<_>, Vec<_>) = rest.into_iter().map(|one| (one.name, one.file)).unzip();
        let more = !next.is_empty();
        channel.send(&Answer::Descriptors { names, more, watchdog_micros }, &files)?;
        if !more {
            return Ok(());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_guest_makes_room_however_it_goes() {
        let guests = Arc::default();
        let inside: Vec<Guest> = (0..CONNECTIONS_MAX).map(|_| Guest::enter(&guests).unwrap()).collect();
        assert!(Guest::enter(&guests).is_none(), "full");
        assert_eq!(guests.load(Ordering::Acquire), CONNECTIONS_MAX, "who was turned away is not counted");
        drop(inside);
        let guest = Guest::enter(&guests).unwrap();
        let ended = thread::spawn(move || {
            let _guest = guest;
            std::panic::resume_unwind(Box::new("a panic"));
        });
        assert!(ended.join().is_err());
        assert_eq!(guests.load(Ordering::Acquire), 0);
    }

    #[test]
    fn open_files_come_with_their_names_however_many() {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let count = DESCRIPTORS_PER_MESSAGE_MAX + 10;
        let file =
            |index: usize| Descriptor { name: format!("file.{index}"), file: tempfile::tempfile().unwrap().into() };
        let sender = thread::spawn(move || {
            send_descriptors(&one, (0..count).map(file).collect(), Some(Duration::from_secs(3))).unwrap();
        });
        let mut received = Vec::new();
        loop {
            let (answer, files) = other.receive::<Answer>().unwrap().unwrap();
            let Answer::Descriptors { names, more, watchdog_micros } = answer else { panic!("{answer:?}") };
            assert_eq!((names.len(), watchdog_micros), (files.len(), Some(3_000_000)));
            received.extend(names);
            if !more {
                break;
            }
        }
        assert_eq!(received, (0..count).map(|index| format!("file.{index}")).collect::<Vec<_>>());
        sender.join().unwrap();
    }
}
