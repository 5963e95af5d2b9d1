//! A file that is not whole yet.
