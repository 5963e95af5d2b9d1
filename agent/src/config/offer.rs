//! What the node can do for others: a file, and flags that win over it.

use super::settings::Settings;
use super::{ConfigError, wrong};
use crate::capability::{Offer, OfferError};

/// A file is at most so long; a record has a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Characters of a wrong value that are repeated in the error.
const SHOWN_MAX: usize = 60;

/// The offer in the settings; none where they are silent about it.
pub(super) fn read(settings: &Settings) -> Result<Option<Offer>, ConfigError> {
    let Settings { capability, capability_text, tag, capability_file, .. } = settings;
    let given = Offer {
        title: capability.clone().unwrap_or_default(),
        text: capability_text.clone().unwrap_or_default(),
        tags: tag.clone().unwrap_or_default(),
        ..Offer::default()
    };
    let is_wrong = |flag, value: &str, error: OfferError| wrong(flag, &shortened(value), error.to_string());
    if let Some(path) = capability_file {
        let shown = path.display().to_string();
        let refused = |reason: String| wrong("capability-file", &shown, reason);
        let metadata = std::fs::metadata(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(refused("far too long for a capability".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let offer = Offer::parse(&text).and_then(|of_file| given.or(of_file).checked());
        return offer.map(Some).map_err(|error| is_wrong("capability-file", &shown, error));
    }
    let offer = given;
    if offer == Offer::default() {
        return Ok(None);
    }
    let (flag, value) = match (capability, capability_text) {
        (Some(title), _) => ("capability", title.clone()),
        (None, Some(text)) => ("capability-text", text.clone()),
        (None, None) => ("tag", offer.tags.join(",")),
    };
    offer.checked().map(Some).map_err(|error| is_wrong(flag, &value, error))
}

fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN_MAX).collect();
    if text.chars().count() > SHOWN_MAX {
        shown.push('…');
    }
    shown
}
