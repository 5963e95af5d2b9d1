//! Manual pages and completions, from the definitions of the command line.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use flags::{Shell, documents};

use super::arguments::{Arguments, MANUAL};
use super::exit::{Code, Failure};

fn command() -> Command {
    Arguments::command().after_help(MANUAL).after_long_help(MANUAL)
}

/// The words a shell completes.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    documents::completions(&Arguments::command(), shell)
}

/// The manual page of `pilotctl` itself.
pub(super) fn manual() -> io::Result<Vec<u8>> {
    documents::page(command())
}

/// One page per command, all into a folder.
pub(super) fn manual_pages(folder: &Path) -> Result<usize, Failure> {
    documents::manual_pages(&command(), folder).map_err(|error| {
        Failure::new(Code::Internal, format!("cannot write to {}: {error}", folder.display()))
            .hint("name a folder that can be written with --folder")
    })
}
