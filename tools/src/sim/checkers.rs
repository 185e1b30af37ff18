//! What must hold in every run, whatever is chosen. Each checker has its own file, and says which of the invariants it is.
//!
//! | checker | what must hold |
//! |---|---|
//! | [`lives`] | each queue pair ends once, step by step, on its own CPU, and nothing reaches it after its end |
//! | [`records`] | the control plane's record of a connection goes forward only, and goes once |
//! | [`events`] | each event that is fetched is acknowledged, once |
//! | [`outlives`] | a controller outlives its queue pairs, a connection its queue pair |
//! | [`free_memory`] | no device may touch a buffer that is free |
//! | [`accounts`] | posted = completed + in flight, at every queue |
//! | [`conservation`] | nothing that is counted is lost or made |
//! | [`baseline`] | at the end everything is back where it was |
//!
//! Checkers read what the target's CPUs note about the steps of lives ([`Noted`]), and look at counters; they change nothing.

mod accounts;
mod baseline;
mod conservation;
mod events;
mod free_memory;
mod lives;
mod outlives;
mod records;

use transport_rdma::soft::in_process::Fabric;

use super::failure::Failure;
use super::world::target::{Noted, SimulatedTarget};

/// What a checker may look at between two steps.
#[derive(Clone, Copy)]
pub struct View<'w> {
    /// The target.
    pub target: &'w SimulatedTarget,
    /// The network and its devices.
    pub fabric: &'w Fabric,
    /// Whether shared receives may be gone for good: with a completion queue that broke, or a device that was removed.
    pub loses_receives: bool,
    /// Virtual time.
    pub now_ns: u64,
}

/// Something that must hold. What it returns as an error is what is wrong.
pub trait Checker {
    /// A word for reports.
    fn name(&self) -> &'static str;

    /// A CPU of the target has noted a step of a life.
    ///
    /// # Errors
    /// What is wrong with it.
    fn noted(&mut self, noted: &Noted) -> Result<(), String> {
        let _ = noted;
        Ok(())
    }

    /// A step was made.
    ///
    /// # Errors
    /// What is wrong now.
    fn stepped(&mut self, view: &View<'_>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }

    /// Nothing of any connection is left, and every deadline has passed.
    ///
    /// # Errors
    /// What is left.
    fn at_rest(&mut self, view: &View<'_>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }

    /// The target has ended.
    ///
    /// # Errors
    /// What is left.
    fn at_end(&mut self, view: &View<'_>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }
}

/// All checkers of one run.
pub struct Checkers(Vec<Box<dyn Checker>>);

impl Checkers {
    /// One of each.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![
            Box::new(lives::Lives::default()),
            Box::new(records::Records::default()),
            Box::new(events::Events::default()),
            Box::new(outlives::Outlives::default()),
            Box::new(free_memory::FreeMemory::default()),
            Box::new(accounts::Accounts::default()),
            Box::new(conservation::Conservation::default()),
            Box::new(baseline::Baseline),
        ])
    }

    /// See [`Checker::noted`].
    ///
    /// # Errors
    /// The first that finds something wrong.
    pub fn noted(&mut self, noted: &Noted) -> Result<(), Failure> {
        self.each(|checker| checker.noted(noted))
    }

    /// The target was killed: what lived at it is gone without a step of its own, and another may be started in its place, which begins anew.
    pub fn target_killed(&mut self) {
        *self = Self::all();
    }

    /// See [`Checker::stepped`].
    ///
    /// # Errors
    /// The first that finds something wrong.
    pub fn stepped(&mut self, view: &View<'_>) -> Result<(), Failure> {
        self.each(|checker| checker.stepped(view))
    }

    /// See [`Checker::at_rest`].
    ///
    /// # Errors
    /// The first that finds something wrong.
    pub fn at_rest(&mut self, view: &View<'_>) -> Result<(), Failure> {
        self.each(|checker| checker.at_rest(view))
    }

    /// See [`Checker::at_end`].
    ///
    /// # Errors
    /// The first that finds something wrong.
    pub fn at_end(&mut self, view: &View<'_>) -> Result<(), Failure> {
        self.each(|checker| checker.at_end(view))
    }

    fn each(&mut self, mut ask: impl FnMut(&mut dyn Checker) -> Result<(), String>) -> Result<(), Failure> {
        for checker in &mut self.0 {
            let found_by = checker.name();
            ask(checker.as_mut()).map_err(|what| Failure { found_by, what })?;
        }
        Ok(())
    }
}
