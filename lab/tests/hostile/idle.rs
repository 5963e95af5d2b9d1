//! Idle connections, held by a process of its own.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use lab::{Host, REGISTRY_PORT};

/// A process that holds connections as long as this value lives.
pub struct IdleConnections {
    process: Child,
    /// How many stand.
    pub count: usize,
}

impl IdleConnections {
    /// Opens `wanted` connections from a host; there may be fewer in the end.
    pub fn open(host: &Host, directory: Ipv4Addr, wanted: usize) -> Self {
        let mut process = host
            .namespace()
            .command(env!("CARGO_BIN_EXE_idle-connections"))
            .args([format!("{directory}:{REGISTRY_PORT}"), wanted.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was built with this test");
        let mut line = String::new();
        let output = process.stdout.take().expect("standard output was piped");
        BufReader::new(output).read_line(&mut line).expect("the program says how many connections stand");
        let count = line.trim().parse().unwrap_or_else(|_| panic!("idle-connections printed `{line}`"));
        Self { process, count }
    }
}

impl Drop for IdleConnections {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
