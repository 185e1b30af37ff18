//! The workload of reservation commands: one, or a row of changes of the host's key; it has one I/O queue with one command at a time.

mod result;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use nvmf_core::host::{self, ReservationReport, ReservationRequest};
use nvmf_core::wire::reservation::{RegisterAction, ReservationKeys, ReservationRegistrant, ReservationStatus};
use reactor::{Progress, Segment};
use transport_rdma::host::{Ended, HostFailure, IoCommand, IoQueues, Start, Workload};
use transport_rdma::verbs::Port;

use crate::arguments::Reservation;
use crate::outcome::{End, Live, Stop};
use crate::settings::{Job, Settings};

pub(crate) use result::ReservationResult;

/// Registrants that a report has room for.
const REGISTRANTS_SHOWN_MAX: usize = 1024;
/// Data memory: keys, or a report.
pub(crate) const DATA_LEN: usize = ReservationStatus::LEN + REGISTRANTS_SHOWN_MAX * ReservationRegistrant::LEN;

/// One command.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    request: ReservationRequest,
    /// CRKEY, and NRKEY or PRKEY.
    keys: (u64, u64),
}

/// See the module.
pub(crate) struct ReservationWorkload {
    action: Reservation,
    nsid: u32,
    live: Arc<Live>,
    stop: Arc<Stop>,
    ends: Sender<End>,
    buffer: Option<Segment>,
    begin_ns: u64,
    is_out: bool,
    result: ReservationResult,
    is_done: bool,
}

impl ReservationWorkload {
    /// What becomes of a job of this kind.
    pub(crate) fn new(settings: &Settings, live: Arc<Live>, stop: Arc<Stop>, ends: Sender<End>) -> Self {
        let Job::Reservation(action) = &settings.job else { panic!("a job of another kind: {:?}", settings.job) };
        Self {
            action: action.clone(),
            nsid: settings.nsids[0],
            live,
            stop,
            ends,
            buffer: None,
            begin_ns: 0,
            is_out: false,
            result: ReservationResult::new(settings.nsids[0], action.clone()),
            is_done: false,
        }
    }

    fn finish(&mut self) {
        self.is_done = true;
        let _ = self.ends.send(End::Reservation(Box::new(self.result.clone())));
    }
}

/// The command that follows when so many have succeeded.
fn step(action: &Reservation, done: u64) -> Option<Step> {
    let one = |request, keys| (done == 0).then_some(Step { request, keys });
    match action {
        Reservation::Register(register) => {
            let action = register.action.meant();
            let request = ReservationRequest::Register {
                action,
                ignore_existing_key: register.ignore_key,
                persistence: register.persist,
            };
            one(request, (register.key, register.new_key))
        }
        Reservation::Acquire(acquire) => {
            let request = ReservationRequest::Acquire { action: acquire.action.meant(), kind: acquire.kind.meant() };
            one(request, (acquire.key, acquire.preempt_key))
        }
        Reservation::Release(release) => {
            let request = ReservationRequest::Release { action: release.action.meant(), kind: release.kind.meant() };
            one(request, (release.key, 0))
        }
        Reservation::Report => one(ReservationRequest::Report, (0, 0)),
        Reservation::Rotate(rotate) => {
            let (action, persistence) = match done {
                0 => (RegisterAction::Register, rotate.persist.then_some(true)),
                _ => (RegisterAction::Replace, None),
            };
            let request = ReservationRequest::Register { action, ignore_existing_key: false, persistence };
            let key = rotate.key.wrapping_add(done);
            // The first change registers: there is no key before it.
            let current = if done == 0 { 0 } else { key.wrapping_sub(1) };
            (done < rotate.count).then_some(Step { request, keys: (current, key) })
        }
    }
}

impl Workload for ReservationWorkload {
    fn ready(&mut self, start: Start<'_>) {
        self.live.is_ready.store(true, Ordering::Relaxed);
        // Where the controller takes less than all registrants need, the report is cut short, and says of how many.
        let len = DATA_LEN.min(start.attached.transfer_len_max as usize);
        self.buffer = Some(start.memory.part(0, len));
        self.begin_ns = start.now_ns;
    }

    fn poll<Q: Port>(&mut self, now_ns: u64, io: &mut IoQueues<'_, Q>) -> Progress {
        let Some(buffer) = self.buffer.filter(|_| !self.is_out && !self.is_done) else { return Progress::Idle };
        self.result.elapsed_ns = now_ns.saturating_sub(self.begin_ns);
        let next = if self.stop.is_asked() { None } else { step(&self.action, self.result.done_count) };
        let Some(Step { request, keys }) = next else {
            self.result.was_stopped = self.stop.is_asked();
            self.finish();
            return Progress::Busy;
        };
        let data = match request.keys_len() {
            Some(len) => {
                buffer.write(0, &host::keys(keys.0, keys.1));
                buffer.part(0, len)
            }
            None => buffer,
        };
        let command = IoCommand::Reservation { nsid: self.nsid, request, buffer: data };
        if io.submit(0, 0, &command).is_err() {
            return Progress::Idle;
        }
        self.result.in_flight_key = Some(keys.1);
        self.is_out = true;
        Progress::Busy
    }

    fn completed(&mut self, now_ns: u64, ended: &[Ended]) {
        for Ended { status, .. } in ended {
            self.is_out = false;
            self.live.io_count.add(1);
            self.result.elapsed_ns = now_ns.saturating_sub(self.begin_ns);
            self.result.status = *status;
            let key = self.result.in_flight_key.take();
            if !status.is_success() {
                self.finish();
                continue;
            }
            self.result.done_count += 1;
            self.result.last_key = key;
            if self.action == Reservation::Report {
                self.take_report();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn failed(&mut self, failure: &HostFailure) {
        if self.buffer.is_none() || self.is_done {
            let _ = self.ends.send(End::Failed(failure.clone()));
            return;
        }
        // What was answered is known all the same.
        self.result.failure = Some(failure.to_string());
        self.finish();
    }
}

impl ReservationWorkload {
    fn take_report(&mut self) {
        let Some(buffer) = self.buffer else { return };
        let mut bytes = vec![0; buffer.len()];
        buffer.read(0, &mut bytes);
        self.result.report = ReservationReport::parse(&bytes);
    }
}

/// Bytes of keys that a Release takes are the first of the others'.
const _: () = assert!(ReservationKeys::LEN as usize <= DATA_LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Rotate;

    #[test]
    fn a_rotation_registers_once_and_then_replaces() {
        let rotate = Reservation::Rotate(Rotate { key: 7, count: 3, persist: true });
        let kinds: Vec<_> = (0..4).map_while(|done| step(&rotate, done)).collect();
        let request =
            |action, persistence| ReservationRequest::Register { action, ignore_existing_key: false, persistence };
        assert_eq!(
            kinds,
            [
                Step { request: request(RegisterAction::Register, Some(true)), keys: (0, 7) },
                Step { request: request(RegisterAction::Replace, None), keys: (7, 8) },
                Step { request: request(RegisterAction::Replace, None), keys: (8, 9) },
            ]
        );
        assert_eq!(step(&Reservation::Report, 1), None);
    }
}
