//! Parts that the benches measure by themselves. Not for use.

use crate::domain::{Domain, Participant};
use crate::ring::{Consumer, Producer, ring};

/// A participant of a domain of its own, and the domain's only one.
pub struct Quiet {
    domain: Domain,
    participant: Participant,
}

impl Default for Quiet {
    fn default() -> Self {
        let domain = Domain::new(1);
        let mut participant = domain.participant(0);
        participant.go_online();
        Self { domain, participant }
    }
}

impl Quiet {
    /// One quiet point.
    #[inline]
    pub fn point(&mut self) {
        self.participant.quiet();
    }

    /// One step of the epoch.
    pub fn advance(&self) -> bool {
        self.domain.advance()
    }
}

/// A bare ring between two CPUs.
#[must_use]
pub fn bare_ring<T>(capacity: usize) -> (RingWriter<T>, RingReader<T>) {
    let (producer, consumer) = ring(capacity);
    (RingWriter(producer), RingReader(consumer))
}

/// Its one end.
pub struct RingWriter<T>(Producer<T>);

impl<T> RingWriter<T> {
    /// True if it fitted.
    #[inline]
    pub fn push(&mut self, value: T) -> bool {
        self.0.push(value).is_ok()
    }
}

/// Its other end.
pub struct RingReader<T>(Consumer<T>);

impl<T> RingReader<T> {
    /// What has come.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Gives the room back.
    #[inline]
    pub fn tell(&mut self) {
        self.0.tell();
    }
}
