//! Posted = completed + in flight (invariant 2): what programs posted and polled is what their devices hold, for every queue of every machine.
//!
//! The fabric counts posts and polls apart from the devices, and compares. It also knows shared receives that are posted twice, or with the same memory,
//! and completions that nothing was posted for.

use transport_rdma::soft::in_process::Discrepancy;

use super::{Checker, View};

/// Steps between two looks.
const LOOK_INTERVAL: u32 = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Accounts {
    steps: u32,
}

impl Accounts {
    fn look(view: &View<'_>) -> Result<(), String> {
        let words: Vec<_> =
            view.fabric.audit().iter().filter(|found| is_wrong(found)).map(ToString::to_string).collect();
        if words.is_empty() { Ok(()) } else { Err(words.join("\n")) }
    }
}

/// Where completions of a queue were dropped for good, what the program could know of it and what its device holds may differ by requests whose end nobody was
/// told of: such queues are left out.
fn is_wrong(found: &Discrepancy) -> bool {
    match found {
        Discrepancy::Count { lost, .. } => *lost == 0,
        Discrepancy::SharedMemory { .. } | Discrepancy::SharedId { .. } | Discrepancy::Stray { .. } => true,
    }
}

impl Checker for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn stepped(&mut self, view: &View<'_>) -> Result<(), String> {
        self.steps += 1;
        if self.steps.is_multiple_of(LOOK_INTERVAL) { Self::look(view) } else { Ok(()) }
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        Self::look(view)
    }

    fn at_end(&mut self, view: &View<'_>) -> Result<(), String> {
        Self::look(view)
    }
}

#[cfg(test)]
mod tests {
    use reactor::Choices;
    use transport_rdma::soft::in_process::Fabric;

    use super::*;

    #[test]
    fn accounts_that_do_not_agree_are_wrong_unless_completions_were_dropped() {
        let machine = Fabric::with_choices(Choices::listed(Vec::new()), Default::default()).machine().id();
        let count = |lost| Discrepancy::Count {
            machine,
            number: Some(1),
            queue: "sends",
            posted: 6,
            completed: 3,
            lost,
            held: 2,
        };
        assert!(is_wrong(&count(0)) && !is_wrong(&count(1)));
        assert!(is_wrong(&Discrepancy::SharedId { machine, id: 1 }));
    }
}
