//! Opens TCP connections, says how many stand, and holds them without a word until its standard input ends.
//!
//! A process of its own, because ten thousand descriptors do not fit beside a test: `idle-connections ADDR COUNT`.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Descriptors besides the connections.
const OTHER_DESCRIPTORS: u64 = 64;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, count] = arguments.as_slice() else { return usage() };
    let (Ok(address), Ok(count)) = (address.parse::<SocketAddr>(), count.parse::<u64>()) else { return usage() };
    match hold(address, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idle-connections: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: idle-connections ADDR:PORT COUNT");
    ExitCode::from(2)
}

fn hold(address: SocketAddr, count: u64) -> io::Result<()> {
    let descriptors = count + OTHER_DESCRIPTORS;
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors)?;
    let connections: Vec<_> =
        (0..count).map_while(|_| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).ok()).collect();
    writeln!(io::stdout(), "{}", connections.len())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
