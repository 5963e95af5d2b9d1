//! Groups: the directory's networks, by their names.

use std::rc::Rc;

use serde_json::{Value, json};
use wire::NodeId;
use wire::registry::answer::NetworkSummary;
use wire::registry::{Answer, Operation};

use super::Context;
use super::client::Outcome;
use super::requests::{Work, own, put};

/// Everyone.
const BACKBONE: u16 = 0;
const BACKBONE_NAME: &str = "backbone";
const RULES: [&str; 3] = ["open", "token", "invite"];

pub(super) fn follow(context: Rc<Context>, op: &str, request: &Value) -> Work {
    let (op, request) = (op.to_owned(), request.clone());
    if !matches!(
        op.as_str(),
        "groups"
            | "group_create"
            | "group_join"
            | "group_leave"
            | "group_invite"
            | "group_invites"
            | "group_accept"
            | "group_decline"
            | "group_members"
    ) {
        return super::extension::unknown(&op);
    }
    Box::pin(async move {
        let outcome = match op.as_str() {
            "groups" => list(&context).await,
            "group_create" => create(&context, &request).await,
            "group_invites" => invites(&context).await,
            "group_members" => members(&context, &request).await,
            change => change_own(&context, change, &request).await,
        };
        match outcome {
            Ok(answer) => Outcome::Json(answer),
            Err(text) => Outcome::Failed(text),
        }
    })
}

/// The network that a client names; none where it names none.
pub(super) async fn network_of(context: &Context, group: &Value) -> Result<Option<u16>, String> {
    let name = match group {
        Value::Null => return Ok(None),
        Value::Number(number) => {
            let number = number.as_u64().and_then(|number| u16::try_from(number).ok());
            return number.map(Some).ok_or_else(|| "a network has a number up to 65535".to_owned());
        }
        Value::String(name) if name.is_empty() => return Err("the group has no name".to_owned()),
        Value::String(name) => name,
        _ => return Err("\"group\" must be a name or a number".to_owned()),
    };
    if name.eq_ignore_ascii_case(BACKBONE_NAME) {
        return Ok(Some(BACKBONE));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().map(Some).map_err(|_| format!("there is no network {name}"));
    }
    let networks = networks(context).await?;
    if let Some(network) = networks.iter().find(|network| network.name == *name) {
        return Ok(Some(network.id));
    }
    let alike: Vec<_> = networks.iter().filter(|network| network.name.to_lowercase() == name.to_lowercase()).collect();
    match alike.as_slice() {
        [network] => Ok(Some(network.id)),
        [] => Err(format!("group {name:?} not found")),
        several => Err(format!("{} groups are called {name:?}; name one by its number", several.len())),
    }
}

async fn required(context: &Context, request: &Value) -> Result<u16, String> {
    network_of(context, &request["group"]).await?.ok_or_else(|| "\"group\" must be a name or a number".to_owned())
}

async fn networks(context: &Context) -> Result<Vec<NetworkSummary>, String> {
    match put(context, Operation::ListNetworks).await? {
        Answer::ListNetworks { networks } => Ok(networks),
        _ => Err("the directory gave another answer".to_owned()),
    }
}

async fn list(context: &Context) -> Result<Value, String> {
    context.refresh().await;
    let networks = networks(context).await?;
    let own = context.networks.borrow();
    let groups = networks.iter().map(|network| {
        json!({
            "network_id": network.id,
            "name": network.name,
            "join_rule": network.join_rule,
            "members": network.members,
            "online": network.online,
            "joined": network.id == BACKBONE || own.contains(&network.id),
        })
    });
    Ok(json!({ "groups": groups.collect::<Vec<_>>() }))
}

async fn create(context: &Context, request: &Value) -> Result<Value, String> {
    let name = text(request, "name")?;
    let token = text(request, "token")?;
    let join_rule = match &*text(request, "rule")? {
        "" if token.is_empty() => "open".to_owned(),
        "" => "token".to_owned(),
        rule if RULES.contains(&rule) => rule.to_owned(),
        rule => return Err(format!("group create: {rule:?} is no rule; open, token or invite")),
    };
    match put(context, Operation::CreateNetwork { node_id: own(context)?, name, join_rule, token }).await {
        Ok(Answer::CreateNetwork { network_id, name }) => {
            context.refresh().await;
            let joined = context.networks.borrow().contains(&network_id);
            Ok(json!({ "network_id": network_id, "name": name, "joined": joined }))
        }
        Ok(_) => Err("group create: the directory gave another answer".to_owned()),
        Err(text) => Err(format!("group create: {text}")),
    }
}

/// What concerns this node's own place in a group.
async fn change_own(context: &Context, op: &str, request: &Value) -> Result<Value, String> {
    let what = op.replace('_', " ");
    let failed = |text: String| format!("{what}: {text}");
    let network_id = required(context, request).await.map_err(failed)?;
    let node_id = own(context).map_err(failed)?;
    let operation = match op {
        "group_join" => Operation::JoinNetwork { node_id, network_id, token: text(request, "token")? },
        "group_leave" => Operation::LeaveNetwork { node_id, network_id },
        "group_invite" => {
            let target_node_id = super::requests::node_id(request);
            let target_node_id = target_node_id.ok_or_else(|| failed("\"node_id\" must be a node's number".into()))?;
            Operation::InviteToNetwork { network_id, inviter_id: node_id, target_node_id }
        }
        _ => Operation::RespondInvite { node_id, network_id, accept: op == "group_accept" },
    };
    let answer = put(context, operation).await.map_err(failed)?;
    context.refresh().await;
    let mut answer = serde_json::to_value(answer).map_err(|error| error.to_string())?;
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("type");
    }
    Ok(answer)
}

async fn invites(context: &Context) -> Result<Value, String> {
    let node_id = own(context)?;
    let invites = match put(context, Operation::PollInvites { node_id }).await? {
        Answer::PollInvites { invites } => invites,
        _ => return Err("the directory gave another answer".to_owned()),
    };
    let networks = if invites.is_empty() { Vec::new() } else { networks(context).await? };
    let name = |id: u16| networks.iter().find(|network| network.id == id).map(|network| &network.name);
    let invites = invites.iter().map(|invite| {
        json!({
            "network_id": invite.network_id, "name": name(invite.network_id),
            "inviter_id": invite.inviter_id, "timestamp": invite.timestamp,
        })
    });
    Ok(json!({ "invites": invites.collect::<Vec<_>>() }))
}

async fn members(context: &Context, request: &Value) -> Result<Value, String> {
    let failed = |text: String| format!("group members: {text}");
    let network_id = required(context, request).await.map_err(failed)?;
    let after = match &request["after"] {
        Value::Null => None,
        after => {
            let after = after.as_u64().and_then(|after| u32::try_from(after).ok());
            Some(NodeId(after.ok_or_else(|| failed("\"after\" must be a node's number".to_owned()))?))
        }
    };
    match put(context, Operation::ListNodes { network_id, after }).await.map_err(failed)? {
        Answer::ListNodes { mut nodes, more } => {
            // Where a host is, is between it and whom it trusts.
            nodes.iter_mut().for_each(|member| member.real_addr = None);
            let own = context.core.look(|node| node.id());
            Ok(json!({ "network_id": network_id, "own_node_id": own, "members": nodes, "more": more }))
        }
        _ => Err(failed("the directory gave another answer".to_owned())),
    }
}

fn text(request: &Value, field: &str) -> Result<String, String> {
    match &request[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("{field:?} must be a text")),
    }
}
