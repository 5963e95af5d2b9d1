//! Requests that ask the directory or wait for something. What the directory says is passed on in its own words.

use std::pin::Pin;
use std::rc::Rc;

use serde_json::{Value, json};
use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::ipc::Request;
use wire::registry::answer::Visibility;
use wire::registry::{Answer, Operation, names};

use super::client::{Client, Outcome};
use super::{Context, envelope, extension as extensions, info, networks, proofs, traces, trust};
use crate::capability::Publication;

/// Work that is done beside other requests.
pub(super) type Work = Pin<Box<dyn Future<Output = Outcome>>>;

/// Members of a network that one broadcast reaches.
const RECIPIENTS_MAX: usize = 4096;

/// What is to be done for `request`, which is none of those that [`Client`] follows itself.
pub(super) fn follow(client: Rc<Client>, request: Request<'_>) -> Work {
    let context = Rc::clone(&client.context);
    match request {
        Request::Handshake(request) => trust::follow(context, request),
        Request::Network(request) => networks::follow(context, request),
        Request::ResolveHostname(hostname) => {
            ask(context, Operation::ResolveHostname { hostname: hostname.to_owned() })
        }
        Request::SetHostname(hostname) => set_hostname(context, hostname),
        Request::SetVisibility { public } => {
            of_own(context, move |node_id| Operation::SetVisibility { node_id, public })
        }
        Request::SetTaskExec { enabled } => of_own(context, move |node_id| Operation::SetTaskExec { node_id, enabled }),
        Request::SetTags(tags) => set_tags(context, tags),
        Request::Deregister => of_own(context, |node_id| Operation::Deregister { node_id }),
        Request::SetWebhook("") => done(json!({ "webhook": "" })),
        Request::SetWebhook(_) => failed("set webhook: this daemon posts no events; read its log (--log-format json)"),
        Request::RotateKey => failed(
            "rotate key: a running node cannot change its key; stop the daemon, move the identity file away and start \
             as a new node, or keep the key",
        ),
        Request::Broadcast { network, port, token, data } => broadcast(client, network, port, token, data),
        Request::Managed(_) => failed("managed networks are run by the hosted service, which this fleet does without"),
        Request::SubmitBadge(_) => failed("badges are given by the hosted service, which this fleet does without"),
        Request::EnrollRecovery(_) => {
            failed("recovery is done by the hosted service; keep a copy of the identity file instead")
        }
        Request::SignEnvelope(text) => envelope::sign(context, text),
        Request::VerifyEnvelope(text) => envelope::verify(context, text),
        Request::Extension(text) => extension(&client, text),
        // The client follows these itself.
        Request::Bind { .. }
        | Request::Unbind { .. }
        | Request::Dial { .. }
        | Request::Send { .. }
        | Request::Close { .. }
        | Request::SendTo { .. }
        | Request::SendToConfirmed { .. }
        | Request::Info
        | Request::Health
        | Request::PreferDirect { .. }
        | Request::Cancel(_) => failed("this request is not for here"),
    }
}

/// A request that has failed already.
pub(super) fn failed(text: &str) -> Work {
    let text = text.to_owned();
    Box::pin(async { Outcome::Failed(text) })
}

pub(super) fn done(answer: Value) -> Work {
    Box::pin(async { Outcome::Json(answer) })
}

/// Asks the directory, and passes its answer on.
pub(super) fn ask(context: Rc<Context>, operation: Operation) -> Work {
    Box::pin(async move { passed_on(put(&context, operation).await) })
}

/// Asks the directory for something about this node.
pub(super) fn of_own(context: Rc<Context>, operation: impl FnOnce(NodeId) -> Operation + 'static) -> Work {
    Box::pin(async move {
        match own(&context) {
            Ok(node) => passed_on(put(&context, operation(node)).await),
            Err(text) => Outcome::Failed(text),
        }
    })
}

/// The directory's answer, and what follows from it for the daemon.
pub(super) async fn put(context: &Context, operation: Operation) -> Result<Answer, String> {
    let answer = context.core.ask(operation).await.map_err(|error| error.to_string())?;
    match &answer {
        Answer::Error { error } => return Err(error.clone()),
        Answer::SetHostname { hostname, .. } => {
            context.core.act(|node, _| node.set_hostname(hostname));
            context.hostname.replace(hostname.clone());
        }
        Answer::SetVisibility { visibility, .. } => {
            let public = *visibility == Visibility::Public;
            context.core.act(|node, _| node.set_visibility(public));
        }
        Answer::SetTags { .. } => {
            context.core.act(|node, now| node.with_publication(now, Publication::forget_tags));
        }
        _ => {}
    }
    Ok(answer)
}

fn passed_on(answer: Result<Answer, String>) -> Outcome {
    match answer.map(serde_json::to_value) {
        Ok(Ok(json)) => Outcome::Json(json),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(text) => Outcome::Failed(text),
    }
}

/// This node's id.
pub(super) fn own(context: &Context) -> Result<NodeId, String> {
    let (id, status) = context.core.look(|node| (node.id(), node.registration()));
    id.ok_or_else(|| format!("this node has no id yet: {status}"))
}

fn set_hostname(context: Rc<Context>, hostname: &str) -> Work {
    if !hostname.is_empty()
        && let Err(error) = names::check_hostname(hostname)
    {
        return failed(&error.to_string());
    }
    let hostname = hostname.to_owned();
    of_own(context, move |node_id| Operation::SetHostname { node_id, hostname })
}

fn set_tags(context: Rc<Context>, text: &str) -> Work {
    let Ok(tags) = serde_json::from_str::<Vec<String>>(text) else {
        return failed("set tags: expected a JSON array of texts, such as [\"gpu\",\"eu\"]");
    };
    match names::normalise_tags(&tags) {
        Ok(tags) => of_own(context, move |node_id| Operation::SetTags { node_id, tags }),
        Err(error) => failed(&error.to_string()),
    }
}

/// A datagram to each member of a network.
fn broadcast(client: Rc<Client>, network: u16, port: u16, token: &str, data: &[u8]) -> Work {
    let (token, data) = (token.to_owned(), data.to_vec());
    Box::pin(async move {
        let core = &client.context.core;
        let mut request = core.look(|node| node.sign(Operation::ListNodes { network_id: network, after: None }));
        request.admin_token = Some(token).filter(|token| !token.is_empty());
        let nodes = match core.directory().ask(request).await {
            Ok(Answer::ListNodes { nodes, .. }) => nodes,
            Ok(Answer::Error { error }) => return Outcome::Failed(format!("broadcast: {error}")),
            Ok(_) => return Outcome::Failed("broadcast: the directory gave another answer".to_owned()),
            Err(error) => return Outcome::Failed(format!("broadcast: {error}")),
        };
        let own = core.look(|node| node.id());
        let members = nodes.iter().map(|member| member.node_id).filter(|node| Some(*node) != own);
        let mut sent = 0_usize;
        for node in members.take(RECIPIENTS_MAX) {
            let to = SocketAddress { address: Address { network, node }, port };
            match client.send_to(to, &data) {
                Ok(()) => sent += 1,
                Err(text) if sent == 0 => return Outcome::Failed(text),
                Err(_) => {}
            }
        }
        Outcome::Json(json!({ "network_id": network, "port": port, "sent": sent, "recipients": sent }))
    })
}

/// What no other daemon knows.
fn extension(client: &Client, text: &str) -> Work {
    let context = Rc::clone(&client.context);
    let Ok(request) = serde_json::from_str::<Value>(text) else {
        return failed("the extension takes a JSON object with \"op\"");
    };
    match request["op"].as_str() {
        Some("explain") => match node_id(&request) {
            Some(node) => match info::explain(&context, node) {
                Some(explanation) => done(explanation),
                None => failed(&format!("explain: nothing has been sent to node {node} yet; try: pilotctl ping")),
            },
            None => failed("explain: \"node_id\" must be a node's number"),
        },
        Some("stop") => {
            context.stop.notify_one();
            done(json!({ "stopping": true }))
        }
        Some("trace") => match traces::trace(client, &request) {
            Ok(answer) => done(answer),
            Err(text) => failed(&text),
        },
        Some("events") => match (request.get("node_id"), node_id(&request)) {
            (Some(_), None) => failed("events: \"node_id\" must be a node's number"),
            (_, node) => done(traces::events(&context, node)),
        },
        Some("identity") => proofs::identity(context, &request),
        Some("sign_secure") => proofs::sign(context, text),
        Some(op) => extensions::follow(context, op, &request),
        None => failed("the extension takes a JSON object with \"op\""),
    }
}

/// The node that a request of the extension is about.
pub(super) fn node_id(request: &Value) -> Option<NodeId> {
    request["node_id"].as_u64().and_then(|node| u32::try_from(node).ok()).map(NodeId)
}
