//! What nodes tell each other about the NATs before them: numbers in a hello, words for people.

use wire::extension::About;

use crate::nat::{Behavior, Filtering, Mapping};

/// Number 1 is the first; 0 is "not known".
const MAPPINGS: [Mapping; 5] = [
    Mapping::NoNat,
    Mapping::EndpointIndependent,
    Mapping::PortIndependent,
    Mapping::AddressDependent,
    Mapping::AddressAndPortDependent,
];
const FILTERINGS: [Filtering; 4] = [
    Filtering::EndpointIndependent,
    Filtering::PortIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];

/// What this node tells.
pub(super) fn about(behavior: &Behavior) -> About {
    About {
        nat_mapping: behavior.mapping.map_or(0, |mapping| number(&MAPPINGS, mapping)),
        nat_filtering: behavior.filtering.map_or(0, |filtering| number(&FILTERINGS, filtering)),
    }
}

/// What a peer has told; numbers of a later version are not known.
pub(super) fn summary(about: About) -> String {
    let at = |number: u8| usize::from(number).wrapping_sub(1);
    let mapping = MAPPINGS.get(at(about.nat_mapping)).map(ToString::to_string);
    let filtering = FILTERINGS.get(at(about.nat_filtering)).map(ToString::to_string);
    if mapping.is_none() && filtering.is_none() {
        return "unknown: the peer cannot tell".to_owned();
    }
    let or_unknown = |words: Option<String>, of: &str| words.unwrap_or_else(|| format!("unknown {of}"));
    format!("{}, {}", or_unknown(mapping, "mapping"), or_unknown(filtering, "filtering"))
}

fn number<T: PartialEq>(all: &[T], one: T) -> u8 {
    all.iter().zip(1..).find_map(|(each, number)| (*each == one).then_some(number)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_drawing_and_lead_back_to_words() {
        let behavior = Behavior {
            mapping: Some(Mapping::EndpointIndependent),
            filtering: Some(Filtering::AddressAndPortDependent),
            ..Behavior::default()
        };
        assert_eq!(about(&behavior), About { nat_mapping: 2, nat_filtering: 4 });
        assert_eq!(about(&Behavior::default()), About::default());
        let words = summary(about(&behavior));
        assert_eq!(words, format!("{}, {}", Mapping::EndpointIndependent, Filtering::AddressAndPortDependent));
        for unknown in [About::default(), About { nat_mapping: 6, nat_filtering: 255 }] {
            assert!(summary(unknown).starts_with("unknown"));
        }
    }
}
