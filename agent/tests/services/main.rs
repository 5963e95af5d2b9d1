//! The built-in services over streams in memory: stories, broken connections, hostile peers.

mod echo;
mod events;
mod messages;
mod secure;
mod slots;
mod transfer;
mod vectors;
mod world;
