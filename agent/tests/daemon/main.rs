//! The daemon over real sockets: a directory, a relay and daemons in this process, clients on unix sockets. Every wait is
//! for an event and has a deadline, so a failure is an error and not a hang.

mod capabilities;
mod capture;
mod channels;
mod clients;
mod confinement;
mod directory;
mod fleet;
mod keys;
mod pairs;
mod program;
mod real_query;
mod stand_in;
mod startup;
mod traces;
mod tunnel_sockets;
mod world;
