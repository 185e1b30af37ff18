//! Posted = completed + in flight (invariant 2): what programs posted and polled is what their devices hold, for every queue of every machine.
//!
//! The fabric counts posts and polls apart from the devices, and compares. It also knows shared receives that are posted twice, or with the same memory,
//! and completions that nothing was posted for.

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
        let found = view.fabric.audit();
        if found.is_empty() {
            return Ok(());
        }
        let words: Vec<_> = found.iter().map(ToString::to_string).collect();
        Err(words.join("\n"))
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
