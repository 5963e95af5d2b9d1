//! Virtual addresses (section 1): `network=2, node=4`, written `N:NNNN.HHHH.LLLL`.

use std::fmt;
use std::str::FromStr;

/// The 32-bit number of a node, the same in every network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// "No node": what a daemon's start-up probe sends; never stored.
    pub const UNSET: Self = Self(0);
    /// Every node of a network; never a node of its own.
    pub const BROADCAST: Self = Self(u32::MAX);

    /// Whether the number can belong to a node.
    #[must_use]
    pub const fn is_node(self) -> bool {
        self.0 != Self::UNSET.0 && self.0 != Self::BROADCAST.0
    }

    /// The node's address in network 0, the backbone.
    #[must_use]
    pub const fn address(self) -> Address {
        Address { network: 0, node: self }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 48-bit virtual address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The network; 0 is the backbone everyone is in.
    pub network: u16,
    /// The node.
    pub node: NodeId,
}

impl Address {
    /// The six bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 6] {
        let ([n0, n1], [a, b, c, d]) = (self.network.to_be_bytes(), self.node.0.to_be_bytes());
        [n0, n1, a, b, c, d]
    }

    /// The address in six wire bytes.
    #[must_use]
    pub const fn from_bytes([n0, n1, a, b, c, d]: [u8; 6]) -> Self {
        Self { network: u16::from_be_bytes([n0, n1]), node: NodeId(u32::from_be_bytes([a, b, c, d])) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, node: NodeId(node) } = self;
        write!(f, "{network}:{network:04X}.{:04X}.{:04X}", node >> 16, node & 0xFFFF)
    }
}

/// Text that is no virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a virtual address; expected N:NNNN.HHHH.LLLL, such as 0:0000.0000.0001")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (network, groups) = text.split_once(':').ok_or(AddressError)?;
        let network = decimal_u16(network)?;
        let mut groups = groups.split('.').map(hex_group);
        let mut next = || groups.next().ok_or(AddressError)?;
        let (repeated, high, low) = (next()?, next()?, next()?);
        if groups.next().is_some() || repeated != network {
            return Err(AddressError);
        }
        Ok(Self { network, node: NodeId(u32::from(high) << 16 | u32::from(low)) })
    }
}

/// A virtual address with a port, written `N:NNNN.HHHH.LLLL:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketAddress {
    /// The node's address.
    pub address: Address,
    /// The port, 0 to 65535.
    pub port: u16,
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl FromStr for SocketAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, port) = text.rsplit_once(':').ok_or(AddressError)?;
        Ok(Self { address: address.parse()?, port: decimal_u16(port)? })
    }
}

/// Digits only: no sign, blank or underscore; leading zeros are fine.
fn decimal_u16(text: &str) -> Result<u16, AddressError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError);
    }
    text.parse().map_err(|_| AddressError)
}

fn hex_group(text: &str) -> Result<u16, AddressError> {
    if text.len() != 4 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(AddressError);
    }
    u16::from_str_radix(text, 16).map_err(|_| AddressError)
}
