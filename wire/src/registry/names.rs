//! Which hostnames and tags are allowed (section 6.5), and which names of networks.

/// Bytes of a hostname, and of a network's name.
pub const HOSTNAME_BYTES_MAX: usize = 63;
/// Tags of one node.
pub const TAGS_MAX: usize = 10;
/// Bytes of one tag.
pub const TAG_BYTES_MAX: usize = 32;

const RESERVED: [&str; 3] = ["localhost", "backbone", "broadcast"];

/// Why a name or a tag is refused; the text says what would be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The hostname breaks the rule.
    #[error("invalid hostname: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end")]
    Hostname,
    /// The hostname has a meaning of its own.
    #[error("invalid hostname: localhost, backbone and broadcast are reserved")]
    Reserved,
    /// The name of a network breaks the rule.
    #[error("invalid group name: 1 to 63 letters, digits and hyphens, no hyphen at either end")]
    Group,
    /// The name of a network has a meaning of its own.
    #[error("invalid group name: localhost, backbone and broadcast are reserved")]
    GroupReserved,
    /// A tag breaks the rule.
    #[error("invalid tag: 1 to 32 lower-case letters, digits and hyphens")]
    Tag,
    /// More than [`TAGS_MAX`] tags.
    #[error("too many tags: at most {TAGS_MAX}")]
    TooManyTags,
}

/// Checks a hostname: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end, not reserved.
pub fn check_hostname(name: &str) -> Result<(), NameError> {
    if !has_shape(name, is_name_byte) {
        return Err(NameError::Hostname);
    }
    if RESERVED.contains(&name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Checks the name of a network: as a hostname, but letters may be of either case. Whoever compares two names ignores
/// it, and reserved names are so in any case.
pub fn check_group_name(name: &str) -> Result<(), NameError> {
    if !has_shape(name, |byte| is_name_byte(byte.to_ascii_lowercase())) {
        return Err(NameError::Group);
    }
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(NameError::GroupReserved);
    }
    Ok(())
}

/// Takes one leading `#` off each tag and checks the rest.
pub fn normalise_tags(tags: &[String]) -> Result<Vec<String>, NameError> {
    if tags.len() > TAGS_MAX {
        return Err(NameError::TooManyTags);
    }
    let tags = tags.iter().map(|tag| {
        let tag = tag.strip_prefix('#').unwrap_or(tag);
        let valid = (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(is_name_byte);
        valid.then(|| tag.to_owned()).ok_or(NameError::Tag)
    });
    tags.collect()
}

fn has_shape(name: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let hyphen_at_end = name.starts_with('-') || name.ends_with('-');
    (1..=HOSTNAME_BYTES_MAX).contains(&name.len()) && !hyphen_at_end && name.bytes().all(allowed)
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}
