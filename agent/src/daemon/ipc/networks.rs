//! Networks: the requests under 1F, which are the directory's business.

use std::rc::Rc;

use wire::ipc::NetworkRequest;
use wire::registry::{Answer, Operation};

use super::Context;
use super::requests::{Work, ask, of_own};

pub(super) fn follow(context: Rc<Context>, request: NetworkRequest<'_>) -> Work {
    match request {
        NetworkRequest::List => ask(context, Operation::ListNetworks),
        NetworkRequest::Join { network: network_id, token } => {
            let token = token.to_owned();
            refresh_after(
                &context,
                of_own(Rc::clone(&context), move |node_id| Operation::JoinNetwork { node_id, network_id, token }),
            )
        }
        NetworkRequest::Leave { network: network_id } => refresh_after(
            &context,
            of_own(Rc::clone(&context), move |node_id| Operation::LeaveNetwork { node_id, network_id }),
        ),
        NetworkRequest::Members { network } => ask(context, Operation::ListNodes { network_id: network, after: None }),
        NetworkRequest::Invite { network: network_id, node: target_node_id } => {
            of_own(context, move |inviter_id| Operation::InviteToNetwork { network_id, inviter_id, target_node_id })
        }
        NetworkRequest::PollInvites => of_own(context, |node_id| Operation::PollInvites { node_id }),
        NetworkRequest::RespondInvite { network: network_id, accept } => refresh_after(
            &context,
            of_own(Rc::clone(&context), move |node_id| Operation::RespondInvite { node_id, network_id, accept }),
        ),
    }
}

/// Does `work`, then asks the directory which networks the node is in now.
fn refresh_after(context: &Rc<Context>, work: Work) -> Work {
    let context = Rc::clone(context);
    Box::pin(async move {
        let outcome = work.await;
        context.refresh().await;
        outcome
    })
}

impl Context {
    /// Asks the directory what it has of this node: its name, and the networks it is in.
    pub async fn refresh(&self) {
        let Some(node_id) = self.core.look(|node| node.id()) else { return };
        if let Ok(Answer::Lookup(found)) = self.core.ask(Operation::Lookup { node_id }).await {
            self.networks.replace(found.networks.into_iter().filter(|network| *network != 0).collect());
            self.hostname.replace(found.hostname.unwrap_or_default());
        }
    }
}
