//! What a fault device can be told to do wrong, in the words that SPDK has for it and we besides: the same in the configuration and in JSON-RPC.

use ::bdev::{Affected, DeviceError, Effect};

/// What `error_type` can be.
pub(crate) const ERRORS: &str =
    "\"failure\", \"pending\", \"nomem\", \"corrupt_data\", \"lost\", \"torn\" or \"unforced\"";

/// What `io_type` can be, each with the operations that it stands for.
const KINDS: [(&str, &[Affected]); 5] = [
    ("read", &[Affected::Read]),
    ("write", &[Affected::Write]),
    ("unmap", &[Affected::Deallocate]),
    ("flush", &[Affected::Flush]),
    ("all", &[Affected::Read, Affected::Write, Affected::Deallocate, Affected::Flush]),
];

/// Longest `pending_us`: more is a mistake in the unit. A day.
pub(crate) const PENDING_US_MAX: u64 = 86_400_000_000;

/// The operations that an `io_type` stands for.
pub(crate) fn affected(io_type: &str) -> Option<&'static [Affected]> {
    KINDS.iter().find(|(name, _)| *name == io_type).map(|(_, affected)| *affected)
}

/// Numbers that some `error_type`s have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Details {
    /// Of `corrupt_data`: which byte.
    pub(crate) corrupt_offset: u64,
    /// Of `corrupt_data`: the bits of it that are turned over.
    pub(crate) corrupt_value: u8,
    /// Of `pending`: how long at most.
    pub(crate) pending_us: Option<u64>,
}

/// What an `error_type` does to these operations. `None`: there is no such type.
pub(crate) fn effect(error_type: &str, details: Details, affected: Affected) -> Option<Effect> {
    Some(match error_type {
        // Said in the words of the operation that it befalls.
        "failure" => Effect::Fail(match affected {
            Affected::Read => DeviceError::ReadFault,
            Affected::Write => DeviceError::WriteFault,
            Affected::Flush | Affected::Deallocate | Affected::All => DeviceError::Internal,
        }),
        "pending" => match details.pending_us {
            Some(us) => Effect::StallFor { ns: us.saturating_mul(1000) },
            None => Effect::Stall,
        },
        "nomem" => Effect::Refuse,
        "corrupt_data" => Effect::Corrupt { offset: details.corrupt_offset, flip: details.corrupt_value },
        "torn" => Effect::Tear,
        "lost" => Effect::Lose,
        "unforced" => Effect::Unforce,
        _ => return None,
    })
}
