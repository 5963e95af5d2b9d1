//! Texts of addresses: canonical form, wire bytes, and what must be refused.

use wire::NodeId;
use wire::address::{Address, SocketAddress};

use crate::fixtures::{Vector, number};

pub fn check(vector: &Vector) -> Option<()> {
    let (kind, _) = vector.name.split_once('/')?;
    let text = vector.text("text");
    match kind {
        "addr_ok" => address(vector, text),
        "sock_ok" => socket_address(vector, text),
        "addr_bad" => assert!(text.parse::<Address>().is_err()),
        "sock_bad" => assert!(text.parse::<SocketAddress>().is_err()),
        _ => return None,
    }
    Some(())
}

fn address(vector: &Vector, text: &str) {
    let address: Address = text.parse().expect("an address");
    let expect = &vector.expect;
    assert_eq!(address, Address { network: number(&expect["network"]), node: NodeId(number(&expect["node"])) });
    assert_eq!(address.to_string(), expect["canonical"]);
    assert_eq!(address.to_bytes(), vector.bytes());
    assert_eq!(Address::from_bytes(address.to_bytes()), address);
    assert_eq!(address.node == NodeId::BROADCAST, expect["broadcast"]);
    assert_eq!(address == Address::default(), expect["zero"]);
}

fn socket_address(vector: &Vector, text: &str) {
    let socket: SocketAddress = text.parse().expect("a socket address");
    let expect = &vector.expect;
    let address = Address { network: number(&expect["network"]), node: NodeId(number(&expect["node"])) };
    assert_eq!(socket, SocketAddress { address, port: number(&expect["port"]) });
    assert_eq!(socket.to_string(), expect["canonical"]);
}
