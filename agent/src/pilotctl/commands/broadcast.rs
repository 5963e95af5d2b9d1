//! `broadcast`: one message into the inbox of every live member of a group. The sender pays: a tunnel and a message each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};
use wire::address::Address;
use wire::services::exchange::Tag;

use super::delivery::{Delivery, Limits, deliver};
use super::exchange::{content, message, message_id};
use super::groups::{is_live, members};
use super::number_of;
use super::query::fitted;
use crate::pilotctl::arguments::Broadcast;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::{Daemon, Session};
use crate::pilotctl::{clock, duration, text};

const NAME_COLUMNS: usize = 40;

struct Sent {
    member: Value,
    delivery: Delivery,
}

pub(super) async fn broadcast(session: &Session, screen: &mut Screen, what: &Broadcast) -> Result<(), Failure> {
    let data = content(what.data.as_deref(), what.file.as_deref())?;
    message(what.r#type, &data)?;
    let daemon = session.connect().await?;
    let all = members(&daemon, &what.group).await?;
    let others = all.members.into_iter().filter(|member| member["node_id"].as_u64() != all.own);
    let (live, offline): (Vec<_>, Vec<_>) = others.partition(is_live);
    let (live_count, begun) = (live.len(), clock::now());
    let id = message_id()?;
    let queue = RefCell::new(VecDeque::from(live));
    let is_trace_wanted = screen.is_json();
    let job = Job { session: session.clone(), queue, id: id.clone(), data, kind: what.r#type, is_trace_wanted };
    let job = Rc::new(job);
    let sent = LocalSet::new().run_until(job.run(screen, what)).await?;
    let elapsed = clock::since(begun);
    let delivered = sent.iter().filter(|sent| matches!(sent.delivery, Delivery::Done(_))).count();
    let failed = sent.len() - delivered;
    if screen.is_json() {
        let results: Vec<_> = sent.iter().map(result).collect();
        let named = |member: &Value| json!({"node_id": member["node_id"], "hostname": member["hostname"]});
        screen.data(json!({
            "group": what.group, "network_id": all.network, "message_id": id, "bytes": job.data.len(),
            "live": live_count, "delivered": delivered, "failed": failed, "offline": offline.len(),
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "results": results, "offline_members": offline.iter().map(named).collect::<Vec<_>>(),
        }))?;
    } else {
        let members = text::count(live_count as u64, "live member");
        let took = duration::milliseconds(elapsed);
        screen.line(&format!(
            "{delivered} of {members} have it · {failed} failed · {} offline · {took}",
            offline.len()
        ))?;
        screen.talk(&format!("message id {id}"));
    }
    if failed == 0 { Ok(()) } else { Err(Failure::told(Code::ConnectionFailed)) }
}

fn result(sent: &Sent) -> Value {
    let Sent { member, delivery } = sent;
    let mut result = json!({
        "node_id": member["node_id"], "address": member["address"], "hostname": member["hostname"],
        "delivered": matches!(delivery, Delivery::Done(_)),
    });
    match delivery {
        Delivery::Done(confirmed) => {
            result["ack"] = json!(confirmed.text);
            if let Some(trace_id) = &confirmed.trace_id {
                result["trace_id"] = json!(trace_id);
            }
        }
        Delivery::Failed(reason) => result["reason"] = json!(reason),
        Delivery::Uncertain(reason) => {
            result["reason"] = json!(reason);
            result["uncertain"] = json!(true);
        }
    }
    result
}

struct Job {
    session: Session,
    queue: RefCell<VecDeque<Value>>,
    id: String,
    data: Vec<u8>,
    kind: crate::pilotctl::arguments::MessageType,
    is_trace_wanted: bool,
}

impl Job {
    /// Sends to all in the queue, so many at once; tells each failure as it comes.
    async fn run(self: &Rc<Self>, screen: &mut Screen, what: &Broadcast) -> Result<Vec<Sent>, Failure> {
        let mut workers = JoinSet::new();
        let (results, mut coming) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..usize::from(what.parallel).min(self.queue.borrow().len()) {
            let (job, results, deadline) = (Rc::clone(self), results.clone(), what.deadline);
            workers.spawn_local(async move { job.work(&results, deadline).await });
        }
        drop(results);
        let mut all = Vec::new();
        while let Some(sent) = coming.recv().await {
            if let (Delivery::Failed(reason) | Delivery::Uncertain(reason), false) = (&sent.delivery, screen.is_json())
            {
                let hostname = fitted(&sent.member["hostname"], NAME_COLUMNS);
                let node = number_of(&sent.member, "node_id");
                let mark = screen.bad("✗");
                screen.line(&format!("{mark} node {node}  {hostname}  {}", text::harmless(reason)))?;
            }
            all.push(sent);
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|error| Failure::new(Code::Internal, format!("a delivery has ended: {error}")))??;
        }
        all.sort_by_key(|sent| number_of(&sent.member, "node_id"));
        Ok(all)
    }

    /// One of those who send. Each has a connection of its own: requests of one connection wait for one another, and a
    /// member that does not answer would hold the others up.
    async fn work(
        &self,
        results: &tokio::sync::mpsc::UnboundedSender<Sent>,
        deadline: std::time::Duration,
    ) -> Result<(), Failure> {
        let message = message(self.kind, &self.data)?;
        let (mut daemon, limits): (Option<Daemon>, _) = (None, Limits::whole(deadline));
        loop {
            let Some(member) = self.queue.borrow_mut().pop_front() else { return Ok(()) };
            let tag = Tag { message_id: Some(&self.id), reply_to: None };
            let address = member["address"].as_str().and_then(|address| address.parse::<Address>().ok());
            let delivery = match address {
                Some(address) => {
                    let connected = match daemon.take() {
                        Some(daemon) => daemon,
                        None => self.session.connect().await?,
                    };
                    let delivery = deliver(&connected, address, None, message, tag, limits, self.is_trace_wanted).await;
                    // What was given up may still be under way on this connection.
                    daemon = matches!(delivery, Delivery::Done(_)).then_some(connected);
                    delivery
                }
                None => Delivery::Failed("the directory gave no address".to_owned()),
            };
            if results.send(Sent { member, delivery }).is_err() {
                return Ok(());
            }
        }
    }
}
