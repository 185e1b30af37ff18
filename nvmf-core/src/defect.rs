//! Deliberate defects, each of which makes a published one again: so that it is seen that the simulator finds them.
//!
//! A defect is one wrong way at the line that rules the published one out, taken if [`is`] says so. At most one is there at a time, chosen for the whole
//! process by `inject`, which exists with the cargo feature `defects` alone; without it [`is`] is constantly false and the wrong ways are compiled out. The
//! feature does not build without debug assertions, so no release binary can have it.
//!
//! `nvmf-sim defects` tries them all; `docs/SIMULATOR.md` tells how. What the types do not let anybody write (a connection that is destroyed twice, a
//! proof of nothing) is forged where it is needed, in code that the feature alone compiles, or leaked: what is freed and never heard of again.

#[cfg(all(feature = "defects", not(debug_assertions)))]
compile_error!(
    "the feature `defects` puts bugs in on purpose: it is for debug builds that simulate, and never for one that serves"
);

#[cfg(feature = "defects")]
use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! defects {
    ($($variant:ident = $name:literal, [$($entry:literal),+], $what:literal;)*) => {
        /// See the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Defect {
            $(#[doc = $what] $variant,)*
        }

        impl Defect {
            /// All of them, by family.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// For a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The entries of the published list (`docs/LIFECYCLE.md`) that it makes again.
            #[must_use]
            pub fn entries(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($entry),+],)* }
            }

            /// What goes wrong.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

defects! {
    LastWqeMessageFrees = "last-wqe-message-frees", ["A1"],
        "The message of LAST_WQE_REACHED ends the drain itself where it was the last thing missing, and then writes to what it ended.";
    AcknowledgedAfterTheDestroy = "acknowledged-after-the-destroy", ["B1", "B5"],
        "DISCONNECTED is acknowledged when its handling is over, the destroy included: which waits for the acknowledgement.";
    DisconnectedDestroysAgain = "disconnected-destroys-again", ["B4"],
        "A DISCONNECTED after the drain destroys the connection at once, while its CPU has the queue pair still.";
    EachTriggerTearsDown = "each-trigger-tears-down", ["B6"],
        "A second reason to end a queue pair begins a second teardown.";
    FailureFreesInTheBatch = "failure-frees-in-the-batch", ["C1"],
        "A failed completion frees its queue pair's body inside the batch, whose other completions name it.";
    MemoryFreeAtTheCut = "memory-free-at-the-cut", ["C2", "R17"],
        "Memory of requests is free when the queue pair is cut off, before the destroy call came back.";
    DrainIgnoresOperations = "drain-ignores-operations", ["C3"],
        "A queue pair is drained when the device has given everything back, whatever block operations are under way.";
    FailedSetUpSkipsTheDrain = "failed-set-up-skips-the-drain", ["C5"],
        "A queue pair whose set-up fails half-way is destroyed at once, and its receives are free, though some are posted.";
    NotPolledAfterTheDestroy = "not-polled-after-the-destroy", ["C6", "R11"],
        "A queue pair's number is forgotten after the destroy call, with completions of it still in the completion queue.";
    FailedCreateEndsTwice = "failed-create-ends-twice", ["D1", "D12"],
        "Two owners of one error: a connection whose queue pair could not be made is rejected, and destroyed too.";
    NobodyAbandons = "nobody-abandons", ["D9"],
        "A peer that leaves while its queue pair is being made leaves a record that waits for a drain, and no CPU has anything to drain.";
    StopAtOnce = "stop-at-once", ["E1", "H7"],
        "A shutdown stops the CPUs at once, and with them the polling that the last queue pairs wait for.";
    NoDeadline = "no-deadline", ["E2", "E3"],
        "A drain waits for what the device owes it, however long.";
    DisconnectedIsThoughtToFlush = "disconnected-is-thought-to-flush", ["E7"],
        "Nobody moves the own queue pair to the error state: the peer's DISCONNECTED is thought to have done it.";
    WaitingSendsAreForgotten = "waiting-sends-are-forgotten", ["E4"],
        "Responses that wait for room are looked at when a send completes, and not when a READ gave the room back.";
    WaitingCapsulesKeepReceives = "waiting-capsules-keep-receives", ["F1"],
        "Capsules that nobody has taken when their queue pair ends keep their shared receives.";
    DeadBranchKeepsReceive = "dead-branch-keeps-receive", ["F2"],
        "A shared receive that completes for a queue pair that drains is not posted again.";
    PushTakesNoRoom = "push-takes-no-room", ["F6"],
        "The WRITEs of a read are not counted: the send queue overflows.";
    RoomIsNotGivenBack = "room-is-not-given-back", ["F10"],
        "What a connection reserved of its CPU's completion queue is not given back when it is gone.";
    RemovalWaitsForTheDevice = "removal-waits-for-the-device", ["G1"],
        "After the removal of the device queue pairs wait for flushes that a removed device does not send.";
    LeaseGoesHomeEarly = "lease-goes-home-early", ["H2", "H14"],
        "A queue counts as closed when it begins to drain: its controller may go while it is there.";
    BusyQueueIdIsRefused = "busy-queue-id-is-refused", ["H8"],
        "A queue id whose old queue still drains is refused as one that may never be had.";
    ControllerGoesFirst = "controller-goes-first", ["H4"],
        "A controller goes with its admin queue, whatever queues it has on other CPUs.";
    CreateFailureLeaks = "create-failure-leaks", ["R3"],
        "A connection that never got a queue pair has no owner any more: nobody rejects or destroys it.";
    ResumeForgetsTheParked = "resume-forgets-the-parked", ["S1"],
        "Commands that were held back by a pause are not begun again by the resumption.";
    PauseWaitsForNothing = "pause-waits-for-nothing", ["S2"],
        "A pause is answered at once, whatever the device has.";
    HiddenNamespaceIsServed = "hidden-namespace-is-served", ["S3"],
        "A namespace is not shown to a host, and its commands are carried out all the same.";
    NobodyHearsOfNamespaces = "nobody-hears-of-namespaces", ["S4"],
        "Namespaces change, the log says it, and no event does.";
    AnaStateIsNotAsked = "ana-state-is-not-asked", ["S5"],
        "Commands are let in whatever the ANA state of their path is.";
    EvictionForgetsTheDevice = "eviction-forgets-the-device", ["S6"],
        "A Preempt and Abort is answered while a device has commands of the preempted host.";
    AnsweredBeforeItIsWritten = "answered-before-it-is-written", ["S7"],
        "A reservation that is to outlive the target is answered before it is on stable storage.";
    PairTakesNoLock = "pair-takes-no-lock", ["S8"],
        "A fused Compare and Write goes on as if it had its lock, and has asked nobody.";
    DroppedCommandKeepsItsClaim = "dropped-command-keeps-its-claim", ["S9"],
        "Commands that were dropped with their queue never give their blocks back.";
    AbortIsOnlySaid = "abort-is-only-said", ["S10"],
        "An Abort is answered as done, and the command that waits goes on waiting.";
    TrafficIsNoSignOfLife = "traffic-is-no-sign-of-life", ["S11"],
        "Only Keep Alive keeps a controller alive.";
    HostsHaveNoLimit = "hosts-have-no-limit", ["S12"],
        "What a host has in flight is counted, and nothing comes of it.";
    FirstCpuTakesAll = "first-cpu-takes-all", ["S13"],
        "Queue pairs go to the first CPU that has room.";
    ResetWaitsForNothing = "reset-waits-for-nothing", ["S14"],
        "A reset of a device is answered at once, whatever the device has.";
    ResetForgetsTheHeld = "reset-forgets-the-held", ["S15"],
        "Commands that came during a reset of their device are not begun when it is over.";
}

impl Defect {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|defect| defect.name() == name)
    }
}

/// What is injected: 0 for nothing, or one more than its place in [`Defect::ALL`].
#[cfg(feature = "defects")]
static INJECTED: AtomicU8 = AtomicU8::new(0);

/// From now on this one is there, in the whole process, and no other. To be called while nothing runs.
#[cfg(feature = "defects")]
pub fn inject(defect: Option<Defect>) {
    INJECTED.store(defect.map_or(0, |defect| defect as u8 + 1), Ordering::Relaxed);
}

/// Whether the code has this one.
#[cfg(feature = "defects")]
#[inline]
#[must_use]
pub fn is(defect: Defect) -> bool {
    INJECTED.load(Ordering::Relaxed) == defect as u8 + 1
}

/// Whether the code has this one: it has none in this build.
#[cfg(not(feature = "defects"))]
#[inline]
#[must_use]
pub const fn is(_defect: Defect) -> bool {
    false
}

/// The one that is there.
#[must_use]
pub fn injected() -> Option<Defect> {
    Defect::ALL.iter().copied().find(|defect| is(*defect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_lead_back() {
        for defect in Defect::ALL {
            assert_eq!(Defect::named(defect.name()), Some(*defect));
            assert!(defect.name().chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
            assert!(defect.what().ends_with('.'));
        }
    }

    #[test]
    fn there_is_none_unless_it_is_injected() {
        assert_eq!(injected(), None);
    }
}
