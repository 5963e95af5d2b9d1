//! The snapshot as it is written: one JSON object. Which lists it has is settled (section 6.5), how their entries are
//! shaped is not everywhere, so lists may be arrays or objects, and numbers may be texts.

use anyhow::Context as _;
use serde_json::{Map, Value};
use wire::NodeId;
use wire::address::Address;
use wire::registry::PublicKey;

/// The lists of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The number that would be handed out next.
    pub(super) next_node: Option<u64>,
    pub(super) nodes: Vec<Entry>,
    pub(super) keys: Vec<Entry>,
    pub(super) networks: Vec<Entry>,
    pub(super) trust: Vec<Entry>,
    pub(super) requests: Vec<Entry>,
    pub(super) responses: Vec<Entry>,
}

/// One entry of a list, under its key where the list is an object.
#[derive(Debug)]
pub(super) struct Entry {
    name: Option<String>,
    place: usize,
    value: Value,
}

pub(super) fn read(text: &[u8]) -> anyhow::Result<Snapshot> {
    let hint = "this is no snapshot of a registry: a JSON object with nodes, pub_key_idx and trust_pairs is expected";
    let mut object: Map<String, Value> = serde_json::from_slice(text).context(hint)?;
    anyhow::ensure!(object.contains_key("nodes") || object.contains_key("pub_key_idx"), hint);
    let next_node = object.get("next_node").and_then(number);
    let mut list = |name| {
        let value = object.remove(name).unwrap_or(Value::Null);
        entries(value).with_context(|| format!("{name} is neither a list nor an object"))
    };
    Ok(Snapshot {
        next_node,
        nodes: list("nodes")?,
        keys: list("pub_key_idx")?,
        networks: list("networks")?,
        trust: list("trust_pairs")?,
        requests: list("handshake_inbox")?.into_iter().flat_map(Entry::spread).collect(),
        responses: list("handshake_responses")?.into_iter().flat_map(Entry::spread).collect(),
    })
}

fn entries(value: Value) -> Option<Vec<Entry>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => {
            Some(items.into_iter().enumerate().map(|(place, value)| Entry { name: None, place, value }).collect())
        }
        Value::Object(items) => Some(
            items
                .into_iter()
                .enumerate()
                .map(|(place, (name, value))| Entry { name: Some(name), place, value })
                .collect(),
        ),
        _ => None,
    }
}

/// A whole number, also as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A node: its number, or its address on the backbone.
fn node(value: &Value) -> Option<NodeId> {
    match number(value) {
        Some(number) => u32::try_from(number).ok().map(NodeId),
        None => value.as_str()?.parse::<Address>().ok().map(|address| address.node),
    }
}

impl Entry {
    /// How it is called in a message.
    pub(super) fn label(&self) -> String {
        const SHOWN_MAX: usize = 60;
        let text = match (&self.name, &self.value) {
            (Some(name), _) => name.clone(),
            (None, Value::String(text)) => text.clone(),
            (None, value) => match value.get("id").or_else(|| value.get("node_id")).and_then(number) {
                Some(id) => id.to_string(),
                None => format!("entry {}", self.place + 1),
            },
        };
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN_MAX).collect()
    }

    /// The entries of a list that stands under the number of its node.
    fn spread(self) -> Vec<Self> {
        let Self { name, place, value } = self;
        match value {
            Value::Array(items) => items.into_iter().map(|value| Self { name: name.clone(), place, value }).collect(),
            Value::Null => Vec::new(),
            value => vec![Self { name, place, value }],
        }
    }

    fn field(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.value.get(name)).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        self.field(names)?.as_str().map(str::to_owned)
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let items = self.value.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn numbers(&self, name: &str) -> Vec<u64> {
        let items = self.value.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(number).collect()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number in the entry, else its name; the two must not contradict each other.
    pub(super) fn number(&self, names: &[&str]) -> Result<u64, String> {
        let inside = self.field(names).map(|value| number(value).ok_or_else(|| format!("{value} is no number")));
        let inside = inside.transpose()?;
        let outside = self.name.as_ref().and_then(|name| name.parse().ok());
        match (inside, outside) {
            (Some(inside), Some(outside)) if inside != outside => Err(format!("it says it is {inside}")),
            (Some(number), _) | (None, Some(number)) => Ok(number),
            (None, None) => Err(format!("there is no {}", names[0])),
        }
    }

    /// As [`Entry::number`] where `names` begin with the entry's own; of other nodes only what is inside.
    pub(super) fn node(&self, names: &[&str]) -> Result<NodeId, String> {
        match self.field(names) {
            Some(value) if names[0] != "id" => node(value).ok_or_else(|| format!("{value} is no node")),
            None if names[0] != "id" => Err(format!("there is no {}", names[0])),
            _ => {
                let number = self.number(names)?;
                u32::try_from(number).map(NodeId).map_err(|_| format!("{number} is no node"))
            }
        }
    }

    /// The node in the entry, else that under which its list stands.
    pub(super) fn owner_or(&self, names: &[&str]) -> Result<NodeId, String> {
        match (self.field(names), &self.name) {
            (None, Some(name)) => node(&Value::String(name.clone())).ok_or_else(|| format!("{name:?} is no node")),
            _ => self.node(names),
        }
    }

    pub(super) fn key(&self, names: &[&str]) -> Result<PublicKey, String> {
        let text = self.text(names).ok_or_else(|| format!("there is no {}", names[0]))?;
        text.parse().map_err(|_| "its key is not 32 bytes in base64".to_owned())
    }

    /// `key: number` of an index; or an object with both.
    pub(super) fn key_and_node(&self) -> Result<(PublicKey, NodeId), String> {
        match &self.name {
            Some(name) => {
                let key = name.parse().map_err(|_| "the key is not 32 bytes in base64".to_owned())?;
                Ok((key, node(&self.value).ok_or_else(|| format!("{} is no node", self.value))?))
            }
            None => Ok((self.key(&["public_key", "key"])?, self.node(&["node_id"])?)),
        }
    }

    /// `"7:9"`, `[7, 9]`, or the name of an entry.
    pub(super) fn pair(&self) -> Result<(NodeId, NodeId), String> {
        let of_text = |text: &str| {
            let (one, other) = text.split_once(':')?;
            Some((NodeId(one.parse().ok()?), NodeId(other.parse().ok()?)))
        };
        let pair = match (&self.value, &self.name) {
            (Value::String(text), _) => of_text(text),
            (Value::Array(items), _) => match items.as_slice() {
                [one, other] => node(one).zip(node(other)),
                _ => None,
            },
            (Value::Bool(true), Some(name)) => of_text(name),
            _ => None,
        };
        pair.ok_or_else(|| "write two numbers of nodes, such as 7:9".to_owned())
    }
}
