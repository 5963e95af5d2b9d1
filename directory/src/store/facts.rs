//! Facts to rows and back.

use anyhow::bail;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Row, Transaction, params};
use wire::NodeId;
use wire::registry::{Base64, PublicKey};

use super::index;
use crate::enrolment::{Approval, Ban, KeyRule, Quota};
use crate::facts::{
    CapabilityFact, Change, Facts, InviteFact, NetworkFact, NodeFact, RequestFact, ResponseFact, TrustFact,
};

/// Everything there is.
pub(super) fn load(connection: &Connection) -> anyhow::Result<Facts> {
    let facts = Facts {
        created_at: connection.query_row("SELECT created_at FROM directory", (), |row| row.get(0))?,
        nodes: rows(connection, "SELECT * FROM nodes ORDER BY id", node)?,
        retired_keys: rows(connection, "SELECT key, node FROM retired_keys", |row| Ok((key(row, 0)?, id(row, 1)?)))?,
        trust: rows(connection, "SELECT truster, trusted FROM trust", |row| {
            Ok(TrustFact { truster: id(row, 0)?, trusted: id(row, 1)? })
        })?,
        requests: rows(
            connection,
            "SELECT sender, recipient, justification, at FROM handshake_requests ORDER BY at",
            |row| Ok(RequestFact { from: id(row, 0)?, to: id(row, 1)?, justification: row.get(2)?, at: row.get(3)? }),
        )?,
        responses: rows(
            connection,
            "SELECT sender, recipient, accept, at FROM handshake_responses ORDER BY at",
            |row| Ok(ResponseFact { from: id(row, 0)?, to: id(row, 1)?, accept: row.get(2)?, at: row.get(3)? }),
        )?,
        networks: rows(
            connection,
            "SELECT id, name, join_rule, token_digest, creator, created_at FROM networks ORDER BY id",
            network,
        )?,
        members: rows(connection, "SELECT network, node FROM members", |row| Ok((row.get(0)?, id(row, 1)?)))?,
        invites: rows(connection, "SELECT network, target, inviter, at FROM invites ORDER BY at", |row| {
            Ok(InviteFact { network: row.get(0)?, target: id(row, 1)?, inviter: id(row, 2)?, at: row.get(3)? })
        })?,
        // Readers check records themselves, so one that somebody has meddled with is no reason not to start.
        capabilities: rows(
            connection,
            "SELECT node, serial, withdrawn, record, tags, signature FROM capabilities
             WHERE serial >= 0 AND length(signature) = 64 ORDER BY node",
            capability,
        )?,
        key_rules: rows(connection, "SELECT key, banned, reason, at FROM key_rules ORDER BY at", |row| {
            let ban = row.get::<_, bool>(1)?.then(|| row.get(2)).transpose()?;
            Ok(KeyRule { key: key(row, 0)?, ban, at: row.get(3)? })
        })?,
    };
    let dense = facts.nodes.iter().zip(1..).all(|(node, number)| node.id == NodeId(number));
    if !dense {
        bail!("nodes are missing in the database; restore it from a backup");
    }
    Ok(facts)
}

pub(super) fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map((), read)?.collect()
}

pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let run = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        transaction.prepare_cached(sql)?.execute(parameters).map(drop)
    };
    match change {
        Change::Node(fact) => save_node(transaction, fact),
        Change::KeyRetired(key, node) => {
            run("INSERT INTO retired_keys (key, node) VALUES (?1, ?2)", params![key.0, node.0])
        }
        Change::Trusted(TrustFact { truster, trusted }) => {
            run("INSERT OR IGNORE INTO trust (truster, trusted) VALUES (?1, ?2)", params![truster.0, trusted.0])
        }
        Change::Distrusted(TrustFact { truster, trusted }) => {
            run("DELETE FROM trust WHERE truster = ?1 AND trusted = ?2", params![truster.0, trusted.0])
        }
        Change::Requested(RequestFact { from, to, justification, at }) => run(
            "INSERT OR REPLACE INTO handshake_requests (sender, recipient, justification, at) VALUES (?1, ?2, ?3, ?4)",
            params![from.0, to.0, justification, at],
        ),
        Change::RequestClosed { from, to } => {
            run("DELETE FROM handshake_requests WHERE sender = ?1 AND recipient = ?2", params![from.0, to.0])
        }
        Change::Responded(ResponseFact { from, to, accept, at }) => run(
            "INSERT OR REPLACE INTO handshake_responses (sender, recipient, accept, at) VALUES (?1, ?2, ?3, ?4)",
            params![from.0, to.0, accept, at],
        ),
        Change::ResponseClosed { from, to } => {
            run("DELETE FROM handshake_responses WHERE sender = ?1 AND recipient = ?2", params![from.0, to.0])
        }
        Change::NetworkCreated(NetworkFact { id, name, join_rule, token_digest, creator, created_at }) => run(
            "INSERT INTO networks (id, name, join_rule, token_digest, creator, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, name, join_rule.to_string(), token_digest, creator.0, created_at],
        ),
        Change::Joined(network, node) => {
            run("INSERT OR IGNORE INTO members (network, node) VALUES (?1, ?2)", params![network, node.0])
        }
        Change::Left(network, node) => {
            run("DELETE FROM members WHERE network = ?1 AND node = ?2", params![network, node.0])
        }
        Change::Invited(InviteFact { network, target, inviter, at }) => run(
            "INSERT OR REPLACE INTO invites (network, target, inviter, at) VALUES (?1, ?2, ?3, ?4)",
            params![network, target.0, inviter.0, at],
        ),
        Change::InviteClosed { network, target } => {
            run("DELETE FROM invites WHERE network = ?1 AND target = ?2", params![network, target.0])
        }
        Change::Capability(fact) => {
            let CapabilityFact { node, serial, withdrawn, record, tags, signature } = &**fact;
            run(
                "INSERT OR REPLACE INTO capabilities (node, serial, withdrawn, record, tags, signature)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![node.0, serial, withdrawn, record, tags.join(" "), signature.0],
            )
        }
        Change::Searchable(words) => index::save(transaction, words),
        Change::KeyRule(rule) => run(
            "INSERT OR REPLACE INTO key_rules (key, banned, reason, at) VALUES (?1, ?2, ?3, ?4)",
            params![rule.key.0, rule.ban.is_some(), rule.ban.as_deref().unwrap_or_default(), rule.at],
        ),
        Change::KeyRuleEnded(key) => run("DELETE FROM key_rules WHERE key = ?1", params![key.0]),
        Change::Seen(day, nodes) => {
            let mut update = transaction.prepare_cached("UPDATE nodes SET last_seen_day = ?1 WHERE id = ?2")?;
            nodes.iter().try_for_each(|node| update.execute(params![day, node.0]).map(drop))
        }
    }
}

const SAVE_NODE: &str = "
    INSERT INTO nodes (id, key, key_set_at, registered, owner, hostname, tags, public, task_exec, version, lan_addrs,
                       relay_only, endpoint, endpoint_follows, signs, signed_host, approval, banned_at, ban_reason,
                       packets_per_second, bytes_per_second, wished_hostname, last_seen_day, vacant)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)
    ON CONFLICT (id) DO UPDATE SET
        key = ?2, key_set_at = ?3, registered = ?4, owner = ?5, hostname = ?6, tags = ?7, public = ?8, task_exec = ?9,
        version = ?10, lan_addrs = ?11, relay_only = ?12, endpoint = ?13, endpoint_follows = ?14, signs = ?15,
        signed_host = ?16, approval = ?17, banned_at = ?18, ban_reason = ?19, packets_per_second = ?20,
        bytes_per_second = ?21, wished_hostname = ?22, last_seen_day = ?23, vacant = ?24";

fn save_node(transaction: &Transaction<'_>, fact: &NodeFact) -> rusqlite::Result<()> {
    transaction.prepare_cached(SAVE_NODE)?.execute(params![
        fact.id.0,
        fact.key.0,
        fact.key_set_at,
        fact.registered,
        fact.owner,
        fact.hostname,
        fact.tags.join(" "),
        fact.public,
        fact.task_exec,
        fact.version,
        fact.lan_addrs.join(" "),
        fact.relay_only,
        fact.endpoint,
        fact.endpoint_follows,
        fact.signs,
        fact.signed_host.map(|host| host.to_string()),
        fact.approval as u8,
        fact.ban.as_ref().map(|ban| ban.at),
        fact.ban.as_ref().map(|ban| &ban.reason),
        fact.quota.packets_per_second,
        fact.quota.bytes_per_second,
        fact.wished_hostname,
        fact.last_seen_day,
        fact.vacant,
    ])?;
    Ok(())
}

fn node(row: &Row<'_>) -> rusqlite::Result<NodeFact> {
    Ok(NodeFact {
        id: id(row, "id")?,
        key: key(row, "key")?,
        key_set_at: row.get("key_set_at")?,
        registered: row.get("registered")?,
        owner: row.get("owner")?,
        hostname: row.get("hostname")?,
        tags: words(row, "tags")?,
        public: row.get("public")?,
        task_exec: row.get("task_exec")?,
        version: row.get("version")?,
        lan_addrs: words(row, "lan_addrs")?,
        relay_only: row.get("relay_only")?,
        endpoint: row.get("endpoint")?,
        endpoint_follows: row.get("endpoint_follows")?,
        signs: row.get("signs")?,
        signed_host: row.get::<_, Option<String>>("signed_host")?.map(|host| parse(&host)).transpose()?,
        approval: Approval::from_number(row.get("approval")?),
        ban: match row.get::<_, Option<u64>>("banned_at")? {
            Some(at) => Some(Box::new(Ban { at, reason: row.get::<_, Option<_>>("ban_reason")?.unwrap_or_default() })),
            None => None,
        },
        quota: Quota {
            packets_per_second: row.get("packets_per_second")?,
            bytes_per_second: row.get("bytes_per_second")?,
        },
        wished_hostname: row.get("wished_hostname")?,
        last_seen_day: row.get("last_seen_day")?,
        vacant: row.get("vacant")?,
    })
}

fn capability(row: &Row<'_>) -> rusqlite::Result<CapabilityFact> {
    Ok(CapabilityFact {
        node: id(row, 0)?,
        serial: row.get(1)?,
        withdrawn: row.get(2)?,
        record: String::from_utf8_lossy(row.get_ref(3)?.as_bytes()?).into(),
        tags: words(row, 4)?,
        signature: Base64(row.get(5)?),
    })
}

fn network(row: &Row<'_>) -> rusqlite::Result<NetworkFact> {
    Ok(NetworkFact {
        id: row.get(0)?,
        name: row.get(1)?,
        join_rule: parse(&row.get::<_, String>(2)?)?,
        token_digest: row.get(3)?,
        creator: id(row, 4)?,
        created_at: row.get(5)?,
    })
}

fn words(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<Vec<String>> {
    Ok(row.get::<_, String>(column)?.split_whitespace().map(str::to_owned).collect())
}

fn id(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<NodeId> {
    row.get(column).map(NodeId)
}

fn key(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<PublicKey> {
    row.get(column).map(Base64)
}

fn parse<T: std::str::FromStr>(text: &str) -> rusqlite::Result<T> {
    text.parse()
        .map_err(|_| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(FromSqlError::InvalidType)))
}
