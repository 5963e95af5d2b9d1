//! Whole runs, against a relay and a directory of our own that do exactly what they are told.

mod accounts;
mod command;
mod directory;
mod modes;
mod prefix;
mod relay;
