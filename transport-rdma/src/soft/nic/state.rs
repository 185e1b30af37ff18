//! The states of a queue pair and the moves between them (InfiniBand Architecture, volume 1, 10.3.1). SQD and SQE are left out: a reliable
//! connection never enters SQE, and nothing here asks for SQD.

/// A queue pair's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum QueuePairState {
    /// Made; takes no work.
    Reset,
    /// Attached: takes receives.
    Init,
    /// Has its peer: takes messages too.
    ReadyToReceive,
    /// Takes sends too.
    ReadyToSend,
    /// Takes work and returns it flushed.
    Error,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Move {
    /// It came to its CPU.
    Attach,
    /// It got its link.
    Link,
    /// It may send.
    Start,
    /// A work request failed, the provider said so, or the port broke.
    Fail,
    /// It left its CPU.
    Detach,
}

impl QueuePairState {
    /// The next state; `None` where there is no such move.
    #[must_use]
    pub(super) const fn next(self, by: Move) -> Option<Self> {
        match (self, by) {
            (Self::Reset, Move::Attach) => Some(Self::Init),
            (Self::Init, Move::Link) => Some(Self::ReadyToReceive),
            (Self::ReadyToReceive, Move::Start) => Some(Self::ReadyToSend),
            // Failing twice is no move: the first flush took everything.
            (Self::Reset | Self::Init | Self::ReadyToReceive | Self::ReadyToSend, Move::Fail) => Some(Self::Error),
            (Self::Init | Self::ReadyToReceive | Self::ReadyToSend | Self::Error, Move::Detach) => Some(Self::Reset),
            (Self::Reset, Move::Link | Move::Start | Move::Detach)
            | (Self::Init, Move::Attach | Move::Start)
            | (Self::ReadyToReceive, Move::Attach | Move::Link)
            | (Self::ReadyToSend, Move::Attach | Move::Link | Move::Start)
            | (Self::Error, Move::Attach | Move::Link | Move::Start | Move::Fail) => None,
        }
    }

    /// Whether receives may be posted.
    #[must_use]
    pub const fn takes_receives(self) -> bool {
        !matches!(self, Self::Reset)
    }

    /// Whether sends may be posted (in the error state they come back flushed).
    #[must_use]
    pub const fn takes_sends(self) -> bool {
        matches!(self, Self::ReadyToSend | Self::Error)
    }

    /// Whether messages of the peer are taken.
    #[must_use]
    pub const fn takes_messages(self) -> bool {
        matches!(self, Self::ReadyToReceive | Self::ReadyToSend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [QueuePairState; 5] = [
        QueuePairState::Reset,
        QueuePairState::Init,
        QueuePairState::ReadyToReceive,
        QueuePairState::ReadyToSend,
        QueuePairState::Error,
    ];
    const MOVES: [Move; 5] = [Move::Attach, Move::Link, Move::Start, Move::Fail, Move::Detach];

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for state in STATES {
            for by in MOVES {
                let next = state.next(by).map_or("-".to_owned(), |next| format!("{next:?}"));
                table += &format!("{state:?} {by:?} {next}\n");
            }
        }
        let expected = "\
Reset Attach Init
Reset Link -
Reset Start -
Reset Fail Error
Reset Detach -
Init Attach -
Init Link ReadyToReceive
Init Start -
Init Fail Error
Init Detach Reset
ReadyToReceive Attach -
ReadyToReceive Link -
ReadyToReceive Start ReadyToSend
ReadyToReceive Fail Error
ReadyToReceive Detach Reset
ReadyToSend Attach -
ReadyToSend Link -
ReadyToSend Start -
ReadyToSend Fail Error
ReadyToSend Detach Reset
Error Attach -
Error Link -
Error Start -
Error Fail -
Error Detach Reset
";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_each_state_takes() {
        let takes = STATES.map(|state| (state.takes_receives(), state.takes_sends(), state.takes_messages()));
        assert_eq!(
            takes,
            [(false, false, false), (true, false, false), (true, false, true), (true, true, true), (true, true, false)]
        );
    }
}
