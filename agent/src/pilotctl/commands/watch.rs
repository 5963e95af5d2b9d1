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
    let mut watched = Watched { what, asking, known: BTreeMap::new(), withheld: BTreeSet::new(), is_away: false };
    until_enough(session, watched.run(screen, &feed)).await.map(|_| ())
}

struct Watched<'a> {
    what: &'a Watch,
    asking: Daemon,
    known: BTreeMap<u64, Value>,
    /// Those of them whose record is not believed at present.
    withheld: BTreeSet<u64>,
    is_away: bool,
}

/// What a question has brought.
#[derive(Default)]
struct Found {
    hits: BTreeMap<u64, Value>,
    /// Nodes whose record the daemon does not believe.
    withheld: BTreeSet<u64>,
    /// The answer has all it can hold: whoever is not in it may be there all the same.
    is_full: bool,
}

impl Found {
    fn extend(&mut self, more: Self) {
        self.hits.extend(more.hits);
        self.withheld.extend(more.withheld);
    }

    fn has(&self, node: u64) -> bool {
        self.hits.contains_key(&node) || self.withheld.contains(&node)
    }
}

impl Watched<'_> {
    async fn run(&mut self, screen: &mut Screen, feed: &Daemon) -> Result<(), Failure> {
        // The cursor comes first, so that nothing between it and the answer is missed.
        let mut cursor = number_of(&feed.extension(&self.question(0, WAIT_SECONDS)).await?, "cursor");
        let (mut is_stale, mut changed) = (false, BTreeSet::new());
        for (node, hit) in self.query(screen, None).await?.hits {
            self.tell(screen, "present", &hit)?;
            self.known.insert(node, hit);
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

    async fn query(&self, screen: &mut Screen, node: Option<u64>) -> Result<Found, Failure> {
        let Watch { text, group, tag } = self.what;
        let limit = NODES_MAX;
        let question =
            json!({"op": "query", "text": text, "group": group, "tags": tag, "limit": limit, "node_id": node});
        let answer = self.asking.extension(&question).await?;
        shown_rejections(screen, &answer);
        let list = |field: &str| answer[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let (hits, rejected) = (list("hits"), list("rejected"));
        Ok(Found {
            hits: hits.iter().map(|hit| (number_of(hit, "node_id"), hit.clone())).collect(),
            withheld: rejected.iter().map(|rejection| number_of(rejection, "node_id")).collect(),
            is_full: hits.len() + rejected.len() >= usize::from(NODES_MAX),
        })
    }

    /// Asks again about the nodes that have changed, or about all, and tells what is another.
    async fn look_again(&mut self, screen: &mut Screen, all: bool, changed: &BTreeSet<u64>) -> Result<(), Failure> {
        let asks_all = all || changed.len() > SINGLE_QUESTIONS_MAX;
        let mut found = if asks_all { self.query(screen, None).await? } else { Found::default() };
        let singly: Vec<u64> = match asks_all {
            false => changed.iter().copied().collect(),
            true if found.is_full => self.known.keys().filter(|node| !found.has(**node)).copied().collect(),
            true => Vec::new(),
        };
        for node in singly {
            found.extend(self.query(screen, Some(node)).await?);
        }
        let is_asked = |node: &u64| asks_all || changed.contains(node);
        let missing: Vec<u64> =
            self.known.keys().filter(|node| is_asked(node) && !found.hits.contains_key(node)).copied().collect();
        for node in missing {
            if !found.withheld.contains(&node) {
                self.withheld.remove(&node);
                if let Some(hit) = self.known.remove(&node) {
                    self.tell(screen, "gone", &hit)?;
                }
            } else if self.withheld.insert(node) {
                self.tell(screen, "withheld", &self.known[&node])?;
            }
        }
        for (node, hit) in found.hits {
            let was_withheld = self.withheld.remove(&node);
            match self.known.insert(node, hit.clone()) {
                None => self.tell(screen, "appeared", &hit)?,
                Some(before) if was_withheld || is_another(&before, &hit) => self.tell(screen, "changed", &hit)?,
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
        let end = match event {
            "gone" => " · gone",
            "withheld" => " · withheld: what it says now is not believed",
            _ => "",
        };
        Ok(screen.line(format!("{mark} {address}  {hostname}  {title}  {tags}{end}").trim_end())?)
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
