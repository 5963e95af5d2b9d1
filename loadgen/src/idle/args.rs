//! The command line of `loadgen idle`, and what it means.

use std::net::SocketAddr;

use clap::Args;

use crate::config::{REGISTRY_PORT, UsageError, check, resolve};

const COUNT_MAX: u32 = 1_000_000;

/// Opens connections to a directory on this host, asks once on each, and says what they cost it while idle.
///
/// What the directory's process holds for each is the growth of its resident memory. What the kernel holds for the
/// directory's end of each is the growth of its tables of sockets, files and epoll entries, which only root may read.
#[derive(Clone, Debug, Args)]
pub struct IdleArgs {
    /// The directory's address
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9000")]
    pub registry: String,
    /// The directory's process [default: whoever listens at its port on this host]
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub count: u32,
    /// Speak TLS, whatever certificate is shown
    #[arg(long)]
    pub tls: bool,
    /// Resident bytes a connection above which the exit status is 1
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<f64>,
    /// Write the report to stdout as JSON
    #[arg(long)]
    pub json: bool,
}

/// [`IdleArgs`], checked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The directory.
    pub registry: SocketAddr,
    /// Its process, if it was named.
    pub pid: Option<u32>,
    /// Connections.
    pub connections: u32,
    /// Whether they speak TLS.
    pub is_tls: bool,
    /// The bound for each.
    pub process_bytes_each_max: Option<f64>,
}

impl Config {
    /// Checks `args` and looks up names.
    ///
    /// # Errors
    /// [`UsageError`] names the argument and what it may be.
    pub fn new(args: &IdleArgs) -> Result<Self, UsageError> {
        check("--count", args.count, 1..=COUNT_MAX)?;
        if let Some(bytes) = args.max_bytes {
            check("--max-bytes", bytes, 1.0..=1e9)?;
        }
        Ok(Self {
            registry: resolve("--registry", &args.registry, REGISTRY_PORT)?,
            pid: args.pid,
            connections: args.count,
            is_tls: args.tls,
            process_bytes_each_max: args.max_bytes,
        })
    }
}
