//! UDP sockets of a shard: one per local address in a `SO_REUSEPORT` group steered by the node id, and a send-only
//! sibling for what has to be fragmented; filters on them; and open files that come from another process. The file's
//! unsafe code is the socket options no crate offers, and the taking over of descriptors that are numbers.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::io::IoSliceMut;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use wire::beacon;

use crate::config::{RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES};
use crate::endpoint::LocalId;
use crate::inheritance::{Facts, Group};

/// After exit a port served by a ring stays bound for a moment, since the ring's teardown is deferred.
const BIND_RETRIES: u32 = 15;
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The answer to `SO_MEMINFO`, in words: what is queued, how much may be, drops (`SK_MEMINFO_*` of `linux/sock_diag.h`).
const MEMINFO_RMEM_ALLOC: usize = 0;
const MEMINFO_RCVBUF: usize = 1;
const MEMINFO_DROPS: usize = 8;

/// One shard's sockets for one local address.
#[derive(Debug)]
pub struct LocalSockets {
    /// The address they are bound to.
    pub id: LocalId,
    /// Receives and sends; never fragments.
    pub main: OwnedFd,
    /// Only sends, what exceeds the path's MTU; fragments. Steering never chooses it.
    pub fragmenting: OwnedFd,
    /// Datagrams the kernel had dropped for want of room when this relay took the main socket over.
    pub lost_before: u32,
}

/// Binds `address` once for every shard, in the order the steering program counts, and returns the address with its
/// port and the sockets by shard. Waits a little for a port that a relay, or a shard of ours, has just left.
///
/// # Errors
/// `AddrInUse` when any other socket holds the port: joining its group would split the traffic with it.
pub fn bind_group(address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<(OwnedFd, OwnedFd)>)> {
    let address = claim_port(address)?;
    // Receiving members first: the program's result is an index in joining order.
    let mut members = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = open(address)?;
        if members.is_empty() {
            steer(&socket, shards)?;
        }
        tune(&socket, address)?;
        socket.bind(&address.into())?;
        members.push(socket);
    }
    let siblings = members.iter().map(|_| {
        let socket = open(address)?;
        set_path_mtu_discovery(&socket, address, libc::IP_PMTUDISC_OMIT)?;
        socket.bind(&address.into())?;
        Ok(socket)
    });
    let siblings: Vec<Socket> = siblings.collect::<io::Result<_>>()?;
    let pairs = members.into_iter().zip(siblings).map(|(main, sibling)| (main.into(), sibling.into()));
    Ok((address, pairs.collect()))
}

/// What the kernel says of an open file.
#[must_use]
pub fn facts(file: &OwnedFd) -> Facts {
    let socket = SockRef::from(file);
    let udp = socket.r#type().is_ok_and(|kind| kind == Type::DGRAM)
        && socket.protocol().is_ok_and(|protocol| protocol == Some(Protocol::UDP));
    let bound = socket.local_addr().ok().and_then(|address| address.as_socket());
    Facts { groups: udp && socket.reuse_port().unwrap_or(false), bound }
}

/// Makes the sockets of another process, perhaps of another version, what [`bind_group`] makes them. A filter of its stays
/// as long as it may still serve; [`crate::guard::Guard::install`] takes it off.
///
/// # Errors
/// What the kernel says to an option.
pub fn adopt(group: &Group) -> io::Result<()> {
    let Some((first, _)) = group.members.first() else { return Ok(()) };
    steer(&SockRef::from(first), group.members.len())?;
    for (main, sibling) in &group.members {
        let (main, sibling) = (SockRef::from(main), SockRef::from(sibling));
        tune(&main, group.bound)?;
        set_path_mtu_discovery(&sibling, group.bound, libc::IP_PMTUDISC_OMIT)?;
        for socket in [&main, &sibling] {
            grow(socket, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
        }
    }
    Ok(())
}

/// The first descriptor a service manager passes, by its protocol.
const PASSED_FIRST: RawFd = 3;

/// The descriptors a service manager has passed to this process, `count` from number 3 on, closed when a program is
/// executed. Only the first call gets them; to be called before anything else is opened, and only where the environment
/// says that they are for this process.
///
/// # Errors
/// One of them is not open.
pub fn passed_descriptors(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let last = PASSED_FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    (PASSED_FIRST..last)
        .map(|raw| {
            // SAFETY: the call touches no memory; on a number that is not open it fails.
            if unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: it is open, and by the protocol of the service manager it belongs to this program, which has opened
            // nothing else yet; the flag above makes sure that nobody gets it from here twice.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        })
        .collect()
}

/// Descriptors one message can carry: `SCM_MAX_FD` of the kernel.
pub const DESCRIPTORS_PER_MESSAGE_MAX: usize = 253;

/// Receives a message and the open files that come with it. A length of 0 is the end.
///
/// # Errors
/// What the kernel says, and a message that did not fit.
pub fn receive_with_descriptors(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_PER_MESSAGE_MAX]);
    let mut parts = [IoSliceMut::new(bytes)];
    let raw = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(raw, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raws) = control {
            // SAFETY: the kernel has just opened these for this process, and nobody else knows their numbers.
            files.extend(raws.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    Ok((message.bytes, files))
}

/// Has the kernel run `program` on every datagram before it is queued, in the place of any filter before.
///
/// # Errors
/// What the kernel says.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let steps: Vec<_> = program.iter().map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k)).collect();
    SockRef::from(&socket).attach_filter(&steps)
}

/// Takes the filter off.
///
/// # Errors
/// What the kernel says, also where there is none.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&socket).detach_filter()
}

/// The state of a socket's receive queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveQueue {
    /// Bytes of memory it takes. What has been read counts on, up to a quarter of the room, until the queue is empty.
    pub bytes: u32,
    /// Bytes it may take.
    pub room: u32,
    /// What the kernel has dropped since the socket was opened, for want of room or by the socket's filter.
    pub drops: u32,
}

/// Looks at a socket's receive queue.
///
/// # Errors
/// What the kernel says.
pub fn receive_queue(socket: BorrowedFd<'_>) -> io::Result<ReceiveQueue> {
    let mut memory = [0_u32; MEMINFO_DROPS + 1];
    let mut len = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: `memory` and `len` outlive the call, and `len` is the size of `memory`, beyond which the kernel does not
    // write. The descriptor is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ReceiveQueue { bytes: memory[MEMINFO_RMEM_ALLOC], room: memory[MEMINFO_RCVBUF], drops: memory[MEMINFO_DROPS] })
}

/// Makes sure that nobody holds the port, and picks one for port 0.
fn claim_port(address: SocketAddr) -> io::Result<SocketAddr> {
    let mut retries = BIND_RETRIES;
    loop {
        let alone = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            alone.set_only_v6(true)?;
        }
        match alone.bind(&address.into()) {
            Ok(()) => {
                let bound = alone.local_addr()?.as_socket();
                return bound.ok_or_else(|| io::Error::other("a UDP socket without an IP address"));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && retries > 0 => {
                retries -= 1;
                pause(BIND_RETRY_INTERVAL);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The end of another process's ring cannot be awaited as an event.
fn pause(interval: Duration) {
    let (_alive, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(interval);
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    grow(&socket, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
    Ok(socket)
}

/// What a socket that receives needs.
fn tune(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    enable(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    enable(socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    set_path_mtu_discovery(socket, address, libc::IP_PMTUDISC_PROBE)?;
    grow(socket, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES);
    Ok(())
}

/// Both options, since an IPv6 socket may carry either family's packets.
fn set_path_mtu_discovery(socket: &Socket, address: SocketAddr, mode: c_int) -> io::Result<()> {
    enable(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, mode)?;
    if address.is_ipv6() {
        enable(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, mode)?;
    }
    Ok(())
}

/// Beyond the system's limit where we may, up to it otherwise.
fn grow(socket: &Socket, option: c_int, force: c_int, bytes: usize) {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    if enable(socket, libc::SOL_SOCKET, force, bytes).is_err() {
        let _ = enable(socket, libc::SOL_SOCKET, option, bytes);
    }
}

fn enable(socket: &Socket, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    set_option(socket, level, option, &value)
}

/// Attaches the steering program: beacon messages go to shard `node id % shards`, whatever else by the receive hash.
///
/// The program sees the UDP payload at offset 0. A load beyond the payload would end it with 0, so the length is
/// looked at first.
fn steer(socket: &Socket, shards: usize) -> io::Result<()> {
    const LD_LEN: u16 = 0x80; // BPF_LD | BPF_W | BPF_LEN
    const LD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const LD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const JUMP_GT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const MODULO: u16 = 0x94; // BPF_ALU | BPF_MOD | BPF_K
    const RETURN: u16 = 0x16; // BPF_RET | BPF_A
    const RECEIVE_HASH: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RXHASH) as u32;
    let shards = u32::try_from(shards).map_err(io::Error::other)?;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LD_LEN, 0, 0, 0),
        step(JUMP_GE, 0, 6, beacon::ROUTING_KEY_END as u32),
        step(LD_BYTE, 0, 0, 0),
        step(JUMP_GE, 0, 4, u32::from(beacon::kind::DISCOVER)),
        step(JUMP_GT, 3, 0, u32::from(beacon::kind::LAST)),
        step(LD_WORD, 0, 0, beacon::ROUTING_KEY_OFFSET as u32),
        step(MODULO, 0, 0, shards),
        step(RETURN, 0, 0, 0),
        step(LD_WORD, 0, 0, RECEIVE_HASH),
        step(MODULO, 0, 0, shards),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set_option<T>(socket: &Socket, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only reads it. For
    // `sock_fprog` the kernel also reads the program it points to, which the caller keeps on its stack meanwhile.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
