//! What a node can do for others, as a record that it signs: made from what its operator says, kept published, and, where
//! it comes from others, believed only after it has been verified.
//!
//! | part | subject |
//! |---|---|
//! | [`offer`] | what the operator says: flags, a file, a client's JSON; its bounds, named field by field |
//! | [`publication`] | when the record is published, and with which serial |
//! | [`verify`] | whether a record that the directory hands out is what its node has signed |

pub mod offer;
pub mod publication;
pub mod verify;

pub use offer::{Offer, OfferError};
pub use publication::Publication;
pub use verify::{Rejection, Verifier};
