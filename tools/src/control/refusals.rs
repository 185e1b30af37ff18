//! Hosts that have not proved who they are, in the log: the first at once, more of them now and then, so that a stranger fills no disk.

use std::net::IpAddr;

/// From one line to the next at least.
const PERIOD_NS: u64 = 10_000_000_000;

/// What there is to tell of.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told_ns: Option<u64>,
    untold_count: u64,
}

impl Refusals {
    /// One more.
    pub(super) fn add(&mut self, now_ns: u64, host: &str, peer: IpAddr) {
        if let Some(count) = self.due(now_ns) {
            tracing::warn!(
                host,
                %peer,
                count,
                "a host has not authenticated: it does not know its secret, or wants a proof that there is no key for"
            );
        }
    }

    /// How many are to be told of with this one, if it is time for that.
    fn due(&mut self, now_ns: u64) -> Option<u64> {
        self.untold_count += 1;
        if self.told_ns.is_some_and(|told_ns| now_ns < told_ns + PERIOD_NS) {
            return None;
        }
        self.told_ns = Some(now_ns);
        Some(std::mem::take(&mut self.untold_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_others_together() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.due(5), Some(1));
        assert_eq!(refusals.due(6), None);
        assert_eq!(refusals.due(5 + PERIOD_NS - 1), None);
        assert_eq!(refusals.due(5 + PERIOD_NS), Some(3));
        assert_eq!(refusals.due(6 + PERIOD_NS), None);
    }
}
