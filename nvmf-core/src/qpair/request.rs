//! A request slot: what a command holds, what it is doing, and who may touch its data meanwhile.
//!
//! The state is a flat table, kept whole in the test below. Steps 3 to 9 of the walk move it.

use reactor::{Buffer, Segment};

use crate::command::{Command, FabricsCommand};
use crate::devices::DeviceLease;
use crate::lock::{Claim, LockName};
use crate::namespace::DeviceIndex;
use crate::plan::Plan;
use crate::poll_group::{Aborter, Share};
use crate::status::Status;
use crate::transport::{Receive, RemoteBuffer, Slot};
use crate::wire::{CompletionEntry, DataPointer};

/// What of a command the error log tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// NSID as sent.
    pub(crate) nsid: u32,
    /// SLBA as sent.
    pub(crate) lba: u64,
    /// Parameter Error Location.
    pub(crate) location: u16,
}

/// One slot. Everything that it holds is given back in [`crate::PollGroup`]'s one place for that.
pub(crate) struct Request {
    /// What it is doing.
    pub(crate) state: RequestState,
    /// Counts the commands that this slot has had, so that one can be told from the next.
    pub(crate) number: u32,
    /// The host's name for it.
    pub(crate) command_id: u16,
    /// What the host wants, or the answer to what was no command.
    pub(crate) command: Result<Command, Status>,
    /// The receive permit, until what came in the capsule besides the command is consumed.
    pub(crate) receive: Option<Receive>,
    /// What came after the 64 bytes: valid while the permit is held.
    pub(crate) capsule_data: Option<Segment>,
    /// A data buffer.
    pub(crate) buffer: Option<Buffer>,
    /// A device that must not go away.
    pub(crate) lease: Option<DeviceLease>,
    /// Its part of what its host may have in flight.
    pub(crate) share: Option<Share>,
    /// The blocks that it is let in to, where it is on any.
    pub(crate) claim: Option<Claim>,
    /// Whether it is one of a pair.
    pub(crate) fusion: Fusion,
    /// Data that goes to the host before the response, and where to.
    pub(crate) push: Option<(Segment, DataPointer)>,
    /// The key that the host wants invalidated with the response.
    pub(crate) invalidate: Option<u32>,
    /// What its device is to do, and which that is.
    pub(crate) work: Option<(DeviceIndex, Plan)>,
    /// Its data is on its way, and this Abort waits for it.
    pub(crate) aborter: Option<Aborter>,
    /// What the error log says of it, should it fail.
    pub(crate) told: Told,
    /// How it ended.
    pub(crate) status: Status,
    /// What the response carries besides.
    pub(crate) result: u64,
}

impl Request {
    /// A free slot.
    pub(crate) fn new() -> Self {
        Self {
            state: RequestState::Free,
            number: 0,
            command_id: 0,
            command: Err(Status::SUCCESS),
            receive: None,
            capsule_data: None,
            buffer: None,
            lease: None,
            share: None,
            claim: None,
            fusion: Fusion::Alone,
            push: None,
            invalidate: None,
            work: None,
            aborter: None,
            told: Told::default(),
            status: Status::SUCCESS,
            result: 0,
        }
    }

    /// A command moves in.
    pub(crate) fn begin(
        &mut self,
        command_id: u16,
        command: Result<Command, Status>,
        receive: Receive,
        capsule_data: Option<Segment>,
    ) {
        debug_assert!(
            self.aborter.is_none() && self.buffer.is_none() && self.lease.is_none() && self.receive.is_none()
        );
        self.number = self.number.wrapping_add(1);
        debug_assert!(self.claim.is_none() && self.fusion == Fusion::Alone, "a pair ends with its commands");
        self.command_id = command_id;
        self.command = command;
        self.receive = Some(receive);
        self.capsule_data = capsule_data;
        self.push = None;
        self.invalidate = None;
        self.work = None;
        self.status = Status::SUCCESS;
        self.result = 0;
    }

    /// The first `len` bytes of its buffer.
    pub(crate) fn data_segment(&self, len: u32) -> Option<Segment> {
        let len = usize::try_from(len).ok()?;
        self.buffer.as_ref().map(|buffer| buffer.segment().part(0, len))
    }

    /// In-capsule data: inside what came after the 64 bytes, both numbers widened [NVMe over Fabrics 1.1, 2.3].
    pub(crate) fn in_capsule(&self, offset: u64, len: u32) -> Result<Segment, Status> {
        let (Some(data), Ok(offset), Ok(len)) = (self.capsule_data, usize::try_from(offset), usize::try_from(len))
        else {
            return Err(Status::SGL_OFFSET_INVALID);
        };
        if offset > data.len() || len > data.len() - offset {
            return Err(Status::SGL_OFFSET_INVALID);
        }
        Ok(data.part(offset, len))
    }

    /// Which part of `data` comes from or goes to which buffer of the host, `skip` bytes further on. Ends with the shorter of the two.
    pub(crate) fn transfers(
        &self,
        pointer: DataPointer,
        mut skip: u32,
        data: Segment,
    ) -> impl Iterator<Item = (Segment, RemoteBuffer)> + use<> {
        let (one, list) = match pointer {
            DataPointer::Keyed { buffer, .. } => (Some(buffer), None),
            DataPointer::Listed(list) => (None, self.capsule_data.map(|capsule| list.buffers(capsule))),
            DataPointer::InCapsule { .. } | DataPointer::None => (None, None),
        };
        let mut rest = data;
        one.into_iter().chain(list.into_iter().flatten()).filter_map(move |mut buffer| {
            let skipped = skip.min(buffer.len);
            skip -= skipped;
            buffer.address = buffer.address.wrapping_add(skipped.into());
            buffer.len -= skipped;
            let len = rest.len().min(buffer.len as usize);
            let part = rest.part(0, len);
            rest = rest.part(len, rest.len() - len);
            buffer.len = u32::try_from(len).ok()?;
            (len > 0).then_some((part, buffer))
        })
    }

    /// Whether it brings a message of an authentication.
    pub(crate) fn is_authentication_send(&self) -> bool {
        matches!(self.command, Ok(Command::Fabrics(FabricsCommand::AuthenticationSend(_))))
    }

    /// Its end, as the host sees it.
    pub(crate) fn response(&self, sq_head: u16) -> [u8; 16] {
        CompletionEntry::new(self.command_id, self.status).with_result(self.result).with_sq_head(sq_head).to_bytes()
    }
}

/// Whether a command is one of a pair, and which of its commands has the pair's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fusion {
    /// It is not.
    Alone,
    /// It goes first.
    First {
        /// The other, while that is there.
        second: Option<Slot>,
        /// What it has of the lock.
        hold: Hold,
    },
    /// It goes when the first has succeeded.
    Second {
        /// The other, until that has ended.
        first: Option<Slot>,
        /// What it has of the lock.
        hold: Hold,
    },
}

/// What a command has of its pair's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing.
    Nothing,
    /// It was asked for.
    Asked,
    /// The lock.
    Has {
        /// Which.
        lock: LockName,
        /// Of which device.
        device: DeviceIndex,
    },
}

impl Fusion {
    /// Whether its blocks are its own.
    pub(crate) const fn has_lock(self) -> bool {
        matches!(self, Self::First { hold: Hold::Has { .. }, .. } | Self::Second { hold: Hold::Has { .. }, .. })
    }
}

/// Where a request is. Each state says who may touch the request's data.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestState {
    /// No command. No data.
    Free,
    /// Fetched; its turn of the walk has not come, or its qpair waits for the answer to Connect. The host owns the data.
    Admitted,
    /// Waits in a pool's queue. The host owns the data.
    WaitingBuffer,
    /// The walk holds it back until what it is parked for has ended. The host owns the data.
    Parked,
    /// Another CPU was asked for the lock of its pair. The host owns the data.
    WaitingLock,
    /// The transport writes the buffer.
    Pulling,
    /// The device reads or writes the data.
    Operating,
    /// Connect: the control plane or the controller's CPU has been asked. No data.
    WaitingController,
    /// An authentication command: somebody computes. What that takes went with the question; here is no data.
    Authenticating,
    /// A reservation command: the control plane has been asked. The walk owns the data.
    Petitioning,
    /// Asynchronous Event Request: held until there is an event. No data.
    WaitingEvent,
    /// Its end is known; the response is posted before this turn ends. The walk owns the data.
    Completed,
    /// Data and response are posted. The transport reads the data.
    Responding,
    /// Its qpair drains; the transport may still touch the data.
    Dropped,
    /// Its qpair drains; the device still touches the data.
    DroppedOperating,
    /// Its qpair drains; another CPU's answer is still on its way.
    DroppedWaiting,
}

/// What can happen to a request.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEvent {
    /// A capsule came.
    Arrive,
    /// The pool is empty.
    AwaitBuffer,
    /// The walk holds it back.
    Park,
    /// What it was parked for has ended: it is begun again.
    Unpark,
    /// The lock of its pair was asked for.
    AwaitLock,
    /// A transfer from the host was started.
    Pull,
    /// A block operation was queued.
    Operate,
    /// A message was sent for it.
    AwaitController,
    /// A question was sent for it, with all that it takes.
    AwaitProof,
    /// The control plane has been asked about reservations.
    Petition,
    /// It is held for an event.
    AwaitEvent,
    /// Its end is known (for a dropped request: the device or the answer has come back).
    Complete,
    /// Data and response were posted.
    Respond,
    /// The transport is done with it.
    Finish,
    /// Its qpair drains.
    Drain,
    /// Its drained qpair gives everything back.
    Release,
}

impl RequestState {
    /// The state after `event`. `None`: this cannot happen here, and the caller says what it means (our bug, or a late arrival of a qpair
    /// that drains).
    pub(crate) const fn next(self, event: RequestEvent) -> Option<Self> {
        use RequestEvent as E;
        use RequestState as S;
        match (self, event) {
            (S::Free, E::Arrive) => Some(S::Admitted),

            (S::Admitted | S::Authenticating, E::AwaitBuffer) => Some(S::WaitingBuffer),
            (S::Admitted | S::WaitingBuffer, E::Park) => Some(S::Parked),
            (S::Admitted, E::AwaitLock) => Some(S::WaitingLock),
            (S::Parked | S::WaitingLock, E::Unpark) => Some(S::Admitted),
            // A command that is worked off in pieces has several of these.
            (S::Admitted | S::WaitingBuffer | S::Operating, E::Pull) => Some(S::Pulling),
            (S::Admitted | S::WaitingBuffer | S::Pulling | S::Operating, E::Operate) => Some(S::Operating),
            (S::Admitted | S::Pulling, E::AwaitController) => Some(S::WaitingController),
            (S::Admitted | S::WaitingBuffer | S::Pulling, E::AwaitProof) => Some(S::Authenticating),
            (S::Admitted | S::WaitingBuffer | S::Pulling, E::Petition) => Some(S::Petitioning),
            (S::Admitted, E::AwaitEvent) => Some(S::WaitingEvent),

            (
                S::Admitted
                | S::WaitingBuffer
                | S::Parked
                | S::Pulling
                | S::Operating
                | S::WaitingController
                | S::Authenticating
                | S::Petitioning
                | S::WaitingEvent,
                E::Complete,
            ) => Some(S::Completed),
            (S::Completed, E::Respond) => Some(S::Responding),
            (S::Responding, E::Finish) => Some(S::Free),

            // A question is not waited for: its answer finds nobody. Nor is a lock, which goes back when it comes.
            // Nobody waits for a ruling, which may depend on other hosts' commands: it finds the request gone.
            (
                S::Admitted
                | S::WaitingBuffer
                | S::Parked
                | S::WaitingLock
                | S::Pulling
                | S::Authenticating
                | S::Petitioning
                | S::WaitingEvent
                | S::Completed,
                E::Drain,
            ) => Some(S::Dropped),
            (S::Operating, E::Drain) => Some(S::DroppedOperating),
            (S::WaitingController, E::Drain) => Some(S::DroppedWaiting),
            // The transport reports or flushes it; what it does not report ends with the release.
            (S::Responding, E::Drain) => Some(S::Responding),
            (S::DroppedOperating | S::DroppedWaiting, E::Complete) => Some(S::Dropped),
            (S::Dropped | S::Responding, E::Release) => Some(S::Free),

            _ => None,
        }
    }

    /// Whether an Abort may end it: nobody but the walk works on it, or a transfer that comes back by itself.
    pub(crate) const fn is_abortable(self) -> bool {
        matches!(self, Self::WaitingBuffer | Self::Parked | Self::Pulling | Self::WaitingEvent)
    }

    /// Whether it is on its way to a device or with it.
    pub(crate) const fn is_under_way(self) -> bool {
        matches!(self, Self::Pulling | Self::Operating | Self::DroppedOperating)
    }

    /// Whether something other than the transport must still come back before a draining qpair may give the request up.
    pub(crate) const fn is_awaited(self) -> bool {
        matches!(self, Self::Operating | Self::WaitingController | Self::DroppedOperating | Self::DroppedWaiting)
    }
}

#[cfg(test)]
mod tests {
    use super::{RequestEvent as E, RequestState as S};

    const STATES: [S; 16] = [
        S::Free,
        S::Admitted,
        S::WaitingBuffer,
        S::Parked,
        S::WaitingLock,
        S::Pulling,
        S::Operating,
        S::WaitingController,
        S::Authenticating,
        S::Petitioning,
        S::WaitingEvent,
        S::Completed,
        S::Responding,
        S::Dropped,
        S::DroppedOperating,
        S::DroppedWaiting,
    ];
    const EVENTS: [E; 16] = [
        E::Arrive,
        E::AwaitBuffer,
        E::Park,
        E::Unpark,
        E::AwaitLock,
        E::Pull,
        E::Operate,
        E::AwaitController,
        E::AwaitProof,
        E::Petition,
        E::AwaitEvent,
        E::Complete,
        E::Respond,
        E::Finish,
        E::Drain,
        E::Release,
    ];

    /// Every edge. A new one shows here, and has to be argued.
    const TABLE: &str = "\
Free Arrive Admitted
Admitted AwaitBuffer WaitingBuffer
Admitted Park Parked
Admitted AwaitLock WaitingLock
Admitted Pull Pulling
Admitted Operate Operating
Admitted AwaitController WaitingController
Admitted AwaitProof Authenticating
Admitted Petition Petitioning
Admitted AwaitEvent WaitingEvent
Admitted Complete Completed
Admitted Drain Dropped
WaitingBuffer Park Parked
WaitingBuffer Pull Pulling
WaitingBuffer Operate Operating
WaitingBuffer AwaitProof Authenticating
WaitingBuffer Petition Petitioning
WaitingBuffer Complete Completed
WaitingBuffer Drain Dropped
Parked Unpark Admitted
Parked Complete Completed
Parked Drain Dropped
WaitingLock Unpark Admitted
WaitingLock Drain Dropped
Pulling Operate Operating
Pulling AwaitController WaitingController
Pulling AwaitProof Authenticating
Pulling Petition Petitioning
Pulling Complete Completed
Pulling Drain Dropped
Operating Pull Pulling
Operating Operate Operating
Operating Complete Completed
Operating Drain DroppedOperating
WaitingController Complete Completed
WaitingController Drain DroppedWaiting
Authenticating AwaitBuffer WaitingBuffer
Authenticating Complete Completed
Authenticating Drain Dropped
Petitioning Complete Completed
Petitioning Drain Dropped
WaitingEvent Complete Completed
WaitingEvent Drain Dropped
Completed Respond Responding
Completed Drain Dropped
Responding Finish Free
Responding Drain Responding
Responding Release Free
Dropped Release Free
DroppedOperating Complete Dropped
DroppedWaiting Complete Dropped
";

    #[test]
    fn the_whole_table() {
        let mut text = String::new();
        for state in STATES {
            for event in EVENTS {
                if let Some(next) = state.next(event) {
                    text.push_str(&format!("{state:?} {event:?} {next:?}\n"));
                }
            }
        }
        assert_eq!(text, TABLE);
    }

    #[test]
    fn every_state_but_free_can_be_drained_and_then_ends() {
        for state in STATES {
            if matches!(state, S::Free | S::Dropped | S::DroppedOperating | S::DroppedWaiting) {
                continue;
            }
            let mut state = state.next(E::Drain).expect("drains");
            if state.is_awaited() {
                assert_eq!(state.next(E::Release), None, "a device or an answer is waited for, never cut");
                state = state.next(E::Complete).expect("comes back");
            }
            assert_eq!(state.next(E::Release), Some(S::Free));
        }
    }
}
