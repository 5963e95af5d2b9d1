//! Nodes as people read them. What nodes say of themselves is shown without control characters.

use std::fmt::Write as _;

use serde_json::Value;

/// Characters of a key that tell it from others.
const KEY_SHOWN: usize = 12;

/// A table, with its head where wanted.
pub fn nodes(nodes: &[Value], now: u64, with_head: bool) -> String {
    let mut text = String::new();
    let head = ["NODE", "ADDRESS", "STATE", "ONLINE", "HOSTNAME", "KEY", "WHERE", "GRADE", "SENT", "DROPPED", "SEEN"];
    if with_head {
        row(&mut text, &head.map(str::to_owned));
    }
    for node in nodes {
        let relay = &node["relay"];
        row(
            &mut text,
            &[
                word(&node["node_id"]),
                word(&node["address"]),
                word(&node["standing"]),
                if node["online"] == true { "yes".to_owned() } else { "no".to_owned() },
                hostname(node),
                word(&node["public_key"]).chars().take(KEY_SHOWN).collect(),
                word(&relay["endpoint"]),
                word(&relay["grade"]),
                amount(&node["usage"]["bytes"], "B"),
                amount(&node["usage"]["dropped"], ""),
                seen(node, now),
            ],
        );
    }
    text
}

fn row(text: &mut String, cells: &[String; 11]) {
    const WIDTHS: [usize; 10] = [8, 17, 9, 7, 24, 13, 24, 6, 9, 8];
    for (cell, width) in cells.iter().zip(WIDTHS) {
        let _ = write!(text, "{cell:<width$} ");
    }
    text.push_str(&cells[10]);
    text.push('\n');
}

/// Keys that have not registered.
pub fn keys(keys: &[Value]) -> String {
    let mut text = String::new();
    for key in keys {
        let reason = key["reason"].as_str().filter(|reason| !reason.is_empty());
        let reason = reason.map_or_else(String::new, |reason| format!("  {}", clean(reason)));
        let _ =
            writeln!(text, "key      {}  {}, not registered{reason}", word(&key["public_key"]), word(&key["standing"]));
    }
    text
}

/// All that is known of one.
pub fn one(node: &Value) -> String {
    if node["node_id"].is_null() {
        return keys(std::slice::from_ref(node));
    }
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() && value != "-" {
            let _ = writeln!(text, "{name:<12}{value}");
        }
    };
    line("node", word(&node["node_id"]));
    line("address", word(&node["address"]));
    line("state", state(node));
    if let Some(reason) = node["ban"]["reason"].as_str() {
        line("banned", format!("at {} (Unix seconds) {}", word(&node["ban"]["at"]), clean(reason)));
    }
    line("hostname", hostname(node));
    line("key", word(&node["public_key"]));
    line("online", if node["online"] == true { "yes".to_owned() } else { "no".to_owned() });
    line("endpoint", word(&node["endpoint"]));
    line("version", word(&node["version"]));
    line("groups", list(&node["groups"]));
    line("tags", list(&node["tags"]));
    line("capability", word(&node["capability"]));
    line("session", word(&node["relay"]["endpoint"]));
    line("grade", word(&node["relay"]["grade"]));
    let usage = &node["usage"];
    if usage.is_object() {
        let (bytes, dropped) = (amount(&usage["bytes"], "B"), amount(&usage["dropped"], ""));
        line(
            "sent",
            format!("{bytes} in {} packets since the start; {dropped} over its budget", amount(&usage["packets"], "")),
        );
    }
    text.push_str(&quota(node));
    text
}

/// What it may send.
pub fn quota(node: &Value) -> String {
    let rate = |value: &Value, unit| match value.as_u64() {
        None => "what everyone may send".to_owned(),
        Some(0) => "unlimited".to_owned(),
        Some(rate) => format!("{rate} {unit} per second"),
    };
    let quota = &node["quota"];
    format!(
        "quota       packets: {}; bytes: {}\n",
        rate(&quota["packets_per_second"], "packets"),
        rate(&quota["bytes_per_second"], "bytes")
    )
}

/// What has been done.
pub fn done(name: &str, act: &str, answer: &Value) -> String {
    let node = &answer["node"];
    let who = match node["node_id"].as_u64() {
        Some(number) if name != number.to_string() => format!("node {number} ({})", clean(name)),
        Some(number) => format!("node {number}"),
        None => format!("key {}", clean(name)),
    };
    let done = match (act, answer["changed"] == true) {
        (_, false) => "nothing to change".to_owned(),
        ("quota", true) => quota(node).split_whitespace().skip(1).collect::<Vec<_>>().join(" "),
        ("remove", true) if node.is_null() => "removed; nothing is said of it any more".to_owned(),
        ("remove", true) => "removed; its number stays with its key".to_owned(),
        ("unban", true) if node.is_null() => "no longer banned".to_owned(),
        ("unban", true) if node["registered"] != true => format!("no longer banned; {}", state(node)),
        (_, true) => format!("now {}", state(node)),
    };
    let unnamed = match (act, node["wished_hostname"].as_str()) {
        ("approve", Some(wished)) => format!("; the name {} it wanted is another's", clean(wished)),
        _ => String::new(),
    };
    format!("{who}: {done}{unnamed}\n")
}

/// Whether it belongs; of one that is not registered, whether it would.
fn state(node: &Value) -> String {
    match node["standing"].as_str() {
        _ if node["registered"] == true => word(&node["standing"]),
        Some("pending") => "not approved, not registered".to_owned(),
        _ => format!("{}, not registered", word(&node["standing"])),
    }
}

fn hostname(node: &Value) -> String {
    match (node["hostname"].as_str(), node["wished_hostname"].as_str()) {
        (Some(hostname), _) => clean(hostname),
        (None, Some(wished)) => format!("({})", clean(wished)),
        (None, None) => "-".to_owned(),
    }
}

fn seen(node: &Value, now: u64) -> String {
    const DAY: u64 = 86_400;
    if let Some(at) = node["last_seen"].as_u64() {
        let seconds = now.saturating_sub(at);
        return match seconds {
            0..=119 => format!("{seconds} s ago"),
            120..=7199 => format!("{} min ago", seconds / 60),
            _ => format!("{} h ago", seconds / 3600),
        };
    }
    match node["last_seen_day"].as_u64().map(|day| (now / DAY).saturating_sub(day)) {
        Some(0) => "today".to_owned(),
        Some(days) => format!("{days} d ago"),
        None => "never signed".to_owned(),
    }
}

fn list(value: &Value) -> String {
    value.as_array().map_or_else(String::new, |words| words.iter().map(word).collect::<Vec<_>>().join(", "))
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        value => value.to_string(),
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// With three digits at most, and the prefix that goes with it.
fn amount(value: &Value, unit: &str) -> String {
    let Some(number) = value.as_u64() else { return "-".to_owned() };
    let mut left = number as f64;
    let mut prefixes = ["", "k", "M", "G", "T", "P", "E"].into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    while left >= 1000.0
        && let Some(next) = prefixes.next()
    {
        left /= 1000.0;
        prefix = next;
    }
    if prefix.is_empty() && unit.is_empty() {
        return number.to_string();
    }
    let digits = if prefix.is_empty() || left >= 100.0 { 0 } else { 1 };
    format!("{left:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nodes_say_of_themselves_cannot_move_the_cursor() {
        let node = json!({ "node_id": 7, "hostname": "a\u{1b}[2Jb\n", "standing": "approved", "last_seen": 1000 });
        let text =
            nodes(std::slice::from_ref(&node), 1010, false) + &one(&node) + &done("a\u{7}", "approve", &json!({}));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && text.contains("a[2Jb"), "{text}");
        assert!(text.contains("10 s ago"), "{text}");
    }

    #[test]
    fn amounts_are_short() {
        for (number, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (u64::MAX, "18.4 EB")]
        {
            assert_eq!(amount(&json!(number), "B"), text);
        }
        assert_eq!((amount(&json!(7), ""), amount(&Value::Null, "B")), ("7".into(), "-".into()));
    }
}
