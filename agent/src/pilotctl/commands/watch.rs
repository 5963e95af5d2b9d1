//! `watch`: who can do what is wanted, and what changes there. The daemon says which nodes have changed; only those are asked
//! about again, or everything, where changes may have been missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::number_of;
use super::query::{fitted, shown_rejections, shown_tags};
use super::streams::until_enough;
use crate::pilotctl::arguments::Watch;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Session};
use crate::pilotctl::text;

/// Nodes that are watched; the most a query gives.
const NODES_MAX: u16 = 50;
/// With more changed nodes than this, one question for all is cheaper.
const SINGLE_QUESTIONS_MAX: usize = 8;
/// How long the daemon holds a question back.
const WAIT_SECONDS: u64 = 25;
/// Before what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
const TITLE_COLUMNS: usize = 60;
const HOSTNAME_COLUMNS: usize = 40;

pub(super) async fn watch(session: &Session, screen: &mut Screen, what: &Watch) -> Result<(), Failure> {
    // One waits for changes, the other asks what they are.
    let (feed, asking) = (session.connect().await?, session.connect().await?);
    let mut watched = Watched { what, asking, known: BTreeMap::new(), is_away: false };
    until_enough(session, watched.run(screen, &feed)).await.map(|_| ())
}

struct Watched<'a> {
    what: &'a Watch,
    asking: Daemon,
    known: BTreeMap<u64, Value>,
    is_away: bool,
}

impl Watched<'_> {
    async fn run(&mut self, screen: &mut Screen, feed: &Daemon) -> Result<(), Failure> {
        // The cursor comes first, so that nothing between it and the answer is missed.
        let mut cursor = number_of(&feed.extension(&self.question(0, WAIT_SECONDS)).await?, "cursor");
        let (mut is_stale, mut changed) = (false, BTreeSet::new());
        for hit in self.query(screen, None).await? {
            self.tell(screen, "present", &hit)?;
            self.known.insert(number_of(&hit, "node_id"), hit);
        }
        screen.talk(&format!("{} now; watching, end with Ctrl-C", text::count(self.known.len() as u64, "node")));
        loop {
            let owes = is_stale || !changed.is_empty();
            let news = match feed.extension(&self.question(cursor, if owes { 1 } else { WAIT_SECONDS })).await {
                Ok(news) => news,
                Err(failure) => {
                    self.lose(screen, &failure)?;
                    is_stale = true;
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            cursor = number_of(&news, "cursor");
            is_stale |= news["reset"] == true;
            changed.extend(news["changes"].as_array().into_iter().flatten().map(|change| number_of(change, "node_id")));
            if let Some(reason) = news["away"].as_str() {
                self.be_away(screen, reason)?;
                is_stale = true;
                continue;
            }
            if !is_stale && changed.is_empty() {
                continue;
            }
            match self.look_again(screen, is_stale, &changed).await {
                Ok(()) => {
                    (is_stale, changed) = (false, BTreeSet::new());
                    if std::mem::take(&mut self.is_away) {
                        self.note(screen, "back", "the directory is back")?;
                    }
                }
                Err(failure) if failure.pipe_closed => return Err(failure),
                Err(failure) => {
                    self.lose(screen, &failure)?;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn question(&self, after: u64, wait_seconds: u64) -> Value {
        json!({"op": "changes", "group": self.what.group, "after": after, "wait_seconds": wait_seconds})
    }

    async fn query(&self, screen: &mut Screen, node: Option<u64>) -> Result<Vec<Value>, Failure> {
        let Watch { text, group, tag } = self.what;
        let limit = NODES_MAX;
        let question =
            json!({"op": "query", "text": text, "group": group, "tags": tag, "limit": limit, "node_id": node});
        let answer = self.asking.extension(&question).await?;
        shown_rejections(screen, &answer);
        Ok(answer["hits"].as_array().cloned().unwrap_or_default())
    }

    /// Asks again about the nodes that have changed, or about all, and tells what is another.
    async fn look_again(&mut self, screen: &mut Screen, all: bool, changed: &BTreeSet<u64>) -> Result<(), Failure> {
        let asks_all = all || changed.len() > SINGLE_QUESTIONS_MAX;
        let mut found = BTreeMap::new();
        let questions = if asks_all { vec![None] } else { changed.iter().copied().map(Some).collect() };
        for question in questions {
            found.extend(self.query(screen, question).await?.into_iter().map(|hit| (number_of(&hit, "node_id"), hit)));
        }
        let is_asked = |node: &u64| asks_all || changed.contains(node);
        let gone: Vec<u64> =
            self.known.keys().filter(|node| is_asked(node) && !found.contains_key(node)).copied().collect();
        for node in gone {
            if let Some(hit) = self.known.remove(&node) {
                self.tell(screen, "gone", &hit)?;
            }
        }
        for (node, hit) in found {
            match self.known.insert(node, hit.clone()) {
                None => self.tell(screen, "appeared", &hit)?,
                Some(before) if is_another(&before, &hit) => self.tell(screen, "changed", &hit)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn tell(&self, screen: &mut Screen, event: &str, hit: &Value) -> Result<(), Failure> {
        if screen.is_json() {
            return Ok(screen.object(&json!({"event": event, "hit": hit}))?);
        }
        let mark = match event {
            "present" => " ".to_owned(),
            "appeared" => screen.good("+"),
            "changed" => "~".to_owned(),
            _ => screen.bad("-"),
        };
        let hostname = fitted(&hit["hostname"], HOSTNAME_COLUMNS);
        let title = fitted(&hit["title"], TITLE_COLUMNS);
        let tags = shown_tags(&hit["tags"]);
        let address = text::harmless(hit["address"].as_str().unwrap_or("–")).into_owned();
        let gone = if event == "gone" { " · gone" } else { "" };
        Ok(screen.line(format!("{mark} {address}  {hostname}  {title}  {tags}{gone}").trim_end())?)
    }

    fn note(&self, screen: &mut Screen, event: &str, detail: &str) -> Result<(), Failure> {
        if screen.is_json() {
            return Ok(screen.object(&json!({"event": event, "detail": detail}))?);
        }
        screen.talk(&text::harmless(detail));
        Ok(())
    }

    fn be_away(&mut self, screen: &mut Screen, reason: &str) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_away, true) {
            self.note(screen, "away", &format!("nothing new for now: {reason}"))?;
        }
        Ok(())
    }

    /// A question has failed: what passes is told once, what does not ends the watch.
    fn lose(&mut self, screen: &mut Screen, failure: &Failure) -> Result<(), Failure> {
        let passes = failure.code == Code::Timeout || failure.message.contains("directory");
        if passes { self.be_away(screen, &failure.message) } else { Err(failure.clone()) }
    }
}

/// Whether a watcher should hear of it: scores and times change all the time.
fn is_another(before: &Value, now: &Value) -> bool {
    ["address", "hostname", "tags", "record", "online"].iter().any(|field| before[*field] != now[*field])
}
