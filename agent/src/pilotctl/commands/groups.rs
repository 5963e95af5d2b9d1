//! `group`: groups of nodes, by name.

use serde_json::{Value, json};

use super::query::{fitted, seen, shown_tags};
use super::streams::until_enough;
use super::{number_of, text_of};
use crate::pilotctl::arguments::Group;
use crate::pilotctl::exit::Failure;
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Session};
use crate::pilotctl::table::Table;
use crate::pilotctl::{clock, text, width};

/// Pages of a member list; the largest group has 10 000 members, and a page several hundred at least.
const PAGES_MAX: usize = 1000;
const NAME_COLUMNS: usize = 40;
const TAGS_COLUMNS: usize = 40;
/// How long the daemon holds a question for changes back.
const WAIT_SECONDS: u64 = 25;

pub(super) async fn run(session: &Session, screen: &mut Screen, command: Group) -> Result<(), Failure> {
    let daemon = session.connect().await?;
    match command {
        Group::Create { name, rule, token } => {
            let question = json!({"op": "group_create", "name": name, "rule": rule, "token": token});
            let made = daemon.extension(&question).await?;
            if screen.is_json() {
                return Ok(screen.data(made)?);
            }
            let (name, id) = (text_of(&made, "name").into_owned(), number_of(&made, "network_id"));
            screen.line(&format!("group {name} made · network {id}"))?;
            if made["joined"] != true {
                screen.talk(&format!("join it: pilotctl group join {name}"));
            }
            Ok(())
        }
        Group::List => list(screen, &daemon).await,
        Group::Join { group, token } => {
            change(screen, &daemon, json!({"op": "group_join", "group": group, "token": token}), "joined").await
        }
        Group::Leave { group } => change(screen, &daemon, json!({"op": "group_leave", "group": group}), "left").await,
        Group::Invite { group, peer } => {
            let node = daemon.peer(screen, &peer).await?.node;
            let done = format!("node {node} is invited to");
            change(screen, &daemon, json!({"op": "group_invite", "group": group, "node_id": node}), &done).await
        }
        Group::Invites => invites(screen, &daemon).await,
        Group::Accept { group } => {
            change(screen, &daemon, json!({"op": "group_accept", "group": group}), "joined").await
        }
        Group::Decline { group } => {
            let done = "declined the invitation to";
            change(screen, &daemon, json!({"op": "group_decline", "group": group}), done).await
        }
        Group::Members { group, follow } => show_members(session, screen, &daemon, &group, follow).await,
    }
}

async fn change(screen: &mut Screen, daemon: &Daemon, question: Value, done: &str) -> Result<(), Failure> {
    let answer = daemon.extension(&question).await.map_err(|failure| {
        let has_hint = failure.hint.is_some();
        if has_hint { failure } else { failure.hint("see groups, and who may join: pilotctl group list") }
    })?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    Ok(screen.line(&format!("{done} group {}", text_of(&question, "group")))?)
}

async fn list(screen: &mut Screen, daemon: &Daemon) -> Result<(), Failure> {
    let answer = daemon.extension(&json!({"op": "groups"})).await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let mut table = Table::new(&["NAME", "NUMBER", "JOIN RULE", "MEMBERS", "ONLINE", "JOINED"]);
    for group in answer["groups"].as_array().into_iter().flatten() {
        let figure = |field: &str| group[field].as_u64().map_or("–".to_owned(), |figure| figure.to_string());
        table.row([
            fitted(&group["name"], NAME_COLUMNS),
            number_of(group, "network_id").to_string(),
            group["join_rule"].as_str().unwrap_or_default().to_owned(),
            figure("members"),
            figure("online"),
            if group["joined"] == true { "yes".to_owned() } else { String::new() },
        ]);
    }
    Ok(table.show(screen)?)
}

async fn invites(screen: &mut Screen, daemon: &Daemon) -> Result<(), Failure> {
    let answer = daemon.extension(&json!({"op": "group_invites"})).await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let invites = answer["invites"].as_array().map(Vec::as_slice).unwrap_or_default();
    if invites.is_empty() {
        return Ok(screen.line("no invitations")?);
    }
    let mut table = Table::new(&["GROUP", "NUMBER", "FROM NODE"]);
    for invite in invites {
        let number = number_of(invite, "network_id").to_string();
        table.row([fitted(&invite["name"], NAME_COLUMNS), number, number_of(invite, "inviter_id").to_string()]);
    }
    Ok(table.show(screen)?)
}

/// All members of a group.
pub(super) struct Members {
    pub network: u64,
    /// This node, which is among them or not.
    pub own: Option<u64>,
    /// As the directory lists them, those who are online first.
    pub members: Vec<Value>,
}

/// Reads all pages.
pub(super) async fn members(daemon: &Daemon, group: &str) -> Result<Members, Failure> {
    let mut all = Members { network: 0, own: None, members: Vec::new() };
    let mut after = Value::Null;
    for _ in 0..PAGES_MAX {
        let mut page = daemon.extension(&json!({"op": "group_members", "group": group, "after": after})).await?;
        all.network = number_of(&page, "network_id");
        all.own = page["own_node_id"].as_u64();
        let Value::Array(members) = page["members"].take() else { break };
        let last = members.last().map(|member| member["node_id"].clone());
        all.members.extend(members);
        match last {
            Some(last) if page["more"] == true && last.as_u64() > after.as_u64() => after = last,
            _ => break,
        }
    }
    all.members.sort_by_key(|member| (!is_live(member), number_of(member, "node_id")));
    Ok(all)
}

/// Whether a member is there, as far as the directory says; an older one does not say, and then it may be.
pub(super) fn is_live(member: &Value) -> bool {
    member["online"] != false
}

/// Something about the following itself, as `watch` says it.
fn note(screen: &mut Screen, event: &str, detail: &str) -> Result<(), Failure> {
    if screen.is_json() {
        return Ok(screen.object(&json!({"event": event, "detail": detail}))?);
    }
    screen.talk(&text::harmless(detail));
    Ok(())
}

async fn show_members(
    session: &Session,
    screen: &mut Screen,
    daemon: &Daemon,
    group: &str,
    follow: bool,
) -> Result<(), Failure> {
    let question = |after: u64| json!({"op": "changes", "group": group, "after": after, "wait_seconds": WAIT_SECONDS});
    let mut cursor = if follow { number_of(&daemon.extension(&question(0)).await?, "cursor") } else { 0 };
    let all = members(daemon, group).await?;
    let online = all.members.iter().filter(|member| is_live(member)).count();
    if screen.is_json() {
        let list = json!({
            "network_id": all.network, "total": all.members.len(), "online": online, "members": all.members,
        });
        screen.data(list)?;
    } else {
        let now = clock::unix_seconds();
        let mut table = Table::new(&["NODE", "ADDRESS", "HOSTNAME", "SEEN", "TAGS"]);
        for member in &all.members {
            table.row([
                number_of(member, "node_id").to_string(),
                member["address"].as_str().unwrap_or("–").to_owned(),
                fitted(&member["hostname"], NAME_COLUMNS),
                seen(member, now),
                width::fitted(&shown_tags(&member["tags"]), TAGS_COLUMNS).into_owned(),
            ]);
        }
        table.show(screen)?;
        screen.talk(&format!("{}, {online} online", text::count(all.members.len() as u64, "member")));
    }
    if !follow {
        return Ok(());
    }
    let following = async {
        let mut is_away = false;
        loop {
            let news = daemon.extension(&question(cursor)).await?;
            cursor = number_of(&news, "cursor");
            let away = news["away"].as_str();
            let was_away = std::mem::replace(&mut is_away, away.is_some());
            match away {
                Some(reason) if !was_away => note(screen, "away", &format!("nothing new for now: {reason}"))?,
                None if was_away => note(screen, "back", "the directory is back")?,
                _ => {}
            }
            if news["reset"] == true {
                note(screen, "reset", "changes may have been missed meanwhile; list the members again")?;
            }
            for change in news["changes"].as_array().into_iter().flatten() {
                if screen.is_json() {
                    screen.object(change)?;
                    continue;
                }
                let hostname = fitted(&change["hostname"], NAME_COLUMNS);
                screen.line(&format!(
                    "node {}  {hostname}  {}",
                    number_of(change, "node_id"),
                    text_of(change, "what")
                ))?;
            }
        }
    };
    until_enough(session, following).await.map(|_| ())
}
