//! What one CPU counts of this layer. One writer, its CPU; anybody may read.

use reactor::Counter;

use crate::status::Status;

/// Counters and gauges of one poll group.
#[derive(Debug, Default)]
pub struct PollGroupCounters {
    /// Read commands fetched.
    pub read_count: Counter,
    /// Write commands fetched.
    pub write_count: Counter,
    /// Flush commands fetched.
    pub flush_count: Counter,
    /// Other I/O commands fetched.
    pub other_count: Counter,
    /// Admin and Fabrics commands fetched.
    pub admin_count: Counter,
    /// Bytes that reads have brought to hosts.
    pub read_bytes: Counter,
    /// Bytes that writes have put on devices.
    pub written_bytes: Counter,
    /// Commands that ended with an error status.
    pub error_count: Counter,
    /// The same, by status.
    pub errors: StatusCounters,
    /// Commands that found no buffer and waited.
    pub buffer_wait_count: Counter,
    /// Requests that were held back until something ended: a pause.
    pub park_count: Counter,
    /// Commands that waited since their host had as much in flight as it may.
    pub host_limit_count: Counter,
    /// Reads that went out of a device's own memory, without a copy.
    pub in_place_count: Counter,
    /// Messages and arrivals whose handle was stale.
    pub stale_handle_count: Counter,
    /// Controllers that ended for want of a Keep Alive.
    pub keep_alive_expired_count: Counter,
    /// Qpairs that ended for want of a Connect.
    pub connect_timeout_count: Counter,
    /// Admin qpairs whose Connect succeeded.
    pub admin_connect_count: Counter,
    /// I/O qpairs whose Connect succeeded.
    pub io_connect_count: Counter,
    /// Connects answered with an error status.
    pub connect_refused_count: Counter,
    /// Authentications that succeeded: one for each queue and each time.
    pub authenticated_count: Counter,
    /// Authentications that failed, with which their connections ended.
    pub authentication_failed_count: Counter,
    /// Qpairs that ended because their host did not authenticate in time.
    pub authentication_timeout_count: Counter,
    /// Authentication commands whose host was told to try again, since too many waited.
    pub authentication_busy_count: Counter,
    /// Gauge: qpairs, draining ones included.
    pub qpairs_live: Counter,
    /// Gauge: controllers, closing ones included.
    pub controllers_live: Counter,
    /// Gauge: request slots in use.
    pub requests_live: Counter,
    /// Gauge: data buffers that are out.
    pub buffers_taken: Counter,
    /// Gauge: commands that wait since their host has as much in flight as it may.
    pub host_shares_awaited: Counter,
    /// Gauge: requests that wait for a buffer.
    pub buffers_awaited: Counter,
    /// Gauge: requests that are held back.
    pub requests_parked: Counter,
    /// Gauge: leases on devices.
    pub device_leases: Counter,
    /// Gauge: qpair headers in limbo.
    pub headers_in_limbo: Counter,
}

/// How often each status was given.
#[derive(Debug)]
pub struct StatusCounters {
    /// As in [`Status::ALL`], and one more for all that are not there.
    counts: Box<[Counter]>,
}

impl Default for StatusCounters {
    fn default() -> Self {
        Self { counts: (0..=Status::ALL.len()).map(|_| Counter::new()).collect() }
    }
}

impl StatusCounters {
    /// Once more.
    pub(crate) fn add(&self, status: Status) {
        let at = Status::ALL.iter().position(|known| known.is(status)).unwrap_or(Status::ALL.len());
        self.counts[at].add(1);
    }

    /// Those that were given, in words, and `other`.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = Status::ALL.iter().map(|status| status.name().unwrap_or("other")).chain(["other"]);
        words.zip(self.counts.iter().map(Counter::value)).filter(|(words, count)| *count > 0 || *words == "other")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::StatusCodeType;

    #[test]
    fn statuses_are_counted_by_their_code() {
        let counters = StatusCounters::default();
        assert_eq!(counters.given().collect::<Vec<_>>(), [("other", 0)]);
        counters.add(Status::INVALID_FIELD.with_do_not_retry(false));
        counters.add(Status::INVALID_FIELD);
        counters.add(Status::new(StatusCodeType::PATH, 0xFE, false));
        assert_eq!(counters.given().collect::<Vec<_>>(), [("invalid field in command", 2), ("other", 1)]);
    }
}
