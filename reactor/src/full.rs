//! No room.

/// The thing did not fit and is handed back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);
