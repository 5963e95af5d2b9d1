//! What no other daemon knows: command E1 of the socket (section 10), a JSON object whose `op` says what is asked. The
//! answer is a JSON object under E2, or an error. For programs in any language:
//!
//! ```text
//!   length=4, E1, {"op":"query","text":"resolve academic citations","group":"research","limit":3}
//!   length=4, E2, {"hits":[{"node_id":7,"address":"1:0000.0000.0007","hostname":"specialist-papers", …}],"rejected":[]}
//! ```
//!
//! A `GROUP` is a network's name, in any case, or its number; `backbone` is 0, everyone. Fields in brackets may be left out.
//!
//! | `op` | fields | answer |
//! |---|---|---|
//! | `explain` | `node_id` | how the peer is reached, and why so |
//! | `stop` | | `stopping` |
//! | `trace` | `traceparent`, or `connection` | the trace of the client's next dials, or that of a stream: see `traces` |
//! | `events` | `[node_id]` | the last control events with a peer, or with all |
//! | `identity`, `sign_secure` | see `proofs` | |
//! | `publish` | `offer`: an object with `[title] [text] [tags] [input] [output] [price] [limits] [version]` | as `capability` |
//! | `withdraw` | | as `capability` |
//! | `capability` | | `state` (`none`, `pending`, `published`, `refused`), `[serial]`, `[reason]`, `[record]` of this node |
//! | `capability` | `node_id` | as `query`, of that node |
//! | `query` | `[text] [tags] [group] [node_id] [offline] [limit]` | `hits`, the best first; `rejected` |
//! | `changes` | `[group] [after] [wait_seconds]` | `cursor`, `reset`, `changes`, `[away]`, see below |
//! | `tunnel_key` | `node_id`, `[connection]` | `public_key`, which the peer has proved to hold in the tunnel that is open; else null |
//! | `groups` | | `groups`: `network_id`, `name`, `join_rule`, `members`, `online`, `joined` |
//! | `group_create` | `name`, `[rule]` (`open`, `token`, `invite`), `[token]` | `network_id`, `name` |
//! | `group_join` | `group`, `[token]` | `network_id`, `address` |
//! | `group_leave` | `group` | `network_id` |
//! | `group_invite` | `group`, `node_id` | `network_id`, `target_node_id` |
//! | `group_invites` | | `invites`: `network_id`, `name`, `inviter_id`, `timestamp` |
//! | `group_accept`, `group_decline` | `group` | `network_id`, `accepted` |
//! | `group_members` | `group`, `[after]` | `network_id`, `own_node_id`, `members`, by number; with `more` ask again after the last |
//!
//! **Hits** hold `node_id`, `address`, `hostname`, `score` (1000 for the best, comparable within one answer alone),
//! `online`, `last_seen` (Unix seconds), `tags`, `directory_tags`, `public_key`, `title` and `record`, which the daemon has
//! verified: its signature, its node, its key, that it is no older one. `tags` and `title` are those of the record;
//! `directory_tags`, which nobody has signed, are the directory's word, and without a record they are the `tags`. What
//! fails is not among the hits but in `rejected`: `node_id`, `reason` (`forged`, `altered`, `replayed`, `oversized`, `malformed`, `wrong_node`,
//! `foreign_key`), `detail`.
//!
//! `tunnel_key` with a `connection` gives null, too, where the key is another than when that stream was opened.
//!
//! **Changes** are asked for without `after` at first, which gives the present cursor; then with the last cursor, again and
//! again: the daemon holds the answer back until something changes, for `wait_seconds` (30; at most 60). With `reset` changes
//! may be missing: query again, then go on. `away` says why the directory tells nothing at present. A change holds `what`
//! (`published`, `withdrawn`, `online`, `offline`, `joined`, `left`, `described`), `node_id`, `[hostname]`, `[network_id]`,
//! `at`. Requests of one connection are answered in any order as they are done, so keep a connection for this question alone.
//!
//! Nothing is followed for its own sake: the daemon asks the directory for changes while a client asks it, and for half a
//! minute longer; which networks it is in itself it asks after each `group_` operation that changes that.
//!
//! A `publish` is answered when the directory has taken or refused the record, and after ten seconds in any case.

use std::rc::Rc;

use serde_json::Value;

use super::Context;
use super::requests::{Work, failed};
use super::{capabilities, groups};

/// All operations, for whoever asks for another.
const KNOWN: &str = "explain, stop, trace, events, identity, sign_secure, publish, withdraw, capability, \
    query, changes, tunnel_key, groups, group_create, group_join, group_leave, group_invite, group_invites, \
    group_accept, group_decline and group_members";

/// Follows the operations about capabilities and groups.
pub(super) fn follow(context: Rc<Context>, op: &str, request: &Value) -> Work {
    match op {
        "publish" => capabilities::publish(context, request),
        "withdraw" => capabilities::withdraw(context),
        "capability" if request.get("node_id").is_none() => capabilities::own(&context),
        "capability" => capabilities::of_peer(context, request),
        "query" => capabilities::query(context, request),
        "changes" => capabilities::changes(context, request),
        "tunnel_key" => capabilities::tunnel_key(&context, request),
        op if op.starts_with("group") => groups::follow(context, op, request),
        other => unknown(other),
    }
}

/// An operation that nobody knows.
pub(super) fn unknown(op: &str) -> Work {
    failed(&format!("this daemon does not know the operation {op:?}; it knows {KNOWN}"))
}
