//! The status page and the operator view over real sockets and in a real browser. What is shown comes from a small world
//! whose time and figures the tests set, or from a directory at work.

mod browser;
mod client;
mod connections;
mod nodes;
mod operator;
mod pages;
mod program;
mod viewers;
mod webdriver;
mod world;
