//! Faults: each is injected for real, nothing acknowledged is lost, and service returns by itself. Every story prints a
//! line of the table `fault | what happened | lost | back after`.

mod absence;
mod book;
mod clock;
mod crash;
mod database;
mod descriptors;
mod disk;
mod memory;
mod names;
mod network;
mod pause;
