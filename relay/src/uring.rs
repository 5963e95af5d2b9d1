//! The safe face of the ring: multishot receives into lent buffers, sends from them, completions with types.
//!
//! ```text
//! turn:  submit_and_wait ── flushes the sends of the last batch (they complete inline, see below)
//!                        └─ runs the receives, whose completions are waiting when it returns
//!        completions     ── failed sends first concern the batch whose buffers are still held
//!        give_back, publish, receive again where a multishot ended
//! ```
//!
//! **Sends complete inline.** Every send carries `MSG_DONTWAIT`, which makes io_uring fail it with `EAGAIN` instead of
//! parking it, so when a submission returns with the queue consumed, no send refers to our memory any more. Addresses,
//! headers and buffers may then be used again. Successes post no completion.
#![allow(unsafe_code)]

mod buffers;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, register::Restriction, squeue};

use self::buffers::Buffers;
pub use self::buffers::Lease;
use crate::endpoint::Endpoint;

/// Receives the kernel may fill before we look; each holds one datagram or a merged run.
pub const BUFFERS: u16 = 128;
/// A merged run is at most 64 KiB; before it lie the kernel's header, the source address and the control messages.
pub const BUFFER_BYTES: usize = (64 << 10) + 256;
/// Submission queue entries; a batch with more sends is submitted in parts.
const SUBMISSIONS: u32 = 1024;
/// Completions: every buffer, every send of a submission, and the few others.
const COMPLETIONS: u32 = 4096;
/// Sends one batch may make.
pub const SENDS_MAX: usize = 4096;
/// Room for control messages in a receive: merged segment size, drop count.
const CONTROL_BYTES: usize = 64;

/// Which registered file an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSlot(pub u32);

/// Why there is no ring. The texts name what is missing.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// io_uring is not there at all.
    #[error(
        "there is no io_uring here: Linux 6.1 or later is needed, and a seccomp profile that allows its system calls \
         (packaging/seccomp.json), which engines of containers forbid unless told"
    )]
    Missing,
    /// It is there and forbidden.
    #[error(
        "io_uring is forbidden here; set kernel.io_uring_disabled=0, or allow the io_uring system calls in the \
         container's seccomp profile"
    )]
    Forbidden,
    /// A part of it is missing.
    #[error("this kernel's io_uring lacks {0}; Linux 6.1 or later is needed")]
    Feature(&'static str),
    /// No memory may be locked for it.
    #[error("no memory for the ring; raise the limit of locked memory (LimitMEMLOCK=, ulimit -l) or use fewer shards")]
    Memory,
    /// Another refusal.
    #[error("cannot set up the ring")]
    Io(#[from] io::Error),
}

impl RingError {
    /// What an errno of the set-up call means, when asked for flags that `feature` needs.
    fn from_setup(error: io::Error, feature: &'static str) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden,
            Some(libc::EINVAL) => Self::Feature(feature),
            Some(libc::ENOMEM) => Self::Memory,
            _ => Self::Io(error),
        }
    }
}

/// A datagram, or a run of equal datagrams the kernel merged.
#[derive(Debug)]
pub struct Received {
    /// The socket it came to.
    pub socket: FileSlot,
    /// The buffer it is in.
    pub lease: Lease,
    /// From whom.
    pub from: Endpoint,
    /// Where in the buffer the payload lies.
    pub payload: Range<usize>,
    /// Bytes of each merged datagram but the last; the payload's length where nothing was merged.
    pub segment: usize,
    /// Whether the kernel had to cut it.
    pub truncated: bool,
    /// Datagrams this socket lost for want of room since it was opened, where the kernel tells.
    pub lost: Option<u32>,
}

/// What the ring reports.
#[derive(Debug)]
pub enum Completion {
    /// Something arrived.
    Received(Received),
    /// A socket receives no more until asked again; 0 is no error.
    ReceiveEnded(FileSlot, i32),
    /// The send with this token failed.
    SendFailed(u32, i32),
    /// The watched eventfd was written.
    Woken,
}

/// How long to wait for a completion.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until one is there or this has passed.
    AtMost(Duration),
}

/// Memory for one send's address, header and control message.
#[repr(C)]
struct Slot {
    address: RawAddress,
    header: libc::msghdr,
    control: SegmentControl,
}

#[repr(C)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// A control message that carries `UDP_SEGMENT`, laid out as `CMSG_SPACE(2)`.
#[repr(C, align(8))]
struct SegmentControl {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u8; 6],
}

/// One shard's ring.
pub struct Ring {
    ring: IoUring,
    template: Box<libc::msghdr>,
    slots: Box<[Slot]>,
    used: usize,
    iovecs: Box<[libc::iovec]>,
    iovecs_used: usize,
    replies: Box<[u8]>,
    woken: Box<u64>,
    /// Receives whose last completion also delivered.
    ended: Vec<FileSlot>,
    /// A receive's completions carry the generation it was armed with, so that those of a closed socket are known.
    generations: Box<[u16]>,
    /// Last: operations that use the buffers are gone when `Drop` has cancelled them.
    buffers: Buffers,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("buffers", &self.buffers).finish_non_exhaustive()
    }
}

/// `IOSQE_FIXED_FILE`, `IOSQE_BUFFER_SELECT`, `IOSQE_CQE_SKIP_SUCCESS`, `IORING_REGISTER_FILES_UPDATE` and
/// `IORING_REGISTER_SYNC_CANCEL` of the kernel's io_uring.h.
const FLAG_FIXED_FILE: u8 = 1 << 0;
const FLAG_BUFFER_SELECT: u8 = 1 << 5;
const FLAG_SKIP_SUCCESS: u8 = 1 << 6;
const REGISTER_FILES_UPDATE: u8 = 6;
const REGISTER_SYNC_CANCEL: u8 = 24;

const KIND_RECEIVE: u64 = 1;
const KIND_SEND: u64 = 2;
const KIND_WAKE: u64 = 3;
const KIND_CANCEL: u64 = 4;

const fn user_data(kind: u64, generation: u16, index: u32) -> u64 {
    kind << 56 | (generation as u64) << 32 | index as u64
}

impl Ring {
    /// A ring for the calling thread, which alone may use it, with `files` file slots and `reply_bytes` of memory for
    /// messages of our own.
    ///
    /// # Errors
    /// [`RingError`], naming the feature this kernel lacks.
    pub fn new(files: u32, reply_bytes: usize) -> Result<Self, RingError> {
        IoUring::new(8).map_err(|error| RingError::from_setup(error, "rings of eight entries"))?;
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .build(SUBMISSIONS)
            .map_err(|error| {
                RingError::from_setup(error, "IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN")
            })?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        for (code, name) in [
            (opcode::RecvMsgMulti::CODE, "IORING_OP_RECVMSG"),
            (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
            (opcode::Send::CODE, "IORING_OP_SEND"),
            (opcode::SendZc::CODE, "IORING_OP_SEND with an address"),
        ] {
            if !probe.is_supported(code) {
                return Err(RingError::Feature(name));
            }
        }
        ring.submitter().register_files_sparse(files)?;
        let buffers = Buffers::register(&ring.submitter(), BUFFERS, BUFFER_BYTES)
            .map_err(|error| RingError::from_setup(error, "provided-buffer rings (IORING_REGISTER_PBUF_RING)"))?;
        restrict(&ring).map_err(|error| RingError::from_setup(error, "restrictions (IORING_REGISTER_RESTRICTIONS)"))?;
        // SAFETY: `msghdr`, `Slot` and `iovec` are plain C structures for which all-zero bytes are valid.
        let (template, slots, iovecs) = unsafe {
            let mut template: Box<libc::msghdr> = Box::new(std::mem::zeroed());
            template.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
            template.msg_controllen = CONTROL_BYTES;
            let slots: Box<[Slot]> = (0..SENDS_MAX).map(|_| std::mem::zeroed()).collect();
            let iovecs: Box<[libc::iovec]> = (0..SENDS_MAX).map(|_| std::mem::zeroed()).collect();
            (template, slots, iovecs)
        };
        Ok(Self {
            ring,
            template,
            slots,
            used: 0,
            iovecs,
            iovecs_used: 0,
            replies: vec![0; reply_bytes].into_boxed_slice(),
            woken: Box::new(0),
            ended: Vec::with_capacity(files as usize),
            generations: vec![0; files as usize].into_boxed_slice(),
            buffers,
        })
    }

    /// Puts a file into a slot. The ring keeps it open until [`Self::uninstall`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn install(&mut self, FileSlot(slot): FileSlot, file: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[file.as_raw_fd()])?;
        Ok(())
    }

    /// Ends the receive on a slot's file and empties the slot.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn uninstall(&mut self, slot: FileSlot) -> io::Result<()> {
        let generation = &mut self.generations[slot.0 as usize];
        let armed = user_data(KIND_RECEIVE, *generation, slot.0);
        *generation = generation.wrapping_add(1);
        let cancel = opcode::AsyncCancel::new(armed).build().user_data(user_data(KIND_CANCEL, 0, slot.0));
        self.push(&cancel)?;
        self.submit()?;
        self.ring.submitter().register_files_update(slot.0, &[-1])?;
        Ok(())
    }

    /// Ends the receive on a slot's socket. What the kernel has delivered until then still completes, then
    /// [`Completion::ReceiveEnded`]; what it has not stays in the socket for whoever receives next.
    ///
    /// # Errors
    /// What the kernel says to a submission.
    pub fn cancel(&mut self, slot: FileSlot) -> io::Result<()> {
        let armed = user_data(KIND_RECEIVE, self.generations[slot.0 as usize], slot.0);
        self.push(&opcode::AsyncCancel::new(armed).build().user_data(user_data(KIND_CANCEL, 0, slot.0)))
    }

    /// Receives on a slot's socket until [`Completion::ReceiveEnded`].
    ///
    /// # Errors
    /// What the kernel says to a submission.
    pub fn receive(&mut self, slot: FileSlot) -> io::Result<()> {
        let data = user_data(KIND_RECEIVE, self.generations[slot.0 as usize], slot.0);
        let template: *const libc::msghdr = &raw const *self.template;
        let receive = opcode::RecvMsgMulti::new(Fixed(slot.0), template, buffers::GROUP).build().user_data(data);
        self.push(&receive)
    }

    /// Reads the eventfd in `slot` once; [`Completion::Woken`] follows.
    ///
    /// # Errors
    /// What the kernel says to a submission.
    pub fn watch(&mut self, FileSlot(slot): FileSlot) -> io::Result<()> {
        let value: *mut u64 = &raw mut *self.woken;
        let read = opcode::Read::new(Fixed(slot), value.cast(), size_of::<u64>() as u32).build();
        self.push(&read.user_data(user_data(KIND_WAKE, 0, slot)))
    }

    /// The memory for messages of our own.
    pub fn replies(&mut self) -> &mut [u8] {
        &mut self.replies
    }

    /// A received buffer.
    #[must_use]
    pub fn bytes(&self, lease: &Lease) -> &[u8] {
        self.buffers.bytes(lease)
    }

    /// A received buffer, to rewrite in place.
    pub fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        self.buffers.bytes_mut(lease)
    }

    /// Gives a buffer back, once the sends from it are submitted.
    pub fn give_back(&mut self, lease: Lease) {
        self.buffers.give_back(lease);
    }

    /// Lets the kernel see the buffers given back.
    pub fn publish(&mut self) {
        self.buffers.publish();
    }

    /// Queues one send of `parts` as datagrams of `segment` bytes, the last maybe shorter. A failure is reported with
    /// `token`.
    ///
    /// # Errors
    /// What the kernel says to a submission.
    ///
    /// # Panics
    /// For a part outside its memory, and for more than [`SENDS_MAX`] sends or parts in a batch.
    pub fn send(
        &mut self,
        FileSlot(slot): FileSlot,
        to: &Endpoint,
        segment: usize,
        parts: impl Iterator<Item = (Region, Range<usize>)>,
        token: u32,
    ) -> io::Result<()> {
        let first = self.iovecs_used;
        for (region, range) in parts {
            self.iovecs[self.iovecs_used] = self.memory(region, range);
            self.iovecs_used += 1;
        }
        let iovecs = &self.iovecs[first..self.iovecs_used];
        let storage = &mut self.slots[self.used];
        self.used += 1;
        let address_len = storage.address.set(to);
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = if let [single] = iovecs {
            opcode::Send::new(Fixed(slot), single.iov_base.cast(), single.iov_len as u32)
                .flags(FLAGS)
                .dest_addr((&raw const storage.address).cast())
                .dest_addr_len(address_len)
                .build()
        } else {
            storage.header.msg_name = (&raw mut storage.address).cast();
            storage.header.msg_namelen = address_len;
            storage.header.msg_iov = iovecs.as_ptr().cast_mut();
            storage.header.msg_iovlen = iovecs.len();
            storage.control = SegmentControl::new(segment as u16);
            storage.header.msg_control = (&raw mut storage.control).cast();
            storage.header.msg_controllen = size_of::<SegmentControl>();
            opcode::SendMsg::new(Fixed(slot), &raw const storage.header).flags(FLAGS as u32).build()
        };
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data(KIND_SEND, 0, token));
        self.push(&entry)
    }

    /// Whether completions, or work that will produce some, wait to be looked at.
    pub fn has_news(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Submits what is queued; the sends among it are complete on return.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn submit(&mut self) -> io::Result<()> {
        self.flush()?;
        self.used = 0;
        self.iovecs_used = 0;
        Ok(())
    }

    /// Submits what is queued, lets the kernel run receives, and waits for a completion.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn submit_and_wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::AtMost(timeout) => timeout,
            Wait::No => Duration::ZERO,
        };
        let timespec = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timespec);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) || is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        self.submit()
    }

    /// The next completion; `None` when all have been looked at.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if let Some(slot) = self.ended.pop() {
                return Some(Completion::ReceiveEnded(slot, 0));
            }
            let entry = self.ring.completion().next()?;
            let data = entry.user_data();
            let (kind, generation, index) = (data >> 56, (data >> 32) as u16, data as u32);
            match kind {
                KIND_RECEIVE if self.generations[index as usize] != generation => {
                    if let Some(id) = cqueue::buffer_select(entry.flags()) {
                        self.give_back(Lease { id });
                    }
                }
                KIND_RECEIVE => return Some(self.received(&entry, FileSlot(index))),
                KIND_SEND => return Some(Completion::SendFailed(index, -entry.result())),
                KIND_WAKE => return Some(Completion::Woken),
                _ => {}
            }
        }
    }

    /// A completion of a receive. One that both delivers and ends is reported as two.
    fn received(&mut self, entry: &cqueue::Entry, socket: FileSlot) -> Completion {
        let Some(id) = cqueue::buffer_select(entry.flags()) else {
            return Completion::ReceiveEnded(socket, -entry.result());
        };
        let lease = Lease { id };
        let filled = usize::try_from(entry.result()).unwrap_or(0).min(self.buffers.stride());
        let bytes = &self.buffers.bytes(&lease)[..filled];
        let message = RecvMsgOut::parse(bytes, &self.template).ok();
        let from = message.as_ref().and_then(|message| endpoint(message.name_data()));
        let (Some(message), Some(from)) = (message, from) else {
            // The kernel writes the layout we asked for; if it does not, the buffer still has to come back.
            self.give_back(lease);
            return Completion::ReceiveEnded(socket, libc::EBADMSG);
        };
        let start = message.payload_data().as_ptr().addr() - bytes.as_ptr().addr();
        let payload = start..start + message.payload_data().len();
        let control = ReceiveControl::parse(message.control_data());
        let received = Received {
            socket,
            from,
            segment: control.segment.unwrap_or(payload.len()),
            truncated: message.is_payload_truncated(),
            lost: control.lost,
            payload,
            lease,
        };
        if !cqueue::more(entry.flags()) {
            self.ended.push(socket);
        }
        Completion::Received(received)
    }

    fn memory(&self, region: Region, range: Range<usize>) -> libc::iovec {
        let (start, len) = match region {
            Region::Replies => (self.replies.as_ptr(), self.replies.len()),
            Region::Buffer(id) => (self.buffers.address(id), self.buffers.stride()),
        };
        assert!(range.start <= range.end && range.end <= len, "a part lies within its memory");
        libc::iovec { iov_base: start.wrapping_add(range.start).cast_mut().cast(), iov_len: range.len() }
    }

    /// Hands the queue to the kernel without giving up the memory of sends that are still being put together.
    fn flush(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to (template, slots, iovecs, buffers, replies, the wake-up value) is memory
            // of this ring that stays in place until the operation is complete: sends are complete when `submit`
            // returns, which is when slots are reused; receives and the wake-up read use memory that lives as long as
            // the ring, whose `Drop` cancels them first.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.flush()?;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The ring's own teardown is deferred by the kernel; without this it could still receive into buffers that
        // are being unmapped.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}

/// Which memory a part of a send lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// [`Ring::replies`].
    Replies,
    /// A lent buffer.
    Buffer(u16),
}

impl Lease {
    /// The buffer as the source of a send.
    #[must_use]
    pub const fn region(&self) -> Region {
        Region::Buffer(self.id)
    }
}

/// What the ring does, and nothing else from here on: no file is opened, no connection made through it, even by one who
/// controls this process. A filter of system calls does not see what a ring does.
fn restrict(ring: &IoUring) -> io::Result<()> {
    let operations = [
        opcode::RecvMsgMulti::CODE,
        opcode::SendMsg::CODE,
        opcode::Send::CODE,
        opcode::Read::CODE,
        opcode::AsyncCancel::CODE,
    ];
    let flags = FLAG_FIXED_FILE | FLAG_BUFFER_SELECT | FLAG_SKIP_SUCCESS;
    let mut restrictions: Vec<Restriction> = operations.into_iter().map(Restriction::sqe_op).collect();
    restrictions.push(Restriction::sqe_flags_allowed(flags));
    restrictions.extend([REGISTER_FILES_UPDATE, REGISTER_SYNC_CANCEL].map(Restriction::register_op));
    ring.submitter().register_restrictions(&mut restrictions)?;
    ring.submitter().register_enable_rings()
}

/// Errors after which the same call is made again: interrupted, or completions have to be reaped first.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl RawAddress {
    /// Fills in `to`, in the family it really has; returns the length.
    fn set(&mut self, to: &Endpoint) -> libc::socklen_t {
        match to.socket_addr() {
            SocketAddr::V4(address) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(address) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: 0,
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

impl SegmentControl {
    const fn new(segment: u16) -> Self {
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        Self { header, segment, padding: [0; 6] }
    }
}

/// The source address in the bytes the kernel wrote.
fn endpoint(name: &[u8]) -> Option<Endpoint> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
        // The flow label comes before the address.
        libc::AF_INET6 => Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)).into())
}

/// What the control messages of a receive say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ReceiveControl {
    segment: Option<usize>,
    lost: Option<u32>,
}

impl ReceiveControl {
    /// Walks the `cmsghdr`s: length (with header), level, type, data, padding to eight bytes.
    fn parse(mut bytes: &[u8]) -> Self {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let mut control = Self::default();
        while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
            let word = |at: usize| i32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let len = usize::from_ne_bytes(*header.first_chunk().expect("a header holds its length"));
            let Some(data) = bytes.get(HEADER..len).and_then(|data| data.first_chunk::<4>()) else { break };
            match (word(8), word(12)) {
                (libc::SOL_UDP, libc::UDP_GRO) => control.segment = usize::try_from(i32::from_ne_bytes(*data)).ok(),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => control.lost = Some(u32::from_ne_bytes(*data)),
                _ => {}
            }
            bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or_default();
        }
        control.segment = control.segment.filter(|segment| *segment > 0);
        control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_kernel_name_what_is_missing() {
        let text = |errno| RingError::from_setup(io::Error::from_raw_os_error(errno), "X").to_string();
        assert!(text(libc::ENOSYS).contains("no io_uring") && text(libc::ENOSYS).contains("seccomp profile"));
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(text(libc::EINVAL).contains("lacks X"));
        assert!(text(libc::ENOMEM).contains("LimitMEMLOCK"));
        assert!(text(libc::EMFILE).contains("cannot set up"));
    }

    #[test]
    fn a_ring_does_its_work_and_nothing_else() {
        let mut ring = Ring::new(1, 0).unwrap();
        let file = c"/proc/self/stat";
        let nowhere = io_uring::types::Fd(libc::AT_FDCWD);
        let others = [
            opcode::OpenAt::new(nowhere, file.as_ptr()).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build(),
            opcode::Nop::new().build().flags(squeue::Flags::IO_LINK),
        ];
        for other in others {
            ring.push(&other.user_data(1)).unwrap();
            ring.submit_and_wait(Wait::No).unwrap();
            let result = ring.ring.completion().next().map(|entry| entry.result());
            assert_eq!(result, Some(-libc::EACCES));
        }
        let refused = ring.ring.submitter().register_eventfd(0).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn broken_control_messages_are_ignored() {
        assert_eq!(ReceiveControl::parse(&[]), ReceiveControl::default());
        assert_eq!(ReceiveControl::parse(&[0xFF; 40]), ReceiveControl::default());
        let mut message = Vec::new();
        message.extend(20usize.to_ne_bytes());
        message.extend(libc::SOL_UDP.to_ne_bytes());
        message.extend(libc::UDP_GRO.to_ne_bytes());
        message.extend(1200i32.to_ne_bytes());
        assert_eq!(ReceiveControl::parse(&message).segment, Some(1200));
        (0..message.len()).for_each(|cut| {
            let _ = ReceiveControl::parse(&message[..cut]);
        });
    }
}
