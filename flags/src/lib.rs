//! What the programs' command lines have in common: every flag can also be set in the environment and in a file, and
//! manual pages, completions and a default file follow from the same definitions, so that no flag is listed twice.
//!
//! | module | subject |
//! |---|---|
//! | [`program`] | flags over environment over file; where each setting came from |
//! | `file` | a TOML file as arguments |
//! | [`default_file`] | the file that a package installs: every key, explained and commented out |
//! | [`documents`] | manual pages and completions |
#![forbid(unsafe_code)]

pub mod default_file;
pub mod documents;
mod file;
pub mod program;

pub use clap_complete::Shell;
pub use program::{Error, Given, Origin, Program, Setting};
