//! placeholder
/// magic
#[must_use]
pub fn has_magic_cookie(d: &[u8]) -> bool { d.len() >= 20 && d[4..8] == [0x21, 0x12, 0xA4, 0x42] }
