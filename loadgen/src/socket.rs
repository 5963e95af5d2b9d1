//! UDP sockets on which many peers live: batches of datagrams out and in, each with its own source or destination
//! address by packet information, arrivals stamped by the kernel.
//!
//! This is the only file with `unsafe` code: four system calls that the safe crates do not offer in this form. What
//! the datagrams mean is left to [`worker`](crate::worker).
#![expect(unsafe_code, reason = "see above")]

mod control;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use libc::c_int;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockAddr, Type};

use self::control::{SourceControl, read_control, read_name};

/// Datagrams per system call.
pub const BATCH_MAX: usize = 64;
/// Memory of one batch; large datagrams make it shorter.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What is asked of the kernel for each direction of a socket.
const BUFFER_BYTES: usize = 16 << 20;
/// How long a full send buffer is waited for before the datagram counts as refused.
const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// Room for the control messages of one received datagram: packet information and a timestamp.
const CONTROL_LEN: usize = 128;
/// Index of the drop counter in the answer to `SO_MEMINFO` (`SK_MEMINFO_DROPS` of `linux/sock_diag.h`).
const MEMINFO_DROPS: usize = 8;

/// An unconnected UDP socket bound to a wildcard address.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    port: u16,
}

impl Socket {
    /// Binds the wildcard address of the family of `relay` at `port`, or at any port if that one is taken.
    ///
    /// `datagram_len` is the size of the datagrams it will send.
    pub fn bind(relay: SocketAddr, port: u16, datagram_len: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(relay), Type::DGRAM, Some(Protocol::UDP))?;
        let wildcard: IpAddr = match relay {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        match relay {
            SocketAddr::V4(_) => {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
                socket.set_freebind_v4(true)?;
            }
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                socket.set_freebind_v6(true)?;
            }
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        grow_buffers(&socket)?;
        if datagram_len <= 1200 {
            skip_fragmentation(&socket, relay)?;
        }
        socket
            .bind(&SocketAddr::new(wildcard, port).into())
            .or_else(|_| socket.bind(&SocketAddr::new(wildcard, 0).into()))?;
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok(Self { socket, port })
    }

    /// The port it is bound to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Bytes the kernel keeps for datagrams not read yet.
    pub fn receive_buffer_bytes(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of `sockets` has something to read, or for `timeout`. An empty slice waits for the time alone.
pub fn wait_readable(sockets: &[Socket], timeout: Duration) -> io::Result<()> {
    let mut interests: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    wait(&mut interests, timeout)
}

/// Datagrams the kernel has dropped since `socket` exists because nobody read them in time.
pub fn dropped(socket: &impl AsFd) -> io::Result<u64> {
    let descriptor = socket.as_fd();
    let mut memory = [0_u32; MEMINFO_DROPS + 1];
    let mut len = libc::socklen_t::try_from(size_of_val(&memory)).expect("36 bytes");
    // SAFETY: `descriptor` borrows an open one until the end of this function; `memory` and `len` outlive the call and
    // `len` is the size of `memory` in bytes, so the kernel writes within it.
    let status = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(memory[MEMINFO_DROPS].into())
}

/// Asks the kernel to wake this thread at the time it asked for and not up to 50 µs later.
pub fn sharpen_timers() {
    // Refused only by sandboxes; then waiting is coarser, which the record of lateness shows.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams the kernel refused.
    pub refused: u64,
    /// Why it refused the last of these.
    pub error: Option<io::Error>,
}

/// Datagrams to one destination, collected to leave in one system call.
#[derive(Debug)]
pub struct SendBatch {
    to: SockAddr,
    slot_len: usize,
    bytes: Vec<u8>,
    slots: Vec<SendSlot>,
    slots_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct SendSlot {
    len: usize,
    control: Option<SourceControl>,
}

impl SendBatch {
    /// An empty batch of datagrams of up to `datagram_len` bytes for `to`.
    #[must_use]
    pub fn new(to: SocketAddr, datagram_len: usize) -> Self {
        let slots_max = slots(datagram_len);
        Self {
            to: to.into(),
            slot_len: datagram_len,
            bytes: vec![0; slots_max * datagram_len],
            slots: Vec::with_capacity(slots_max),
            slots_max,
        }
    }

    /// Whether no other datagram fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.len() == self.slots_max
    }

    /// Adds a datagram of `len` bytes from `source`, or from the address that routing chooses, and returns its bytes
    /// to be written. The batch must not be full.
    pub fn push(&mut self, source: Option<IpAddr>, len: usize) -> &mut [u8] {
        assert!(!self.is_full() && len <= self.slot_len);
        let start = self.slots.len() * self.slot_len;
        self.slots.push(SendSlot { len, control: source.map(SourceControl::new) });
        &mut self.bytes[start..start + len]
    }

    /// Sends everything and empties the batch.
    pub fn flush(&mut self, socket: &Socket) -> Flushed {
        let mut flushed = Flushed::default();
        let mut next = 0;
        while next < self.slots.len() {
            match self.send_from(next, socket) {
                Ok(sent) => {
                    next += sent;
                    flushed.sent += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full_buffer(&error) && wait_writable(socket) => {}
                Err(error) => {
                    next += 1;
                    flushed.refused += 1;
                    flushed.error = Some(error);
                }
            }
        }
        self.slots.clear();
        flushed
    }

    /// One `sendmmsg` of the datagrams from slot `first` on; returns how many the kernel took, at least one.
    fn send_from(&mut self, first: usize, socket: &Socket) -> io::Result<usize> {
        let slots = &mut self.slots[first..];
        let buffers = self.bytes.chunks_exact_mut(self.slot_len).skip(first);
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH_MAX];
        for (((slot, buffer), iovec), message) in slots.iter_mut().zip(buffers).zip(&mut iovecs).zip(&mut messages) {
            let iovec = iovec.write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: slot.len });
            let (control, control_len) = match &mut slot.control {
                Some(control) => control.as_raw(),
                None => (std::ptr::null_mut(), 0),
            };
            message.write(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: self.to.as_ptr().cast_mut().cast(),
                    msg_namelen: self.to.len(),
                    msg_iov: iovec,
                    msg_iovlen: 1,
                    msg_control: control,
                    msg_controllen: control_len,
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        // SAFETY: the first `slots.len()` (at most BATCH_MAX, the bound of `slots_max`) elements of `messages` were
        // written above; each points to an iovec written above, to bytes of its own slot within `self.bytes`, to the
        // control message within its slot, and to the address in `self.to`. All of these are borrowed until the call
        // returns, and the kernel only reads them (it writes `msg_len`, in `messages`).
        let sent = unsafe {
            libc::sendmmsg(
                socket.socket.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                slots.len() as libc::c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its bytes, cut at the length the batch was made for.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: Option<SocketAddr>,
    /// To which of our addresses it came.
    pub destination: Option<IpAddr>,
    /// When it came, in wall-clock time since 1970.
    pub stamp: Option<Duration>,
}

/// Room for datagrams that arrive together.
#[derive(Debug)]
pub struct ReceiveBatch {
    slot_len: usize,
    bytes: Vec<u8>,
    slots: Vec<ReceiveSlot>,
}

#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct ReceiveSlot {
    control: [u8; CONTROL_LEN],
    name: [u8; size_of::<libc::sockaddr_in6>()],
    len: usize,
    name_len: usize,
    control_len: usize,
}

impl ReceiveBatch {
    /// Room for datagrams of up to `datagram_len` bytes.
    #[must_use]
    pub fn new(datagram_len: usize) -> Self {
        let slots = slots(datagram_len);
        let empty = ReceiveSlot {
            control: [0; CONTROL_LEN],
            name: [0; size_of::<libc::sockaddr_in6>()],
            len: 0,
            name_len: 0,
            control_len: 0,
        };
        Self { slot_len: datagram_len, bytes: vec![0; slots * datagram_len], slots: vec![empty; slots] }
    }

    /// Reads what has arrived, without waiting, and returns how many datagrams that are.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH_MAX];
        let buffers = self.bytes.chunks_exact_mut(self.slot_len);
        for (((slot, buffer), iovec), message) in self.slots.iter_mut().zip(buffers).zip(&mut iovecs).zip(&mut messages)
        {
            let iovec = iovec.write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
            message.write(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: slot.name.as_mut_ptr().cast(),
                    msg_namelen: slot.name.len() as libc::socklen_t,
                    msg_iov: iovec,
                    msg_iovlen: 1,
                    msg_control: slot.control.as_mut_ptr().cast(),
                    msg_controllen: slot.control.len(),
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        // SAFETY: the first `self.slots.len()` (at most BATCH_MAX) elements of `messages` were written above; each
        // points to an iovec written above, to its own chunk of `self.bytes`, and to the name and control buffers of
        // its own slot, with their exact lengths. All are mutably borrowed here until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.socket.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                self.slots.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (slot, message) in self.slots.iter_mut().zip(&messages).take(count) {
            // SAFETY: the kernel reported `count` messages, so these headers are among those written above.
            let message = unsafe { message.assume_init_ref() };
            slot.len = message.msg_len as usize;
            slot.name_len = message.msg_hdr.msg_namelen as usize;
            slot.control_len = message.msg_hdr.msg_controllen;
        }
        Ok(count)
    }

    /// Datagram `index` of those that the last [`Self::receive`] read.
    #[must_use]
    pub fn datagram(&self, index: usize) -> Received<'_> {
        let slot = &self.slots[index];
        let bytes = &self.bytes[index * self.slot_len..][..slot.len.min(self.slot_len)];
        let (destination, stamp) = read_control(&slot.control[..slot.control_len.min(CONTROL_LEN)]);
        Received { bytes, source: read_name(&slot.name[..slot.name_len.min(slot.name.len())]), destination, stamp }
    }
}

fn slots(datagram_len: usize) -> usize {
    (BATCH_BYTES_MAX / datagram_len).clamp(1, BATCH_MAX)
}

/// Large buffers past the system's limit where that is allowed, else as large as it gets.
pub fn grow_buffers(socket: &socket2::Socket) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
    }
    if setsockopt(socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(BUFFER_BYTES)?;
    }
    Ok(())
}

/// Datagrams that fit every path need no fragment id, whose choice costs the kernel 3 to 4 % of a send.
fn skip_fragmentation(socket: &socket2::Socket, relay: SocketAddr) -> io::Result<()> {
    let (level, option, value) = match relay {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    // SAFETY: the descriptor is open for as long as `socket` lives, and the option's value is one c_int, which outlives
    // the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_full_buffer(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

/// Waits for room in the send buffer and says whether it came.
fn wait_writable(socket: &Socket) -> bool {
    let mut interest = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    wait(&mut interest, SEND_PATIENCE).is_ok() && interest[0].any().unwrap_or(false)
}

fn wait(interests: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    match ppoll(interests, Some(TimeSpec::from_duration(timeout)), None) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket of peers, and one that they send to.
    fn pair(relay: &str) -> (Socket, std::net::UdpSocket, SocketAddr) {
        let relay = std::net::UdpSocket::bind(relay).unwrap();
        let address = relay.local_addr().unwrap();
        (Socket::bind(address, 0, 100).unwrap(), relay, address)
    }

    fn receive(socket: &Socket, batch: &mut ReceiveBatch) -> usize {
        wait_readable(std::slice::from_ref(socket), Duration::from_secs(5)).unwrap();
        batch.receive(socket).unwrap()
    }

    #[test]
    fn every_datagram_has_its_own_source() {
        let (socket, relay, address) = pair("127.0.0.1:0");
        let mut batch = SendBatch::new(address, 100);
        for peer in 1..=3 {
            batch.push(Some(IpAddr::from([127, 64, 0, peer])), 1)[0] = peer;
        }
        let flushed = batch.flush(&socket);
        assert_eq!((flushed.sent, flushed.refused), (3, 0));
        for peer in 1..=3 {
            let mut buffer = [0; 10];
            let (len, source) = relay.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], source), (&[peer][..], SocketAddr::from(([127, 64, 0, peer], socket.port()))));
        }
    }

    #[test]
    fn arrivals_tell_destination_source_and_time() {
        let (socket, relay, address) = pair("127.0.0.1:0");
        let before = crate::clock::Clock::start().read().wall;
        for peer in 1..=2 {
            relay.send_to(&[peer; 3], SocketAddr::from(([127, 64, 0, peer], socket.port()))).unwrap();
        }
        let mut batch = ReceiveBatch::new(100);
        let mut count = 0;
        while count < 2 {
            let read = receive(&socket, &mut batch);
            for index in 0..read {
                let peer = (count + index + 1) as u8;
                let datagram = batch.datagram(index);
                assert_eq!(datagram.bytes, [peer; 3]);
                assert_eq!(datagram.source, Some(address));
                assert_eq!(datagram.destination, Some(IpAddr::from([127, 64, 0, peer])));
                let age = datagram.stamp.unwrap().saturating_sub(before);
                assert!(datagram.stamp.unwrap() >= before && age < Duration::from_secs(5));
            }
            count += read;
        }
        assert_eq!(batch.receive(&socket).unwrap(), 0);
    }

    #[test]
    fn ipv6_tells_the_same() {
        let (socket, relay, address) = pair("[::1]:0");
        let mut out = SendBatch::new(address, 100);
        out.push(Some("::1".parse().unwrap()), 2).copy_from_slice(b"hi");
        assert_eq!(out.flush(&socket).sent, 1);
        let (_, source) = relay.recv_from(&mut [0; 9]).unwrap();
        assert_eq!(source, SocketAddr::new("::1".parse().unwrap(), socket.port()));
        relay.send_to(b"ho", source).unwrap();
        let mut batch = ReceiveBatch::new(100);
        assert_eq!(receive(&socket, &mut batch), 1);
        let datagram = batch.datagram(0);
        assert_eq!((datagram.bytes, datagram.source), (&b"ho"[..], Some(address)));
        assert_eq!(datagram.destination, Some("::1".parse().unwrap()));
    }

    #[test]
    fn a_source_that_is_not_ours_is_refused_and_the_rest_goes_on() {
        let (socket, relay, address) = pair("127.0.0.1:0");
        let mut batch = SendBatch::new(address, 100);
        batch.push(Some(IpAddr::from([198, 51, 100, 1])), 1)[0] = 1;
        batch.push(Some(IpAddr::from([127, 64, 0, 2])), 1)[0] = 2;
        let flushed = batch.flush(&socket);
        assert_eq!((flushed.sent, flushed.refused), (1, 1));
        assert!(flushed.error.is_some());
        let mut buffer = [0; 10];
        assert_eq!(relay.recv_from(&mut buffer).unwrap().0, 1);
        assert_eq!(buffer[0], 2);
    }

    #[test]
    fn what_nobody_reads_in_time_is_counted() {
        let (socket, relay, _) = pair("127.0.0.1:0");
        socket.socket.set_recv_buffer_size(4096).unwrap();
        let to = SocketAddr::from(([127, 64, 0, 1], socket.port()));
        for _ in 0..100 {
            relay.send_to(&[0; 1000], to).unwrap();
        }
        let mut batch = ReceiveBatch::new(1000);
        let mut read = 0;
        loop {
            let count = batch.receive(&socket).unwrap();
            if count == 0 {
                break;
            }
            read += count as u64;
        }
        assert!(read > 0 && read < 100);
        assert_eq!(dropped(&socket).unwrap(), 100 - read);
    }

    #[test]
    fn large_datagrams_make_short_batches() {
        let batch = SendBatch::new("127.0.0.1:9".parse().unwrap(), 65_507);
        assert!(batch.slots_max < BATCH_MAX + 1 && batch.bytes.len() <= BATCH_BYTES_MAX);
        assert_eq!(SendBatch::new("127.0.0.1:9".parse().unwrap(), 300).slots_max, BATCH_MAX);
    }
}
