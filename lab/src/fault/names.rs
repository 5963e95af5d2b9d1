//! A name server for one namespace, which may fail or be silent for a while.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::namespace::Namespace;
use crate::world::Host;

/// Where it is asked.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What `ip netns exec` puts in the place of `/etc/resolv.conf` in a namespace, as long as the value lives.
#[derive(Debug)]
pub struct Resolver(PathBuf);

/// Programs started on this host from now on ask a name server on loopback, where there may be none.
#[must_use]
#[track_caller]
pub fn use_name_server(host: &Host) -> Resolver {
    let folder = PathBuf::from("/etc/netns").join(host.namespace().name());
    fs::create_dir_all(&folder).expect("root may write to /etc/netns");
    let text = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    fs::write(folder.join("resolv.conf"), text).expect("root may write to /etc/netns");
    fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n").expect("root may write to /etc/netns");
    Resolver(folder)
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What it says to every question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// This IPv4 address; of other kinds there is none.
    Address(Ipv4Addr),
    /// It cannot tell: SERVFAIL.
    Failure,
    /// Nothing.
    Nothing,
}

/// Answers every question in the same way.
#[derive(Debug)]
pub struct NameServer {
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Begins to answer every question for an IPv4 address with this one, and any other with none.
    #[must_use]
    #[track_caller]
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(ADDRESS)).expect("the port is free");
        socket.set_read_timeout(Some(LOOK_INTERVAL)).expect("a socket takes a timeout");
        let says = Arc::new(Mutex::new(Says::Address(address)));
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (said, questions, stopped) = (Arc::clone(&says), Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                questions.fetch_add(1, Ordering::Relaxed);
                let says = *said.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = answer(&buffer[..length], says) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { says, asked, stop, thread: Some(thread) }
    }

    /// How many questions have come.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on it says something else.
    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// RFC 1035, section 4: the question again, and for type A one record.
fn answer(question: &[u8], says: Says) -> Option<Vec<u8>> {
    const SERVER_FAILURE: u8 = 2;
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(name_end..name_end + 4)?;
    let (address, code) = match says {
        Says::Address(address) => ((asked == [0, 1, 0, 1]).then_some(address), 0),
        Says::Failure => (None, SERVER_FAILURE),
        Says::Nothing => return None,
    };
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    bytes.extend(&question[12..name_end + 4]);
    if let Some(address) = address {
        bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}
