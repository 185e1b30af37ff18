//! DH-HMAC-CHAP: what a host and a controller prove to each other before a queue carries commands [NVMe Base 2.0, 8.13].
//!
//! | part | what it is |
//! |---|---|
//! | [`Exchange`] | the controller's side of one queue: the messages in their order |
//! | [`Supplicant`] | the host's side of one queue |
//! | [`Job`], `queue` | what takes long: made by the control plane, done by others, bounded |
//! | `response` | what is proven, from challenges and keys |
//! | [`Secret`] | a key, as people hand it around |
//! | `dh`, `group`, `hash` | the arithmetic below |
//!
//! Nothing here has a clock or draws a random number: both come as arguments. Keys and exponents are wiped when they are dropped, compared in constant time,
//! and never shown.

mod exchange;
mod supplicant;

mod queue;

mod job;

mod response;

mod dh;
mod secret;

mod group;
mod hash;
mod primes;

pub(crate) use exchange::{Delivered, Delivery, Exchange, Taken};
pub use group::GroupSet;
pub use hash::HashSet;
pub(crate) use job::{Answer, Outcome, Question, Work};
pub use job::{Done, Job};
pub(crate) use queue::Queue;
pub use secret::{Secret, SecretError};
pub use supplicant::{Credentials, Entropy, RandomSource, Supplicant, SupplicantError, Turn};

pub use crate::wire::auth::{Failure, GroupId, HashId};

/// Where random bytes come from.
pub type Random<'r> = dyn FnMut(&mut [u8]) + 'r;
