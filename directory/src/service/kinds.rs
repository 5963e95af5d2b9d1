//! What kind of request an operation is, where several parts have to know.

use wire::registry::Operation;

/// Requests that ask and change nothing durable: their answers wait for nobody's change.
pub(crate) const fn is_read(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Heartbeat { .. }
            | Operation::SetKeyExpiry { .. }
            | Operation::Lookup { .. }
            | Operation::Resolve { .. }
            | Operation::ResolveHostname { .. }
            | Operation::CheckTrust { .. }
            | Operation::Punch { .. }
            | Operation::ListNetworks
            | Operation::ListNodes { .. }
            | Operation::PollInvites { .. }
            | Operation::GetNetworkPolicy { .. }
            | Operation::BeaconRegister { .. }
            | Operation::BeaconList
            | Operation::Query(_)
            | Operation::Changes(_)
    )
}

/// Requests whose signature does not cover what they set, so that a replay could set anything.
pub(super) const fn sets_value(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::SetHostname { .. }
            | Operation::SetTags { .. }
            | Operation::SetVisibility { .. }
            | Operation::SetTaskExec { .. }
    )
}

/// Requests that say nothing of whether their node lives: a record and its signature are there for everyone to copy,
/// and questions can be asked again by whoever has seen them once. A record that is newer than the one before does, as
/// only its node can have made it.
pub(super) const fn is_said_to_all(operation: &Operation) -> bool {
    matches!(operation, Operation::PublishCapability { .. } | Operation::Query(_) | Operation::Changes(_))
}
