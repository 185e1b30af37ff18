//! Nothing that is counted is lost or made (invariant 2): the receives of shared queues, and buffers.
//!
//! That each queue pair's work requests are posted = completed + in flight is its permits' own business, checked by them at every step in this build.

use super::{Checker, View};

/// Steps between two looks.
const LOOK_INTERVAL: u32 = 512;

/// See the module.
#[derive(Default)]
pub(super) struct Conservation {
    steps: u32,
}

impl Checker for Conservation {
    fn name(&self) -> &'static str {
        "conservation"
    }

    fn stepped(&mut self, view: &View<'_>) -> Result<(), String> {
        self.steps += 1;
        if !self.steps.is_multiple_of(LOOK_INTERVAL) {
            return Ok(());
        }
        let (posted, all) = (view.target.count("rdma_shared_receives_posted"), view.target.shared_receive_count());
        if posted > all { Err(format!("{posted} shared receives are posted, and there are {all}")) } else { Ok(()) }
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        let (posted, all) = (view.target.count("rdma_shared_receives_posted"), view.target.shared_receive_count());
        if posted == all || view.loses_receives {
            Ok(())
        } else {
            Err(format!("{posted} of {all} shared receives are posted at rest"))
        }
    }
}
