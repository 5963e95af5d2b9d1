//! Words of `events`.

use clap::Args;

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Hostname, node id or address [default: all peers]
    pub peer: Option<String>,
    /// The newest only, so many [default: all that are kept]
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<usize>,
}
