//! Datagrams this host has lost because a socket's buffer was full, all programs together, as the kernel tells it in
//! `/proc/net`. With a socket filter attached the count a socket keeps of its own no longer says why something was lost.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Both files are shorter.
const TEXT_MAX: usize = 16 << 10;

/// The files, kept open: they can be read again where a sandbox hides the folder later.
#[derive(Debug)]
pub struct Overflows {
    v4: Option<File>,
    v6: Option<File>,
}

impl Overflows {
    /// Of the calling thread's network namespace.
    #[must_use]
    pub fn open() -> Self {
        let open = |name: &str| File::open(format!("/proc/thread-self/net/{name}")).ok();
        Self { v4: open("snmp"), v6: open("snmp6") }
    }

    /// Datagrams lost since the host started; `None` where the kernel does not tell.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let text = |file: &Option<File>| {
            let mut bytes = [0; TEXT_MAX];
            let mut len = 0;
            while let Some(read) = file.as_ref()?.read_at(&mut bytes[len..], len as u64).ok().filter(|read| *read > 0) {
                len += read;
            }
            Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
        };
        // A host without IPv6 has no file for it.
        Some(of_snmp(&text(&self.v4)?)? + text(&self.v6).and_then(|text| of_snmp6(&text)).unwrap_or_default())
    }
}

/// A line of names and a line of values, both beginning with `Udp:`.
fn of_snmp(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(at)?.parse().ok()
}

/// A name and a value a line.
fn of_snmp6(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("Udp6RcvbufErrors"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let snmp = "Tcp: A B\nTcp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 9 8 7 6 5 4\n";
        assert_eq!(of_snmp(snmp), Some(5));
        assert_eq!(of_snmp("Udp: InDatagrams\nUdp: 9\n"), None);
        assert_eq!(of_snmp6("Ip6InReceives 3\nUdp6RcvbufErrors                \t12\n"), Some(12));
        assert!(Overflows::open().read().is_some(), "this kernel tells");
    }
}
