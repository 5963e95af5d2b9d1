//! What the pages are made of. The directory is a source; tests have others.

use crate::driver::Driver;
use crate::service::Now;
use crate::service::overview::{NodeView, Overview};

/// A network to be shown. Called from any thread; all but [`Source::find_nodes`] answer at once.
pub trait Source: Send + Sync {
    /// The present.
    fn now(&self) -> Now;

    /// The network at a glance.
    fn overview(&self) -> Overview;

    /// Nodes whose number, address, hostname, tag or capability has `text` in it, at most `limit`. May take
    /// milliseconds: called where it may block.
    fn find_nodes(&self, text: &str, limit: usize) -> Vec<NodeView>;

    /// Counters in the Prometheus text format.
    fn metrics(&self) -> String;
}

impl Source for Driver {
    fn now(&self) -> Now {
        self.clock().now()
    }

    fn overview(&self) -> Overview {
        Self::overview(self)
    }

    fn find_nodes(&self, text: &str, limit: usize) -> Vec<NodeView> {
        Self::find_nodes(self, text, limit)
    }

    fn metrics(&self) -> String {
        self.metrics_text()
    }
}
