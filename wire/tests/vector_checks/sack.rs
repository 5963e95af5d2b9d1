//! Selective acknowledgements, and the payloads that only look like them.

use wire::stream::{SackBlocks, Sequence};

use crate::fixtures::{Vector, number};
use crate::invariants::written;

pub fn check(vector: &Vector) -> Option<()> {
    let expected = blocks(&vector.expect["decoded"])?;
    let decoded = vector.bytes.as_deref().and_then(|bytes| SackBlocks::decode(bytes).ok());
    assert_eq!(decoded.is_some(), vector.expect["decodes"].as_bool()?);
    assert_eq!(decoded.iter().flat_map(SackBlocks::iter).collect::<Vec<_>>(), expected);
    if let Some(inputs) = blocks(&vector.inputs["blocks"]) {
        let sack: SackBlocks = inputs.into_iter().collect();
        let encoded = written(sack.encoded_len(), |out| sack.encode(out));
        assert_eq!(encoded, vector.bytes.as_deref().unwrap_or_default());
    }
    Some(())
}

fn blocks(value: &serde_json::Value) -> Option<Vec<(Sequence, Sequence)>> {
    let pair = |block: &serde_json::Value| (Sequence(number(&block[0])), Sequence(number(&block[1])));
    Some(value.as_array()?.iter().map(pair).collect())
}
