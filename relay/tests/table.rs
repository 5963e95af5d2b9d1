//! The session table against a map from the standard library, and against readers on other threads.
//!
//! Under `--cfg loom` the promise about reused slots is checked in every interleaving instead of in many.

mod table {
    #[cfg(loom)]
    mod interleavings;
    #[cfg(not(loom))]
    mod model;

    use std::net::{Ipv6Addr, SocketAddr};

    use relay::endpoint::{LocalId, Path};
    use relay::sessions::Session;
    use wire::NodeId;

    /// A session that tells whose it is: the node's id is in its address, `version` is its port.
    fn session(node: NodeId, version: u16) -> Session {
        let ip = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(node.0) << 16 | u128::from(node.0));
        let remote = SocketAddr::from((ip, version)).into();
        Session { path: Path { remote, local: LocalId(version % 7) }, extended: version % 2 == 1 }
    }
}
