//! `network`: groups of nodes, and invitations to them.

use serde_json::Value;
use wire::ipc::{NetworkRequest, Request};

use super::number_of;
use crate::pilotctl::arguments::Network;
use crate::pilotctl::exit::Failure;
use crate::pilotctl::screen::Screen;
use crate::pilotctl::session::Session;
use crate::pilotctl::table::Table;

pub(super) async fn run(session: &Session, screen: &mut Screen, command: Network) -> Result<(), Failure> {
    match command {
        Network::List => list(session, screen).await,
        Network::Join { network, token } => {
            let request = NetworkRequest::Join { network, token: &token };
            change(session, screen, request, "join", format!("joined network {network}")).await
        }
        Network::Leave { network } => {
            let request = NetworkRequest::Leave { network };
            change(session, screen, request, "leave", format!("left network {network}")).await
        }
        Network::Members { network } => members(session, screen, network).await,
        Network::Invite { network, peer } => {
            let node = session.connect().await?.peer(screen, &peer).await?.node;
            let request = NetworkRequest::Invite { network, node };
            change(session, screen, request, "invite", format!("node {node} is invited to network {network}")).await
        }
        Network::Invites => invites(session, screen).await,
        Network::Accept { network } => {
            let request = NetworkRequest::RespondInvite { network, accept: true };
            change(session, screen, request, "accept", format!("joined network {network}")).await
        }
        Network::Decline { network } => {
            let request = NetworkRequest::RespondInvite { network, accept: false };
            change(session, screen, request, "decline", format!("invitation to network {network} declined")).await
        }
    }
}

async fn ask(session: &Session, request: NetworkRequest<'_>, what: &str) -> Result<Value, Failure> {
    let answer = session.connect().await?.ask(Request::Network(request)).await;
    answer.map_err(|failure| failure.while_(&format!("network {what}")).hint("see networks: pilotctl network list"))
}

async fn change(
    session: &Session,
    screen: &mut Screen,
    request: NetworkRequest<'_>,
    what: &str,
    done: String,
) -> Result<(), Failure> {
    let answer = ask(session, request, what).await?;
    if screen.is_json() { Ok(screen.data(answer)?) } else { Ok(screen.line(&done)?) }
}

async fn list(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let answer = ask(session, NetworkRequest::List, "list").await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let mut table = Table::new(&["ID", "NAME", "JOIN RULE", "MEMBERS"]);
    for network in answer["networks"].as_array().into_iter().flatten() {
        table.row([
            number_of(network, "id").to_string(),
            network["name"].as_str().unwrap_or_default().to_owned(),
            network["join_rule"].as_str().unwrap_or_default().to_owned(),
            network["members"].as_u64().map_or("–".to_owned(), |members| members.to_string()),
        ]);
    }
    Ok(table.show(screen)?)
}

async fn members(session: &Session, screen: &mut Screen, network: u16) -> Result<(), Failure> {
    let answer = ask(session, NetworkRequest::Members { network }, "members").await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let mut table = Table::new(&["NODE", "ADDRESS", "HOSTNAME", "ROLE"]);
    let members = ["members", "nodes"].iter().find_map(|field| answer[*field].as_array());
    for member in members.into_iter().flatten() {
        let shown = |field: &str| member[field].as_str().unwrap_or("–").to_owned();
        table.row([number_of(member, "node_id").to_string(), shown("address"), shown("hostname"), shown("role")]);
    }
    Ok(table.show(screen)?)
}

async fn invites(session: &Session, screen: &mut Screen) -> Result<(), Failure> {
    let answer = ask(session, NetworkRequest::PollInvites, "invites").await?;
    if screen.is_json() {
        return Ok(screen.data(answer)?);
    }
    let invites = answer["invites"].as_array().map(Vec::as_slice).unwrap_or_default();
    if invites.is_empty() {
        return Ok(screen.line("no invitations")?);
    }
    let mut table = Table::new(&["NETWORK", "FROM NODE"]);
    for invite in invites {
        let inviter = ["inviter_id", "from_node_id", "invited_by"].iter().find_map(|field| invite[*field].as_u64());
        table.row([
            number_of(invite, "network_id").to_string(),
            inviter.map_or("–".to_owned(), |inviter| inviter.to_string()),
        ]);
    }
    table.show(screen)?;
    screen.talk("answer: pilotctl network accept ID, pilotctl network decline ID");
    Ok(())
}
