//! Who belongs to the network: the words of the administrator, of the database and of whoever asks. What follows from
//! them is decided in [`crate::service`].

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use wire::registry::PublicKey;

/// A quota beyond this is no limit anybody could reach, and fits every column.
pub const QUOTA_MAX: u64 = 1 << 40;
/// Bytes of the reason for a ban.
pub const REASON_BYTES_MAX: usize = 200;
/// Keys that a list may name.
pub const LISTED_MAX: usize = 1 << 20;

/// Who may register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Enrolment {
    /// Whoever registers.
    #[default]
    Open,
    /// Whom the administrator approves; others wait.
    Approve,
    /// Whose key is on the list, or was approved; others are refused.
    Allowlist,
}

/// Who has let a node in. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Approval {
    /// Nobody yet.
    None = 0,
    /// The administrator, or a directory open to all.
    Admitted = 1,
    /// The list, for as long as it names the key.
    Listed = 2,
    /// Nobody any more: it was in once, so others may know its number.
    Former = 3,
}

impl Approval {
    /// One that a newer program has written lets nobody in.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Admitted,
            2 => Self::Listed,
            3 => Self::Former,
            _ => Self::None,
        }
    }

    /// Whether somebody has let it in.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Admitted | Self::Listed)
    }

    /// What is left of it once it is taken back.
    #[must_use]
    pub const fn taken_back(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Admitted | Self::Listed | Self::Former => Self::Former,
        }
    }
}

/// Whether a registered node belongs to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It does.
    Approved,
    /// It waits for the administrator.
    Pending,
    /// It is kept out.
    Banned,
}

impl Standing {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Approved, Self::Pending, Self::Banned];

    /// As it is written.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Pending => "pending",
            Self::Banned => "banned",
        }
    }

    /// The one that is written so.
    #[must_use]
    pub fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.label() == label)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.label())
    }
}

/// Why and since when a node is kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ban {
    /// In the administrator's words; may be empty.
    pub reason: String,
    /// Unix seconds.
    pub at: u64,
}

/// What one node may send through the relay. `None` is what the relay grants everyone, 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Packets per second.
    pub packets_per_second: Option<u64>,
    /// Bytes per second.
    pub bytes_per_second: Option<u64>,
}

impl Quota {
    /// What the relay grants everyone.
    pub const DEFAULT: Self = Self { packets_per_second: None, bytes_per_second: None };
}

/// What the administrator has said of a key that has not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    /// Whose.
    pub key: PublicKey,
    /// Why it is banned; `None` when it is let in.
    pub ban: Option<String>,
    /// Since when, Unix seconds.
    pub at: u64,
}

/// The keys that a text lists: one a line in base64, whatever follows a blank and lines that begin with `#` are comments.
///
/// # Errors
/// The first line that is no key, by its number.
pub fn parse_allowlist(text: &str) -> Result<HashSet<PublicKey>, String> {
    let mut keys = HashSet::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else { continue };
        let key = parse_key(word).ok_or_else(|| {
            format!("line {number}: {word:?} is no public key; write the 44 characters that `nodes list --json` shows")
        })?;
        keys.insert(key);
        if keys.len() > LISTED_MAX {
            return Err(format!("line {number}: more than {LISTED_MAX} keys"));
        }
    }
    Ok(keys)
}

/// An Ed25519 public key in base64.
#[must_use]
pub fn parse_key(text: &str) -> Option<PublicKey> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use wire::registry::Base64;

    use super::*;

    #[test]
    fn a_list_has_one_key_a_line_and_comments() {
        let [one, two] = [1, 2].map(|byte| Base64([byte; 32]).to_string());
        let text = format!("# the fleet\n\n{one} alice's laptop\n  {two}\r\n{one}\n");
        assert_eq!(parse_allowlist(&text), Ok(HashSet::from([Base64([1; 32]), Base64([2; 32])])));
        assert_eq!(parse_allowlist(""), Ok(HashSet::new()));
        let error = parse_allowlist(&format!("{one}\nnot a key\n")).unwrap_err();
        assert!(error.starts_with("line 2: \"not\" is no public key"), "{error}");
        assert!(parse_allowlist(&one[1..]).is_err(), "a key cut off");
    }

    #[test]
    fn standings_are_read_as_they_are_written() {
        assert!(Standing::ALL.into_iter().all(|standing| Standing::named(standing.label()) == Some(standing)));
        assert_eq!(Standing::named("friend"), None);
    }
}
