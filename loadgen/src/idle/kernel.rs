//! What the kernel holds for connections: by its own tables of objects (`/proc/slabinfo`) and pages of data on the way
//! (`/proc/net/sockstat`).
//!
//! Both ends of a connection over loopback are of one kernel, so each growth is the sum of two ends. A socket is told by
//! its family: a directory on `[::]` has IPv6 sockets, reached at 127.0.0.1 by IPv4 ones. Where both are of one family,
//! and for inodes, files and data, half of the growth is the directory's. Epoll entries are all the directory's: this
//! program uses none. Every socket's file has one directory entry; those are not counted by their own table, since all
//! other programs' files are in it as well.
//!
//! The kernel merges tables of equal objects, so others' may be counted in one: no connection is taken to have more than
//! one object of a kind at either end. A table that was merged away under another name is missed; so is, on most
//! kernels, the 72 bytes by which epoll waits on a socket.

use std::collections::HashMap;
use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

const PAGE_BYTES: f64 = 4096.0;

/// Tables of the kernel's objects, and data on the way, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slabs {
    tables: HashMap<String, Table>,
    data_pages: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Table {
    objects: f64,
    /// What an object takes of its pages, what is left over on them included.
    bytes_each: f64,
}

/// What the kernel holds for the directory's end of each connection, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The TCP socket.
    pub socket: f64,
    /// Its inode, file and directory entry.
    pub file: f64,
    /// Its entry in the directory's epoll.
    pub epoll: f64,
    /// Data on the way.
    pub data: f64,
}

impl Held {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.socket + self.file + self.epoll + self.data
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, file, epoll, data } = self;
        write!(
            out,
            "{:.0} bytes each at the directory's end: socket {socket:.0}, file {file:.0}, epoll {epoll:.0}, data {data:.0}",
            self.total()
        )
    }
}

impl Slabs {
    /// Reads them; `None` where the kernel does not tell us.
    #[must_use]
    pub fn read() -> Option<Self> {
        let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
        let sockets = fs::read_to_string("/proc/net/sockstat").ok()?;
        Some(Self::parse(&slabs, &sockets))
    }

    fn parse(slabs: &str, sockets: &str) -> Self {
        // name, active objects, objects, object's size, objects a slab, pages a slab
        let table = |line: &str| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            let numbers: Vec<f64> = fields.take(5).map_while(|field| field.parse().ok()).collect();
            let [objects, _, _, per_slab, pages_per_slab] = numbers[..] else { return None };
            Some((name, Table { objects, bytes_each: pages_per_slab * PAGE_BYTES / per_slab }))
        };
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"));
        let mut fields = tcp.unwrap_or("").split_whitespace().skip_while(|field| *field != "mem").skip(1);
        let data_pages = fields.next().and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
        Self { tables: slabs.lines().filter_map(table).collect(), data_pages }
    }

    /// What each of `connections` that were opened since `before` costs at the directory's end.
    #[must_use]
    pub fn held_since(&self, before: &Self, connections: u32) -> Held {
        let each = |name: &str, ends: f64| {
            let [now, then] = [self, before].map(|slabs| slabs.tables.get(name).copied().unwrap_or_default());
            let objects = (now.objects - then.objects) / f64::from(connections) / ends;
            (objects.clamp(0.0, 1.0), now.bytes_each)
        };
        let bytes = |name: &str, ends: f64| {
            let (objects, bytes_each) = each(name, ends);
            objects * bytes_each
        };
        let (v6, _) = each("TCPv6", 1.0);
        let socket = match each("TCP", 1.0) {
            (v4, _) if v4 > 0.5 && v6 > 0.5 => bytes("TCPv6", 1.0),
            _ => bytes("TCP", 2.0) + bytes("TCPv6", 2.0),
        };
        let (files, _) = each("filp", 2.0);
        let (_, entry_bytes) = each("dentry", 1.0);
        let data_pages = (self.data_pages - before.data_pages).max(0.0);
        Held {
            socket,
            file: bytes("sock_inode_cache", 2.0) + bytes("filp", 2.0) + files * entry_bytes,
            epoll: bytes("eventpoll_epi", 1.0) + bytes("eventpoll_pwq", 1.0),
            data: data_pages * PAGE_BYTES / 2.0 / f64::from(connections),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slabs(lines: &[(&str, u32)], pages: u32) -> Slabs {
        let table = |(name, objects): &(&str, u32)| format!("{name} {objects} 9999 2000 4 2 : tunables 0 0 0 :\n");
        let text: String = lines.iter().map(table).collect();
        Slabs::parse(
            &format!("slabinfo - version: 2.1\n# name <active_objs>\n{text}"),
            &format!("sockets: used 1\nTCP: inuse 2 orphan 0 tw 3 alloc 4 mem {pages}\nUDP: inuse 0 mem 9\n"),
        )
    }

    /// Every object takes 2048 bytes here.
    #[test]
    fn both_ends_are_told_apart_by_family_or_halved() {
        let before = slabs(&[("TCP", 5), ("TCPv6", 5), ("filp", 50)], 1);
        let files = [("sock_inode_cache", 200), ("filp", 250), ("dentry", 77), ("eventpoll_epi", 100)];
        let two_families = slabs(&[&[("TCP", 105), ("TCPv6", 105)], &files[..]].concat(), 101);
        let held = two_families.held_since(&before, 100);
        assert_eq!((held.socket, held.epoll, held.data), (2048.0, 2048.0, 2048.0));
        assert_eq!(held.file, 3.0 * 2048.0, "inode, file and entry");
        assert_eq!(held.total(), 6.0 * 2048.0);
        let one_family = slabs(&[&[("TCP", 205), ("TCPv6", 5)], &files[..]].concat(), 1);
        assert_eq!(one_family.held_since(&before, 100).socket, 2048.0);
    }
}
