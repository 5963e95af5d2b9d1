//! A name server for one namespace, which may be silent for a while.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Answers every question for an IPv4 address with the same one, and any other with none.
#[derive(Debug)]
pub struct NameServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Begins to answer.
    #[must_use]
    #[track_caller]
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(ADDRESS)).expect("the port is free");
        socket.set_read_timeout(Some(LOOK_INTERVAL)).expect("a socket takes a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length], address)
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// RFC 1035, section 4: the question again, and for type A one record.
fn answer(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(name_end..name_end + 4)?;
    let is_address = asked == [0, 1, 0, 1];
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    bytes.extend(&question[12..name_end + 4]);
    if is_address {
        bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}
