//! IPv4 UDP in batches, as the rivals and the generator need it: `recvmmsg` and `sendmmsg` with segmentation (GSO),
//! merging (GRO) and chosen source addresses. What the datagrams mean is not known here.
//!
//! The only file of `benches` with unsafe code: system calls that no crate offers in this form.
#![expect(unsafe_code, reason = "see above")]

use std::ffi::c_int;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Type};

/// What the kernel holds while nobody reads, and what it takes without blocking.
const BUFFER_BYTES: c_int = 8 << 20;
const CONTROL_BYTES: usize = 64;

/// An unconnected IPv4 UDP socket.
#[derive(Debug)]
pub struct Socket(socket2::Socket);

impl Socket {
    /// Binds `address`; with `probe`, datagrams leave with "don't fragment" and without an identification to draw.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind(address: SocketAddrV4, probe: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let socket = Self(socket);
        for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            let set = |option| socket.set(libc::SOL_SOCKET, option, BUFFER_BYTES);
            set(force).or_else(|_| set(plain))?;
        }
        if probe {
            socket.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        }
        socket.0.bind(&address.into())?;
        Ok(socket)
    }

    /// Whether the kernel may hand over merged datagrams (`UDP_GRO`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_merging(&self, on: bool) -> io::Result<()> {
        self.set(libc::SOL_UDP, libc::UDP_GRO, c_int::from(on))
    }

    /// Whether receives tell the address a datagram was sent to (`IP_PKTINFO`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_packet_info(&self, on: bool) -> io::Result<()> {
        self.set(libc::IPPROTO_IP, libc::IP_PKTINFO, c_int::from(on))
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddrV4> {
        let address = self.0.local_addr()?.as_socket_ipv4();
        address.ok_or_else(|| io::Error::other("an IPv4 socket without an IPv4 address"))
    }

    /// A handle to the same socket for the standard library.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn as_std(&self) -> io::Result<std::net::UdpSocket> {
        Ok(self.0.try_clone()?.into())
    }

    fn set(&self, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only reads it.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// One receive: a datagram, or several merged ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where in [`Inbox::memory`] its bytes lie.
    pub bytes: Range<usize>,
    /// Bytes of each merged datagram but the last.
    pub segment: usize,
    /// From whom.
    pub from: SocketAddrV4,
    /// To which of our addresses, where asked for.
    pub to: Option<Ipv4Addr>,
}

impl Message {
    /// The datagrams in it.
    pub fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.bytes;
        let segment = self.segment.max(1);
        (start..end.max(start + 1)).step_by(segment).map(move |at| at..end.min(at + segment))
    }
}

/// Buffers for one `recvmmsg`.
pub struct Inbox {
    memory: Box<[u8]>,
    stride: usize,
    names: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

/// Room for control messages, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

impl Inbox {
    /// `count` buffers of `stride` bytes.
    #[must_use]
    pub fn new(count: usize, stride: usize) -> Self {
        // SAFETY: these are plain C structures for which all-zero bytes are valid.
        let zeroed = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let (name, iovec, header) = zeroed;
        Self {
            memory: vec![0; count * stride].into_boxed_slice(),
            stride,
            names: vec![name; count].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_BYTES]); count].into_boxed_slice(),
            iovecs: vec![iovec; count].into_boxed_slice(),
            headers: vec![header; count].into_boxed_slice(),
        }
    }

    /// Receives up to all buffers full; waits for the first if `wait`, else `0` means that nothing was there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&mut self, socket: &Socket, wait: bool) -> io::Result<usize> {
        for (index, header) in self.headers.iter_mut().enumerate() {
            self.iovecs[index].iov_base = self.memory[index * self.stride..][..self.stride].as_mut_ptr().cast();
            self.iovecs[index].iov_len = self.stride;
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_hdr.msg_iov = &raw mut self.iovecs[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: every header points to its own name, control and buffer, which live in `self` and are not touched
        // before the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.0.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as u32,
                flags,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// What the last receive put into buffer `index`.
    #[must_use]
    pub fn message(&self, index: usize) -> Message {
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(self.stride);
        let start = index * self.stride;
        let name = &self.names[index];
        let from = SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port));
        let control = &self.controls[index].0[..header.msg_hdr.msg_controllen.min(CONTROL_BYTES)];
        let (segment, to) = read_control(control);
        Message { bytes: start..start + len, segment: segment.unwrap_or(len), from, to }
    }

    /// All buffers, to be indexed by [`Message::bytes`].
    #[must_use]
    pub fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

/// Merged segment size and destination, from the control messages of a receive.
fn read_control(mut bytes: &[u8]) -> (Option<usize>, Option<Ipv4Addr>) {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let (mut segment, mut to) = (None, None);
    let word = |bytes: &[u8], at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while let Some(len) = bytes.first_chunk::<8>().map(|len| usize::from_ne_bytes(*len)) {
        let Some(message) = bytes.get(..len).filter(|message| message.len() >= HEADER) else { break };
        match (word(message, 8), word(message, 12)) {
            (Some(libc::SOL_UDP), Some(libc::UDP_GRO)) => {
                segment = word(message, HEADER).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
            }
            // `in_pktinfo`: interface, local address, header's destination address.
            (Some(libc::IPPROTO_IP), Some(libc::IP_PKTINFO)) => {
                to = message
                    .get(HEADER + 8..HEADER + 12)
                    .and_then(|ip| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)));
            }
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    (segment, to)
}

/// Sends waiting for one `sendmmsg`.
pub struct Outbox {
    queued: Vec<Queued>,
    parts: Vec<Range<usize>>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

#[derive(Clone, Debug)]
struct Queued {
    to: SocketAddrV4,
    source: Option<Ipv4Addr>,
    segment: Option<u16>,
    parts: Range<usize>,
}

impl Outbox {
    /// Room for `sends` sends of `parts` parts together.
    #[must_use]
    pub fn new(sends: usize, parts: usize) -> Self {
        Self {
            queued: Vec::with_capacity(sends),
            parts: Vec::with_capacity(parts),
            names: Vec::with_capacity(sends),
            controls: Vec::with_capacity(sends),
            iovecs: Vec::with_capacity(parts),
            headers: Vec::with_capacity(sends),
        }
    }

    /// Queues one datagram: a range of the memory given to [`Self::flush`].
    pub fn push_one(&mut self, to: SocketAddrV4, source: Option<Ipv4Addr>, datagram: Range<usize>) {
        self.push(to, source, None, std::iter::once(datagram));
    }

    /// Queues one send. `parts` are ranges of the memory given to [`Self::flush`]; with `segment` they leave as
    /// datagrams of that size, else as one.
    pub fn push(
        &mut self,
        to: SocketAddrV4,
        source: Option<Ipv4Addr>,
        segment: Option<u16>,
        parts: impl IntoIterator<Item = Range<usize>>,
    ) {
        let first = self.parts.len();
        self.parts.extend(parts);
        self.queued.push(Queued { to, source, segment, parts: first..self.parts.len() });
    }

    /// Sends everything queued from `memory`; returns how many sends the kernel refused.
    ///
    /// # Panics
    /// For a part outside `memory`.
    pub fn flush(&mut self, socket: &Socket, memory: &[u8]) -> usize {
        self.iovecs.clear();
        self.iovecs.extend(self.parts.iter().map(|part| {
            let part = &memory[part.clone()];
            libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
        }));
        self.names.clear();
        self.names.extend(self.queued.iter().map(|queued| name(queued.to)));
        self.controls.clear();
        self.headers.clear();
        for queued in &self.queued {
            let (control, len) = write_control(queued);
            self.controls.push(control);
            // SAFETY: a plain C structure for which all-zero bytes are valid.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_controllen = len;
            self.headers.push(header);
        }
        for (index, queued) in self.queued.iter().enumerate() {
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = self.iovecs[queued.parts.clone()].as_mut_ptr();
            header.msg_iovlen = queued.parts.len();
            if header.msg_controllen > 0 {
                header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            }
        }
        let (mut done, mut refused) = (0, 0);
        while done < self.headers.len() {
            let rest = &mut self.headers[done..];
            // SAFETY: every header points to its own name, control and parts; names and controls live in `self`, the
            // parts in `memory`, which is borrowed for the call. The kernel only reads them.
            let sent = unsafe { libc::sendmmsg(socket.0.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    refused += 1;
                    done += 1;
                }
            }
        }
        self.queued.clear();
        self.parts.clear();
        refused
    }
}

fn name(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// The control messages of a send, and their length.
fn write_control(queued: &Queued) -> (Control, usize) {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let mut control = Control([0; CONTROL_BYTES]);
    let mut at = 0;
    let mut add = |level: c_int, kind: c_int, data: &[u8]| {
        let bytes = &mut control.0[at..];
        bytes[..8].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        bytes[8..12].copy_from_slice(&level.to_ne_bytes());
        bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
        bytes[HEADER..HEADER + data.len()].copy_from_slice(data);
        at += (HEADER + data.len()).next_multiple_of(8);
    };
    if let Some(segment) = queued.segment {
        add(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    if let Some(source) = queued.source {
        let mut info = [0; 12];
        info[4..8].copy_from_slice(&source.octets());
        add(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    }
    (control, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Socket {
        Socket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), true).unwrap()
    }

    #[test]
    fn trains_arrive_merged_or_singly_from_the_source_chosen() {
        let (here, there) = (Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), false).unwrap(), loopback());
        there.set_packet_info(true).unwrap();
        let source = Ipv4Addr::new(127, 9, 8, 7);
        for merging in [true, false] {
            there.set_merging(merging).unwrap();
            let mut outbox = Outbox::new(1, 3);
            outbox.push(there.address().unwrap(), Some(source), Some(4), [0..4, 8..12, 4..6]);
            assert_eq!(outbox.flush(&here, b"AAAACCxxBBBB"), 0);
            let mut inbox = Inbox::new(8, 4096);
            let mut datagrams = Vec::new();
            let mut receives = 0;
            while datagrams.len() < 3 {
                let count = inbox.receive(&there, true).unwrap();
                receives += count;
                for message in (0..count).map(|index| inbox.message(index)).collect::<Vec<_>>() {
                    assert_eq!(*message.from.ip(), source);
                    assert_eq!(message.to, Some(Ipv4Addr::LOCALHOST));
                    datagrams.extend(message.datagrams().map(|range| inbox.memory()[range].to_vec()));
                }
            }
            assert_eq!(datagrams, [b"AAAA".to_vec(), b"BBBB".to_vec(), b"CC".to_vec()]);
            assert_eq!(receives, if merging { 1 } else { 3 });
            assert_eq!(inbox.receive(&there, false).unwrap(), 0);
        }
    }

    #[test]
    fn a_refused_send_does_not_hold_up_the_others() {
        let (here, there) = (loopback(), loopback());
        let mut outbox = Outbox::new(3, 3);
        outbox.push_one(there.address().unwrap(), None, 0..1);
        outbox.push_one(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), None, 1..2);
        outbox.push_one(there.address().unwrap(), None, 2..3);
        assert_eq!(outbox.flush(&here, b"abc"), 1);
        let mut inbox = Inbox::new(8, 16);
        let mut bytes = Vec::new();
        while bytes.len() < 2 {
            let count = inbox.receive(&there, true).unwrap();
            (0..count).for_each(|index| bytes.push(inbox.message(index).bytes.start));
        }
        assert_eq!(bytes.len(), 2);
    }
}
