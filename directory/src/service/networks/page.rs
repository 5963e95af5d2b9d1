//! Members in pages, each within what one answer may hold.

use wire::address::Address;
use wire::registry::answer::Member;
use wire::registry::json::ANSWER_VALUES_MAX;
use wire::registry::{Answer, MESSAGE_BYTES_MAX};

use crate::service::Now;
use crate::service::nodes::Node;

/// What a page of members may hold, the braces around it apart.
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;
const PAGE_VALUES_MAX: usize = ANSWER_VALUES_MAX - 64;
/// A member with the longest numbers, without its texts; and the keys and values in it, without its tags.
const MEMBER_BYTES: usize = 192;
const MEMBER_VALUES: usize = 20;

/// As many of `nodes` as one answer holds, by bytes and by the count of values that readers of answers take.
pub(super) fn page<'a>(now: Now, network: u16, nodes: impl Iterator<Item = &'a Node>) -> Answer {
    let mut nodes = nodes.peekable();
    let mut members = Vec::new();
    let (mut bytes, mut values) = (PAGE_BYTES_MAX, PAGE_VALUES_MAX);
    while let Some(node) = nodes.peek() {
        let member = member(now, network, node);
        let (Some(bytes_left), Some(values_left)) =
            (bytes.checked_sub(bytes_of(&member)), values.checked_sub(MEMBER_VALUES + member.tags.len()))
        else {
            break;
        };
        (bytes, values) = (bytes_left, values_left);
        members.push(member);
        nodes.next();
    }
    Answer::ListNodes { nodes: members, more: nodes.peek().is_some() }
}

fn member(now: Now, network: u16, node: &Node) -> Member {
    let fact = &node.fact;
    Member {
        node_id: fact.id,
        address: Address { network, node: fact.id },
        public: fact.public,
        hostname: fact.hostname.clone(),
        tags: fact.tags.clone(),
        last_seen: node.last_seen_unix_seconds(),
        online: Some(node.is_online(now)),
        real_addr: Some(fact.endpoint.clone()).filter(|_| fact.public && !fact.relay_only),
    }
}

/// At most so many bytes are written for `member`; none of its texts holds what JSON escapes.
fn bytes_of(member: &Member) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let tags: usize = member.tags.iter().map(|tag| tag.len() + r#""","#.len()).sum();
    MEMBER_BYTES + text(&member.hostname) + text(&member.real_addr) + tags
}
