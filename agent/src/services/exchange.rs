//! Data exchange, port 1001: messages and files for whoever runs the node.
//!
//! | part | subject |
//! |---|---|
//! | [`receiver`] | serves a stream: each frame is stored and acknowledged |
//! | [`sender`] | sends a message and awaits the acknowledgement |
//! | [`transfer`] | sends a file in chunks, and goes on where a broken connection ended |
//! | [`inbox`] | messages as files, and reading them back |
//! | [`received`] | names of received files: never another's, never outside the folder |
//! | [`folder`] | the files of such a folder |
//! | `partial` | a file that is not whole yet |
//! | `claims` | which stream goes on with which file |
//! | `room` | which parts have to go, and whether the disk has room |
//! | `frames` | whole frames out of a stream |

mod claims;
pub mod folder;
mod frames;
pub mod inbox;
mod partial;
pub mod received;
pub mod receiver;
mod room;
pub mod sender;
pub mod transfer;

use std::time::Duration;

/// So long a side waits for the other's next step.
pub const STEP_MAX: Duration = Duration::from_secs(60);
/// The folder within the one for received files, and within the inbox, for what is not whole yet.
const PARTIAL_FOLDER: &str = ".partial";
