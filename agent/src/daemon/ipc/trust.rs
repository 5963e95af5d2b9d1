//! Whom to trust: the requests under 0F.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use wire::NodeId;
use wire::ipc::HandshakeRequest;

use super::Context;
use super::client::Outcome;
use super::requests::{Work, failed};

/// Waiting for trust is cut off here.
const WAIT_MAX: Duration = Duration::from_secs(600);

pub(super) fn follow(context: Rc<Context>, request: HandshakeRequest<'_>) -> Work {
    let core = &context.core;
    let status = |node: NodeId, status: &str| Outcome::Json(json!({ "node_id": node, "status": status }));
    let changes = !matches!(request, HandshakeRequest::Pending | HandshakeRequest::Trusted);
    let outcome = match request {
        HandshakeRequest::Send { node, justification } => {
            match core.act(|own, now| own.with_trust(now, |trust| trust.request(now, node, justification))) {
                Ok(()) => status(node, "sent"),
                Err(error) => Outcome::Failed(format!("handshake: {error}")),
            }
        }
        HandshakeRequest::Approve { node } => {
            match core.act(|own, now| own.with_trust(now, |trust| trust.approve(now, node))) {
                Ok(_) => status(node, "approved"),
                Err(error) => Outcome::Failed(format!("handshake approve: {error}")),
            }
        }
        HandshakeRequest::Reject { node, reason } => {
            match core.act(|own, now| own.with_trust(now, |trust| trust.reject(now, node, reason))) {
                Ok(_) => status(node, "rejected"),
                Err(error) => Outcome::Failed(format!("handshake reject: {error}")),
            }
        }
        HandshakeRequest::Revoke { node } => {
            match core.act(|own, now| own.with_trust(now, |trust| trust.revoke(now, node))) {
                Ok(true) => status(node, "revoked"),
                Ok(false) => Outcome::Failed(format!("handshake revoke: node {node} was not trusted")),
                Err(error) => Outcome::Failed(format!("handshake revoke: {error}")),
            }
        }
        HandshakeRequest::Pending => {
            Outcome::Json(core.look(|own| json!({ "pending": own.trust().pending().collect::<Vec<_>>() })))
        }
        HandshakeRequest::Trusted => {
            Outcome::Json(core.look(|own| json!({ "trusted": own.trust().trusted().collect::<Vec<_>>() })))
        }
        HandshakeRequest::WaitForTrust { node, .. } if !node.is_node() => {
            return failed("handshake wait: this is no node's number");
        }
        HandshakeRequest::WaitForTrust { node, timeout_ms } => {
            return wait(context, node, Duration::from_millis(timeout_ms.into()));
        }
    };
    if !changes || matches!(outcome, Outcome::Failed(_)) {
        return Box::pin(async { outcome });
    }
    // What a client has been told is in the file, whatever becomes of the daemon.
    context.trust.handle_changed();
    Box::pin(async move {
        Rc::clone(&context.trust).keep_now().await;
        outcome
    })
}

fn wait(context: Rc<Context>, node: NodeId, patience: Duration) -> Work {
    Box::pin(async move {
        let core = &context.core;
        let trusted = async {
            loop {
                let changed = core.trust_changed();
                if core.look(|own| own.trust().trusts(node)) {
                    return;
                }
                changed.await;
            }
        };
        let trusted = timeout(patience.min(WAIT_MAX), trusted).await.is_ok();
        Outcome::Json(json!({ "node_id": node, "trusted": trusted }))
    })
}
