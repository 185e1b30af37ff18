//! What completions and connection manager events say, in the interface's words. Pure.

use super::sys::{WC_WITH_IMM, WC_WITH_INV, ibv_wc, ibv_wc_status as wc};
use crate::verbs::{Completion, CompletionStatus, Received, RejectReason};

/// Reasons of a REJECT, as InfiniBand's connection manager numbers them [InfiniBand 1.4, 12.6.7.2].
const REASON_STALE: i32 = 10;
const REASON_INVALID_SERVICE: i32 = 8;
const REASON_CONSUMER: i32 = 28;

/// `ibv_wc_status`. What an RC queue pair cannot raise is a fatal error too.
pub(super) fn completion_status(status: wc::Type) -> CompletionStatus {
    match status {
        wc::IBV_WC_SUCCESS => CompletionStatus::Success,
        wc::IBV_WC_LOC_LEN_ERR => CompletionStatus::LocalLengthError,
        wc::IBV_WC_LOC_QP_OP_ERR => CompletionStatus::LocalQpOperationError,
        wc::IBV_WC_LOC_PROT_ERR => CompletionStatus::LocalProtectionError,
        wc::IBV_WC_WR_FLUSH_ERR => CompletionStatus::WorkRequestFlushed,
        wc::IBV_WC_MW_BIND_ERR => CompletionStatus::WindowBindError,
        wc::IBV_WC_BAD_RESP_ERR => CompletionStatus::BadResponse,
        wc::IBV_WC_LOC_ACCESS_ERR => CompletionStatus::LocalAccessError,
        wc::IBV_WC_REM_INV_REQ_ERR => CompletionStatus::RemoteInvalidRequest,
        wc::IBV_WC_REM_ACCESS_ERR => CompletionStatus::RemoteAccessError,
        wc::IBV_WC_REM_OP_ERR => CompletionStatus::RemoteOperationError,
        wc::IBV_WC_RETRY_EXC_ERR => CompletionStatus::RetryExceeded,
        wc::IBV_WC_RNR_RETRY_EXC_ERR => CompletionStatus::RnrRetryExceeded,
        _ => CompletionStatus::FatalError,
    }
}

/// `ibv_wc`: of a failed one only what is valid is read.
pub(super) fn completion(entry: &ibv_wc) -> Completion {
    let status = completion_status(entry.status);
    if status != CompletionStatus::Success {
        return Completion { id: entry.wr_id, status, number: entry.qp_num, len: 0, received: Received::default() };
    }
    let bits = extra_bits(entry);
    let received = Received {
        // In network byte order.
        immediate: (entry.wc_flags & WC_WITH_IMM != 0).then(|| u32::from_be(bits)),
        invalidated: (entry.wc_flags & WC_WITH_INV != 0).then_some(bits),
    };
    Completion { id: entry.wr_id, status, number: entry.qp_num, len: entry.byte_len, received }
}

fn extra_bits(entry: &ibv_wc) -> u32 {
    // SAFETY: both members are 32 bits without padding, for which all patterns are valid.
    unsafe { entry.imm_data_invalidated_rkey_union.invalidated_rkey }
}

/// A REJECTED event. A negative status is an errno, which iWARP uses.
pub(super) fn rejection(status: i32, private_data: Vec<u8>) -> RejectReason {
    match status {
        REASON_STALE => RejectReason::Stale,
        REASON_CONSUMER => RejectReason::Consumer(private_data),
        REASON_INVALID_SERVICE => RejectReason::Unreachable("nobody listens there".to_owned()),
        negative if negative == -libc::ECONNREFUSED => match private_data.len() {
            0 => RejectReason::Unreachable("the connection was refused".to_owned()),
            _ => RejectReason::Consumer(private_data),
        },
        negative if negative < 0 => no_connection(negative),
        reason => RejectReason::Unreachable(format!("the connection manager refused, reason {reason} of InfiniBand's")),
    }
}

/// An UNREACHABLE or CONNECT_ERROR event.
pub(super) fn no_connection(status: i32) -> RejectReason {
    match status {
        0 => RejectReason::Unreachable("the connection manager gives no reason".to_owned()),
        timed_out if timed_out == -libc::ETIMEDOUT => RejectReason::TimedOut,
        status => RejectReason::Unreachable(std::io::Error::from_raw_os_error(status.abs()).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(status: wc::Type, flags: u32, bits: u32) -> ibv_wc {
        // SAFETY: numbers only.
        let mut entry: ibv_wc = unsafe { std::mem::zeroed() };
        (entry.wr_id, entry.status, entry.wc_flags, entry.byte_len, entry.qp_num) = (7, status, flags, 100, 17);
        entry.imm_data_invalidated_rkey_union.invalidated_rkey = bits;
        entry
    }

    #[test]
    fn what_a_receive_brought() {
        let plain = completion(&entry(wc::IBV_WC_SUCCESS, 0, 5));
        assert_eq!((plain.id, plain.number, plain.len, plain.received), (7, 17, 100, Received::default()));
        let immediate = completion(&entry(wc::IBV_WC_SUCCESS, WC_WITH_IMM, 0xABCD_u32.to_be()));
        assert_eq!(immediate.received, Received { immediate: Some(0xABCD), invalidated: None });
        let invalidated = completion(&entry(wc::IBV_WC_SUCCESS, WC_WITH_INV, 0xABCD));
        assert_eq!(invalidated.received, Received { immediate: None, invalidated: Some(0xABCD) });
    }

    /// C12: nothing else of a failed completion means anything.
    #[test]
    fn nothing_is_read_of_a_failed_one() {
        let failed = completion(&entry(wc::IBV_WC_WR_FLUSH_ERR, WC_WITH_INV | WC_WITH_IMM, 9));
        assert_eq!((failed.status, failed.len), (CompletionStatus::WorkRequestFlushed, 0));
        assert_eq!(failed.received, Received::default());
    }

    #[test]
    fn statuses_that_nobody_knows_are_fatal() {
        for status in [wc::IBV_WC_GENERAL_ERR, wc::IBV_WC_RESP_TIMEOUT_ERR, 4711] {
            assert_eq!(completion_status(status), CompletionStatus::FatalError);
        }
        assert_eq!(completion_status(wc::IBV_WC_SUCCESS), CompletionStatus::Success);
    }

    #[test]
    fn reasons_of_rejections() {
        assert_eq!(rejection(28, vec![1, 2]), RejectReason::Consumer(vec![1, 2]));
        assert_eq!(rejection(10, vec![]), RejectReason::Stale);
        assert!(matches!(rejection(8, vec![]), RejectReason::Unreachable(why) if why.contains("listens")));
        assert!(matches!(rejection(3, vec![]), RejectReason::Unreachable(why) if why.contains('3')));
        assert_eq!(rejection(-libc::ECONNREFUSED, vec![3]), RejectReason::Consumer(vec![3]));
        assert_eq!(rejection(-libc::ETIMEDOUT, vec![]), RejectReason::TimedOut);
        assert_eq!(no_connection(-libc::ETIMEDOUT), RejectReason::TimedOut);
        assert!(matches!(no_connection(-libc::EHOSTUNREACH), RejectReason::Unreachable(_)));
    }
}
