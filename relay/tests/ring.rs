//! The running relay on real sockets of this host: what only the kernel can answer for. The rules themselves are told
//! in `server.rs`, without sockets.

mod ring {
    pub mod world;

    mod accounting;
    mod addresses;
    mod bursts;
    mod delivery;
    mod events;
    mod kernel;
    mod lifetime;
    mod steering;
    mod succession;
}
