//! One CPU's gate: which blocks its commands are on, and which commands are held back.

use std::collections::VecDeque;

use super::{LockName, Span};
use crate::namespace::DeviceIndex;

/// The right to touch some blocks: from the moment a command is let in until nothing of it can reach them any more.
#[derive(Debug)]
#[must_use = "a claim goes back to its gate, or locks wait for ever"]
pub(crate) struct Claim(u32);

/// See the module. `N` names commands.
#[derive(Debug)]
pub(crate) struct Gate<N> {
    /// By the number of a claim.
    claims: Vec<Option<(DeviceIndex, Span)>>,
    free: Vec<u32>,
    /// In the order in which they came.
    fences: Vec<Fence>,
    /// In the order in which they came.
    held: VecDeque<Held<N>>,
    /// Numbers fences and held commands in one order.
    next_number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Fence {
    number: u64,
    lock: LockName,
    device: DeviceIndex,
    span: Span,
    is_answered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held<N> {
    number: u64,
    name: N,
    device: DeviceIndex,
    span: Span,
}

impl<N> Default for Gate<N> {
    fn default() -> Self {
        Self { claims: Vec::new(), free: Vec::new(), fences: Vec::new(), held: VecDeque::new(), next_number: 0 }
    }
}

impl<N: Copy> Gate<N> {
    /// Makes sure that `request_count` commands in all find room without an allocation.
    pub(crate) fn reserve(&mut self, request_count: usize) {
        self.claims.reserve(request_count.saturating_sub(self.claims.len()));
        self.free.reserve(request_count.saturating_sub(self.free.len()));
        self.held.reserve(request_count.saturating_sub(self.held.len()));
    }

    /// Whether a command that comes now is to be held back.
    pub(crate) fn is_fenced(&self, device: DeviceIndex, span: Span) -> bool {
        self.fences.iter().any(|fence| fence.device == device && fence.span.overlaps(span))
    }

    /// A command is let in.
    pub(crate) fn claim(&mut self, device: DeviceIndex, span: Span) -> Claim {
        let claim = Some((device, span));
        if let Some(number) = self.free.pop() {
            self.claims[number as usize] = claim;
            return Claim(number);
        }
        self.claims.push(claim);
        Claim(u32::try_from(self.claims.len() - 1).unwrap_or(u32::MAX))
    }

    /// Whether the claim is on these blocks.
    pub(crate) fn is_on(&self, claim: &Claim, device: DeviceIndex, span: Span) -> bool {
        self.claims.get(claim.0 as usize).copied().flatten() == Some((device, span))
    }

    /// A command can reach its blocks no longer.
    pub(crate) fn give(&mut self, claim: Claim) {
        let place = self.claims.get_mut(claim.0 as usize).and_then(Option::take);
        assert!(place.is_some(), "a claim is given back once");
        self.free.push(claim.0);
    }

    /// A command is held back: it is behind the fences that are here, and before those that will come.
    pub(crate) fn hold(&mut self, name: N, device: DeviceIndex, span: Span) {
        let number = self.number();
        self.held.push_back(Held { number, name, device, span });
    }

    /// Commands that match are held no longer, and will not be let in.
    pub(crate) fn forget(&mut self, matches: impl Fn(N) -> bool) {
        self.held.retain(|held| !matches(held.name));
    }

    /// A lock is about to be granted.
    pub(crate) fn fence(&mut self, lock: LockName, device: DeviceIndex, span: Span) {
        let number = self.number();
        self.fences.push(Fence { number, lock, device, span, is_answered: false });
    }

    /// The lock is gone: `let_in` gets the commands that nothing holds back any more, in order, each with its claim.
    pub(crate) fn lift(&mut self, lock: LockName, mut let_in: impl FnMut(N, Claim)) {
        self.fences.retain(|fence| fence.lock != lock);
        let mut index = 0;
        while let Some(held) = self.held.get(index).copied() {
            let is_behind = |fence: &Fence| {
                fence.number < held.number && fence.device == held.device && fence.span.overlaps(held.span)
            };
            if self.fences.iter().any(is_behind) {
                index += 1;
                continue;
            }
            self.held.remove(index);
            let claim = self.claim(held.device, held.span);
            let_in(held.name, claim);
        }
    }

    /// The fences that are to be answered now: nothing that was here before them is on their blocks or waits to be.
    pub(crate) fn answer(&mut self, mut answer: impl FnMut(LockName, DeviceIndex)) {
        let (claims, held) = (&self.claims, &self.held);
        for fence in self.fences.iter_mut().filter(|fence| !fence.is_answered) {
            if is_clear(claims, held, fence) {
                fence.is_answered = true;
                answer(fence.lock, fence.device);
            }
        }
    }

    /// Whether there is a fence to be answered now.
    pub(crate) fn has_answer(&self) -> bool {
        self.fences.iter().any(|fence| !fence.is_answered && is_clear(&self.claims, &self.held, fence))
    }

    /// Fences that are up.
    pub(crate) fn fence_count(&self) -> usize {
        self.fences.len()
    }

    /// Commands that are held back.
    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

fn is_clear<N>(claims: &[Option<(DeviceIndex, Span)>], held: &VecDeque<Held<N>>, fence: &Fence) -> bool {
    let is_on = |device: DeviceIndex, span: Span| device == fence.device && span.overlaps(fence.span);
    !claims.iter().flatten().any(|(device, span)| is_on(*device, *span))
        && !held.iter().any(|held| held.number < fence.number && is_on(held.device, held.span))
}
