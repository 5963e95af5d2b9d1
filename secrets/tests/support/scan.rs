//! What lies in a process's memory, and in what kind of it. For tests, here and of the programs; other processes are open
//! to root alone.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Of an entry of `/proc/PID/pagemap`: in memory, or in swap.
const IS_THERE: u64 = 1 << 63 | 1 << 62;
/// Read at once.
const PIECE_PAGES: usize = 256;

/// A mapping, as `/proc/PID/smaps` has it.
pub struct Mapping {
    pub range: Range<usize>,
    /// A file, `[stack]` and the like, or nothing.
    pub name: String,
    /// `VmFlags` of proc(5).
    pub flags: Vec<String>,
}

impl Mapping {
    /// Whether it is locked, left out of core dumps, and wiped in a fork.
    pub fn is_for_keys(&self) -> bool {
        ["lo", "dd", "wf"].iter().all(|flag| self.flags.iter().any(|own| own == flag))
    }
}

/// All mappings of `process`: `self` or a number.
pub fn mappings(process: &str) -> io::Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(range) = range(line) {
            let name = line.split_whitespace().nth(5).unwrap_or_default().to_owned();
            mappings.push(Mapping { range, name, flags: Vec::new() });
        } else if let (Some(flags), Some(mapping)) = (line.strip_prefix("VmFlags:"), mappings.last_mut()) {
            mapping.flags = flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    Ok(mappings)
}

fn range(line: &str) -> Option<Range<usize>> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
}

/// The kernel's page, in which `/proc/PID/pagemap` counts.
fn page_bytes() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/self/smaps")?;
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix("KernelPageSize:")?.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes.map(|kibibytes: usize| kibibytes << 10).ok_or_else(|| io::Error::other("smaps names no page size"))
}

/// Where `bytes` lie in the memory of `process`: the mapping and the address.
pub fn find<'a>(process: &str, mappings: &'a [Mapping], bytes: &[u8]) -> io::Result<Vec<(&'a Mapping, usize)>> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let pages = File::open(format!("/proc/{process}/pagemap"))?;
    let page_bytes = page_bytes()?;
    let mut found = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.flags.iter().any(|flag| flag == "rd")) {
        // Bytes may lie across two pieces.
        let mut before: Vec<u8> = Vec::new();
        for from in mapping.range.clone().step_by(PIECE_PAGES * page_bytes) {
            let to = mapping.range.end.min(from + PIECE_PAGES * page_bytes);
            let mut entries = vec![0; (to - from) / page_bytes * 8];
            if pages.read_exact_at(&mut entries, (from / page_bytes * 8) as u64).is_err() {
                before.clear();
                continue;
            }
            let is_there = entries
                .chunks_exact(8)
                .any(|entry| u64::from_ne_bytes(entry.try_into().expect("eight bytes")) & IS_THERE != 0);
            if !is_there {
                before.clear();
                continue;
            }
            let mut search = |from: usize, to: usize, before: &mut Vec<u8>| {
                let start = from - before.len();
                let mut text = std::mem::take(before);
                text.resize(to - start, 0);
                memory.read_exact_at(&mut text[from - start..], from as u64)?;
                found.extend(places(&text, bytes).into_iter().map(|at| (mapping, start + at)));
                *before = text[text.len().saturating_sub(bytes.len() - 1)..].to_vec();
                io::Result::Ok(())
            };
            let mut tail = before.clone();
            if search(from, to, &mut tail).is_err() {
                // A page of it has just been unmapped, or is one the kernel shows nobody; the others are looked at.
                tail = before;
                (from..to).step_by(page_bytes).for_each(|page| drop(search(page, page + page_bytes, &mut tail)));
            }
            before = tail;
        }
    }
    Ok(found)
}

/// Where `bytes` begin in `text`. The library looks for the first one, which is fast without optimization too.
fn places(text: &[u8], bytes: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut rest = text;
    while rest.skip_until(bytes[0]).is_ok_and(|skipped| skipped > 0) {
        let at = text.len() - rest.len() - 1;
        if text[at..].starts_with(bytes) {
            places.push(at);
        }
    }
    places
}
