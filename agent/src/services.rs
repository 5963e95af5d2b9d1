//! The built-in services (section 9), and the clients that talk to them.
//!
//! All of it works on any stream of bytes, runs on one thread, and ends with its stream. Formats come from
//! [`wire::services`]; who may connect is the node's affair.
//!
//! | module | port | service |
//! |---|---|---|
//! | [`echo`] | 7 | gives back what it reads |
//! | [`exchange`] | 1001 | messages into the inbox, files into the folder for them |
//! | [`events`] | 1002 | publications to those who subscribed |
//! | [`secure`] | 443 | a channel sealed once more, between two who prove who they are |
//! | [`files`] | – | where file contents are read and written: io_uring, or threads where it is forbidden |
//! | [`slots`] | – | how many streams a service serves, of all peers and of each |
//! | `incoming` | – | what has come on a stream and is not a whole message yet |
//! | `room` | – | how many long messages may be there in part, of all peers and of each |

pub mod echo;
pub mod events;
pub mod exchange;
pub mod files;
mod incoming;
mod room;
pub mod secure;
pub mod slots;

use std::rc::Rc;
use std::time::Duration;

/// Gives the time since 1970.
pub type WallClock = Rc<dyn Fn() -> Duration>;
