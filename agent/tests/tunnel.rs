//! Stories about tunnels: engines over a link in memory that loses, repeats and reorders. No sockets, no clock.

mod tunnel {
    pub mod world;

    mod exchange;
    mod hostile;
    mod limits;
    mod loss;
    mod lying;
    mod older;
    mod recordings;
    mod rekeying;
    mod restart;
    mod vectors;
}
