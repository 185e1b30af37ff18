//! At the end everything is back where it was: connections, queue pairs, ids, references, limbo, and what the provider has.

use super::{Checker, View};

/// See the module.
pub(super) struct Baseline;

impl Checker for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        let target = view.target;
        let ended = target.count("rdma_returned") + target.count("rdma_cut");
        let begun = target.count("rdma_disconnects");
        if ended != begun {
            return Err(format!("{begun} teardowns began, {ended} became quiet"));
        }
        Ok(())
    }

    fn at_end(&mut self, view: &View<'_>) -> Result<(), String> {
        let is_left = |row: &&transport_rdma::target::CounterRow| row.0.ends_with("_live") && row.2 > 0;
        let rows = view.target.rows();
        let left: Vec<_> = rows.iter().filter(is_left).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left over after the target's end: {left:?}")) }
    }
}
