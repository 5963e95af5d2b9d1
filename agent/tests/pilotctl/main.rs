//! The command line, run as a program against a daemon that answers from captures of an existing one.

mod client;
mod documents;
mod errors;
mod flight;
mod groups;
mod hostile;
mod pipes;
mod shapes;
mod world;
