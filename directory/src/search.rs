//! Finding nodes by what they say they can do: from words to the full-text index and back to a ranked list.
//!
//! | part | what |
//! |---|---|
//! | [`words`] | text to tokens, in scripts with and without blanks between words |
//! | [`Search`], [`Found`] | a question to the index, and what came of it |
//! | [`pool`] | threads that ask the index, so that neither the service nor a connection waits |
//!
//! The index knows words, tags and groups; who may see whom and who is there is known to the service alone. So the
//! index gives all that fits, the best first and within a bound, and the service takes from the top what the asker
//! may see. Where that is too little and the bound was reached, it asks on below, some steps and no more than the time
//! that one question has of a searcher.

pub mod pool;
pub mod words;

use std::time::Duration;

use wire::NodeId;

pub use pool::Searchers;
use words::Terms;

/// A question to the index; made by the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Words; may be none where there are tags.
    pub terms: Terms,
    /// Which of the words have to be there.
    pub breadth: Breadth,
    /// Tags that have to be there.
    pub tags: Vec<String>,
    /// Members of this network alone.
    pub network: Option<u16>,
    /// This node alone.
    pub node: Option<NodeId>,
    /// Nodes with lower numbers alone: those before have been looked at in an earlier step.
    pub below: Option<NodeId>,
    /// For whom, as the service has made sure of.
    pub(crate) asker: Asker,
    /// Of what the narrower question before this one has found, what the asker may see.
    pub(crate) narrower: Vec<Candidate>,
    /// The same of earlier steps of this question.
    pub(crate) picked: Vec<Candidate>,
    /// Steps further down so far.
    pub(crate) steps: usize,
    /// What all steps have taken of a searcher's time.
    pub(crate) spent: Duration,
}

/// Which words a node must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// All of them.
    All,
    /// Any of them.
    Any,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The node that has signed the question.
    pub node: Option<NodeId>,
    /// An administrator has sent it.
    pub admin: bool,
}

/// A node that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// How well, in units that mean something within one search alone.
    pub relevance: u64,
}

/// The answer of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was asked.
    pub search: Search,
    /// Who fits, the best first.
    pub candidates: Vec<Candidate>,
    /// There may be others, with numbers below this one.
    pub more: Option<NodeId>,
}
