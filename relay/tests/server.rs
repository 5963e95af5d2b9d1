//! Stories about the rules: given, datagram in, action out. No sockets, no clock; time is moved by hand.

mod server {
    pub mod world;

    mod accounting;
    mod amplification;
    mod claims;
    mod events;
    mod messages;
    mod nobody;
    mod prefixes;
    mod quotas;
    mod recall;
    mod signatures;
    mod strict;
    mod stun;
    mod traces;
}
