//! What a node offers: how it is read, when it is published, and what is believed of others.

mod offer;
mod publication;
mod verify;
