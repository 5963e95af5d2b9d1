//! What a relay knows of its sessions, kept where the next process finds it: a memfd that outlives the one who wrote it.
//!
//! The table itself stays in the process's own memory, where the shards' look-ups are. A shard notes which slots have
//! changed and writes their records here at the end of a batch: what changes often (budgets, the second of the last
//! packet) is not kept, so that this costs a write per session in [`crate::sessions`]' grain of hearing. A kill leaves a
//! ledger that lacks at most what the last batches changed.
//!
//! ```text
//! 0      magic=8 layout=4 record bytes=4 shards=4 zero=4 slots a shard=8 sessions max=8 boot id=16 check=8, zeros to 4096
//! 4096   one record a slot, shard after shard
//! ```
//!
//! Every record carries a check of its own, so that one that was half written is known and left out. All zero is a slot
//! without a session. Times are nanoseconds of `CLOCK_MONOTONIC`, which mean nothing after a reboot: hence the boot id. A
//! record names the local address, not its number, and the node, from which its shard follows: it can be taken over by a
//! relay with other addresses, shards or bounds. Integers are little-endian.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek};
use wire::NodeId;

use crate::endpoint::{Endpoint, mapped, mix};
use crate::sessions::Grade;
use crate::time::Time;

/// The layout this relay writes, and the only one it reads.
pub const LAYOUT: u32 = 1;
/// Bytes of one slot's record: a cache line.
pub const RECORD_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"PRLEDGER";
const HEADER_BYTES: usize = 4096;
/// What of the header is used.
const HEADER_USED: usize = 64;
/// Slots a ledger can have that we read, so that a broken header cannot ask for all memory.
const SLOTS_MAX: u64 = 1 << 30;
/// Bytes read at once; a multiple of a record.
const READ_BYTES: usize = 1 << 20;
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
const MEMFD_NAME: &str = "pilot-relay-sessions";

/// One session, as the next process needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub node: NodeId,
    /// Where the node is.
    pub remote: Endpoint,
    /// The local address it talks to.
    pub local: SocketAddr,
    /// It asked for deliveries that name the destination (type 09).
    pub extended: bool,
    /// How well the holder is proven.
    pub grade: Grade,
    /// When it was last heard, not too late.
    pub seen: Time,
}

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Torn,
    Session(Record),
}

impl Record {
    /// The bytes of a slot that holds this, or nothing.
    fn encode(record: Option<&Self>) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let Some(Self { node, remote, local, extended, grade, seen }) = record else { return bytes };
        bytes[0..4].copy_from_slice(&node.0.to_le_bytes());
        bytes[4] = *grade as u8;
        bytes[5] = u8::from(*extended);
        bytes[6..8].copy_from_slice(&remote.port.to_le_bytes());
        bytes[8..24].copy_from_slice(&remote.ip.octets());
        bytes[24..40].copy_from_slice(&mapped(local.ip()).octets());
        bytes[40..42].copy_from_slice(&local.port().to_le_bytes());
        bytes[48..56].copy_from_slice(&seen.0.to_le_bytes());
        let check = check(&bytes[..RECORD_BYTES - 8]);
        bytes[RECORD_BYTES - 8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Content {
        if *bytes == [0; RECORD_BYTES] {
            return Content::Nothing;
        }
        let node = NodeId(u32_at(bytes, 0));
        if u64_at(bytes, RECORD_BYTES - 8) != check(&bytes[..RECORD_BYTES - 8]) || !node.is_node() {
            return Content::Torn;
        }
        let ip = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| bytes[at + index]));
        let port = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Content::Session(Self {
            node,
            remote: Endpoint { ip: ip(8), port: port(6) },
            local: SocketAddr::new(IpAddr::V6(ip(24)).to_canonical(), port(40)),
            extended: bytes[5] & 1 == 1,
            grade: Grade::from_number(bytes[4]),
            seen: Time(u64_at(bytes, 48)),
        })
    }
}

/// Tells a record from half of one; no defence against whoever may write it.
fn check(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| u64_at(word, 0));
    words.fold(u64::from_le_bytes(MAGIC), |sum, word| mix(sum ^ word))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

/// What a table must look like to be written slot by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Parts of the table.
    pub shards: usize,
    /// Slots of each.
    pub slots: usize,
    /// Sessions of all.
    pub sessions_max: usize,
}

/// The ledger a relay writes. Shards write different slots, so that nobody waits for anybody.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    slots: usize,
}

impl Ledger {
    /// An empty one, which takes memory as it is filled.
    ///
    /// # Errors
    /// What the kernel says to another memfd.
    pub fn create(geometry: Geometry) -> io::Result<Self> {
        let file = File::from(memfd_create(MEMFD_NAME, MFdFlags::MFD_CLOEXEC)?);
        let bytes = HEADER_BYTES as u64 + (geometry.shards * geometry.slots * RECORD_BYTES) as u64;
        file.set_len(bytes)?;
        file.write_all_at(&header(geometry, boot_id()), 0)?;
        Ok(Self { file, slots: geometry.slots })
    }

    /// Writes what stands in a shard's slot.
    ///
    /// # Errors
    /// No memory for it, for instance where the memory of this service is bounded.
    pub fn write(&self, shard: usize, slot: usize, record: Option<&Record>) -> io::Result<()> {
        let at = HEADER_BYTES + (shard * self.slots + slot) * RECORD_BYTES;
        self.file.write_all_at(&Record::encode(record), at as u64)
    }

    /// One that no record can be written to, as where memory has run out.
    #[cfg(test)]
    pub fn full() -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        let file = File::from(memfd_create(MEMFD_NAME, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.write_all_at(&header(Geometry { shards: 1, slots: 0, sessions_max: 0 }, boot_id()), 0)?;
        file.set_len(HEADER_BYTES as u64)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW))?;
        Ok(Self { file, slots: 0 })
    }

    /// Has whoever reads it find no ledger. What is no longer written would soon be wrong.
    ///
    /// # Errors
    /// What the kernel says; the memory for it is there already.
    pub fn void(&self) -> io::Result<()> {
        self.file.write_all_at(&[0; HEADER_USED], 0)
    }
}

impl AsFd for Ledger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn header(geometry: Geometry, boot_id: [u8; 16]) -> [u8; HEADER_USED] {
    let mut bytes = [0; HEADER_USED];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&LAYOUT.to_le_bytes());
    bytes[12..16].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
    bytes[16..20].copy_from_slice(&(geometry.shards as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&(geometry.slots as u64).to_le_bytes());
    bytes[32..40].copy_from_slice(&(geometry.sessions_max as u64).to_le_bytes());
    bytes[40..56].copy_from_slice(&boot_id);
    let check = check(&bytes[..HEADER_USED - 8]);
    bytes[HEADER_USED - 8..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// This boot's id; zeros where the kernel does not tell, which are then equal for both processes.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string(BOOT_ID_FILE).unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes()
}

/// Why a ledger is of no use. The sessions are then found again as after a reboot.
#[derive(Debug, thiserror::Error)]
pub enum Skew {
    /// Not one of ours, or damaged at its head.
    #[error("it is no ledger of sessions")]
    Foreign,
    /// Written by another version.
    #[error("its layout is {0}, and this version reads layout {LAYOUT}")]
    Layout(u32),
    /// From before a reboot, so that its times mean nothing.
    #[error("it is from before the last reboot")]
    Reboot,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The sessions, in no order.
    pub records: Vec<Record>,
    /// Records that were being written when their writer ended.
    pub torn: usize,
}

/// Reads the ledger in `file`, which nobody should be writing.
///
/// # Errors
/// Why it is of no use.
pub fn read(file: OwnedFd) -> Result<Contents, Skew> {
    read_since(file, boot_id())
}

fn read_since(file: OwnedFd, boot_id: [u8; 16]) -> Result<Contents, Skew> {
    let file = File::from(file);
    let mut head = [0; HEADER_USED];
    file.read_exact_at(&mut head, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Skew::Foreign,
        _ => Skew::Io(error),
    })?;
    if head[..8] != MAGIC {
        return Err(Skew::Foreign);
    }
    // What lies behind the layout's number may have any form in another layout.
    if u32_at(&head, 8) != LAYOUT {
        return Err(Skew::Layout(u32_at(&head, 8)));
    }
    let slots = u64::from(u32_at(&head, 16)).saturating_mul(u64_at(&head, 24));
    if u64_at(&head, HEADER_USED - 8) != check(&head[..HEADER_USED - 8])
        || u32_at(&head, 12) as usize != RECORD_BYTES
        || slots > SLOTS_MAX
    {
        return Err(Skew::Foreign);
    }
    if head[40..56] != boot_id {
        return Err(Skew::Reboot);
    }
    let end = (HEADER_BYTES as u64 + slots * RECORD_BYTES as u64).min(file.metadata()?.len());
    read_records(&file, end)
}

/// Reads what has been written between header and `end`; what never was costs nothing.
fn read_records(file: &File, end: u64) -> Result<Contents, Skew> {
    let mut contents = Contents::default();
    let mut bytes = vec![0; READ_BYTES];
    let mut at = HEADER_BYTES as u64;
    loop {
        at = match lseek(file, i64::try_from(at).unwrap_or(i64::MAX), Whence::SeekData) {
            // The kernel tells in pages, which hold whole records.
            Ok(data) => at.max(data.unsigned_abs()),
            Err(nix::Error::ENXIO) => return Ok(contents),
            Err(error) => return Err(Skew::Io(error.into())),
        };
        let len = usize::try_from(end.saturating_sub(at)).unwrap_or(READ_BYTES).min(READ_BYTES);
        let len = len - len % RECORD_BYTES;
        if len == 0 {
            return Ok(contents);
        }
        file.read_exact_at(&mut bytes[..len], at)?;
        for record in bytes[..len].chunks_exact(RECORD_BYTES) {
            let record = record.first_chunk().expect("chunks have this length");
            match Record::decode(record) {
                Content::Nothing => {}
                Content::Torn => contents.torn += 1,
                Content::Session(record) => contents.records.push(record),
            }
        }
        at += len as u64;
    }
}

/// Of several records of one node the one heard last, for ledgers of two processes in a row.
#[must_use]
pub fn newest(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_unstable_by_key(|record| (record.node, std::cmp::Reverse(record.seen)));
    records.dedup_by_key(|record| record.node);
    records
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GEOMETRY: Geometry = Geometry { shards: 2, slots: 5000, sessions_max: 7000 };

    fn records() -> impl Strategy<Value = Record> {
        let address = || (any::<bool>(), any::<u32>(), any::<u128>(), any::<u16>());
        let to_address = |(v4, low, bits, port): (bool, u32, u128, u16)| {
            // An IPv4 address in IPv6 clothes is an IPv4 address.
            let ip = if v4 { IpAddr::V4(low.into()) } else { IpAddr::V6(bits.into()).to_canonical() };
            SocketAddr::new(ip, port)
        };
        (1..u32::MAX, address(), address(), any::<bool>(), any::<bool>(), any::<u64>()).prop_map(
            move |(node, remote, local, extended, proven, seen)| Record {
                node: NodeId(node),
                remote: to_address(remote).into(),
                local: to_address(local),
                extended,
                grade: if proven { Grade::ProvenAddress } else { Grade::Unproven },
                seen: Time(seen),
            },
        )
    }

    fn record(node: u32) -> Record {
        Record {
            node: NodeId(node),
            remote: "198.18.0.7:4001".parse::<SocketAddr>().unwrap().into(),
            local: "[2001:db8::1]:9001".parse().unwrap(),
            extended: node.is_multiple_of(2),
            grade: Grade::ProvenAddress,
            seen: Time(u64::from(node)),
        }
    }

    fn copy(ledger: &Ledger) -> OwnedFd {
        ledger.as_fd().try_clone_to_owned().unwrap()
    }

    proptest! {
        #[test]
        fn a_record_reads_as_written_and_no_part_of_one_does(record in records(), cut in 1..RECORD_BYTES) {
            let bytes = Record::encode(Some(&record));
            prop_assert_eq!(Record::decode(&bytes), Content::Session(record));
            // Written over an empty slot, and over another node's.
            let other = Record::encode(Some(&Record { node: NodeId(record.node.0 ^ 0x5555), ..record }));
            for before in [[0; RECORD_BYTES], other] {
                let mut torn = before;
                torn[..cut].copy_from_slice(&bytes[..cut]);
                let whole = torn == bytes || torn == before;
                prop_assert!(whole || matches!(Record::decode(&torn), Content::Torn | Content::Nothing));
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_record(bytes in prop::array::uniform32(any::<u8>())) {
            let mut record = [0; RECORD_BYTES];
            record[..32].copy_from_slice(&bytes);
            prop_assert!(!matches!(Record::decode(&record), Content::Session(_)));
        }
    }

    #[test]
    fn what_was_written_last_is_what_the_next_process_reads() {
        let ledger = Ledger::create(GEOMETRY).unwrap();
        assert_eq!(read(copy(&ledger)).unwrap(), Contents::default());
        // First, last, and a distance that leaves holes.
        for (shard, slot, node) in [(0, 0, 1), (0, 4999, 2), (1, 0, 3), (1, 4999, 4), (1, 2500, 5)] {
            ledger.write(shard, slot, Some(&record(node))).unwrap();
        }
        ledger.write(1, 0, None).unwrap();
        ledger.write(0, 0, Some(&record(9))).unwrap();
        let contents = read(copy(&ledger)).unwrap();
        let mut found: Vec<u32> = contents.records.iter().map(|record| record.node.0).collect();
        found.sort_unstable();
        assert_eq!((found, contents.torn), (vec![2, 4, 5, 9], 0));
        assert!(contents.records.iter().all(|found| *found == record(found.node.0)));
    }

    #[test]
    fn a_void_ledger_says_nothing() {
        let ledger = Ledger::create(GEOMETRY).unwrap();
        ledger.write(0, 0, Some(&record(1))).unwrap();
        ledger.void().unwrap();
        ledger.write(0, 1, Some(&record(2))).unwrap();
        assert!(matches!(read(copy(&ledger)), Err(Skew::Foreign)), "also what another shard writes meanwhile");
    }

    #[test]
    fn a_full_ledger_reads_whole() {
        let ledger = Ledger::create(GEOMETRY).unwrap();
        for index in 0..10_000 {
            ledger.write(index / 5000, index % 5000, Some(&record(index as u32 + 1))).unwrap();
        }
        assert_eq!(read(copy(&ledger)).unwrap().records.len(), 10_000);
    }

    #[test]
    fn a_half_written_record_costs_one_session() {
        let ledger = Ledger::create(GEOMETRY).unwrap();
        ledger.write(0, 7, Some(&record(1))).unwrap();
        ledger.write(0, 8, Some(&record(2))).unwrap();
        ledger.file.write_all_at(&[0xAA; 20], (HEADER_BYTES + 8 * RECORD_BYTES) as u64).unwrap();
        assert_eq!(read(copy(&ledger)).unwrap(), Contents { records: vec![record(1)], torn: 1 });
    }

    #[test]
    fn another_layout_another_boot_and_another_file_are_refused_by_name() {
        let ledger = Ledger::create(GEOMETRY).unwrap();
        assert!(matches!(read_since(copy(&ledger), [1; 16]), Err(Skew::Reboot)));
        ledger.file.write_all_at(&[1], 20).unwrap();
        assert!(matches!(read(copy(&ledger)), Err(Skew::Foreign)), "the header has a check of its own");
        ledger.file.write_all_at(&(LAYOUT + 1).to_le_bytes(), 8).unwrap();
        let skew = read(copy(&ledger)).unwrap_err();
        assert_eq!(skew.to_string(), "its layout is 2, and this version reads layout 1");
        let empty = memfd_create("empty", MFdFlags::empty()).unwrap();
        assert!(matches!(read(empty), Err(Skew::Foreign)));
        let (pipe, _other_end) = nix::unistd::pipe().unwrap();
        assert!(matches!(read(pipe), Err(Skew::Io(_))), "a pipe has no offsets");
    }

    #[test]
    fn of_two_ledgers_the_later_word_counts() {
        let older = Record { seen: Time(5), ..record(1) };
        let newer = Record { seen: Time(6), extended: true, ..record(1) };
        assert_eq!(newest(vec![older, record(2), newer]), vec![newer, record(2)]);
    }
}
