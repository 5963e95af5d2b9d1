//! `query`: who can do what is wanted.

use serde_json::{Value, json};

use super::number_of;
use crate::pilotctl::arguments::Query;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::table::Table;
use crate::pilotctl::{clock, duration, text, width};

/// Columns of a hostname, the tags and a title.
const HOSTNAME_COLUMNS: usize = 32;
const TAGS_COLUMNS: usize = 28;
const TITLE_COLUMNS: usize = 48;

pub(super) async fn query(session: &Session, screen: &mut Screen, what: &Query) -> Result<(), Failure> {
    let question = json!({
        "op": "query", "text": what.text, "tags": what.tag, "group": what.group, "limit": what.limit,
        "offline": what.offline,
    });
    let answer = session.connect().await?.extension(&question).await?;
    let hits = answer["hits"].as_array().cloned().unwrap_or_default();
    if screen.is_json() {
        screen.data(answer)?;
        return if hits.is_empty() { Err(Failure::told(Code::NotFound)) } else { Ok(()) };
    }
    shown_rejections(screen, &answer);
    if hits.is_empty() {
        return Err(Failure::new(Code::NotFound, "nobody who is online offers this, as far as this node may see")
            .hint("with fewer words, or --offline; private nodes show themselves to whom they trust, and in groups"));
    }
    let now = clock::unix_seconds();
    let mut table = Table::new(&["ADDRESS", "HOSTNAME", "SCORE", "SEEN", "TAGS", "TITLE"]);
    for hit in &hits {
        table.row([
            hit["address"].as_str().unwrap_or("–").to_owned(),
            fitted(&hit["hostname"], HOSTNAME_COLUMNS),
            number_of(hit, "score").to_string(),
            seen(hit, now),
            width::fitted(&shown_tags(&hit["tags"]), TAGS_COLUMNS).into_owned(),
            fitted(&hit["title"], TITLE_COLUMNS),
        ]);
    }
    Ok(table.show(screen)?)
}

/// What the daemon has not believed.
pub(super) fn shown_rejections(screen: &mut Screen, answer: &Value) {
    let rejected = answer["rejected"].as_array().map(Vec::as_slice).unwrap_or_default();
    for rejection in rejected {
        let detail = text::harmless(rejection["detail"].as_str().unwrap_or("it cannot be verified")).into_owned();
        screen.talk(&format!("1 result withheld: {detail}"));
    }
}

/// Tags as a person writes them.
pub(super) fn shown_tags(tags: &Value) -> String {
    let tags = tags.as_array().map(Vec::as_slice).unwrap_or_default();
    let tags: Vec<_> = tags.iter().filter_map(Value::as_str).map(|tag| format!("#{}", text::harmless(tag))).collect();
    tags.join(" ")
}

/// A text of another, harmless, no wider than this.
pub(super) fn fitted(value: &Value, columns: usize) -> String {
    let shown = text::harmless(value.as_str().unwrap_or("–")).into_owned();
    width::fitted(&shown, columns).into_owned()
}

/// When a node was heard of last.
pub(super) fn seen(entry: &Value, now: u64) -> String {
    let ago = entry["last_seen"].as_u64().map(|at| format!("{} ago", duration::span(now.saturating_sub(at))));
    match (entry["online"] == false, ago) {
        (false, Some(ago)) => ago,
        (false, None) => "now".to_owned(),
        (true, Some(ago)) => format!("offline, {ago}"),
        (true, None) => "offline".to_owned(),
    }
}
