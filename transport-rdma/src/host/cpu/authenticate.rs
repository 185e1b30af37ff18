//! Authentication of I/O queues, after their Connect. The admin queue's is one of its steps.
//!
//! What a queue proves itself with is computed here, in its turn: a host has nothing better to do before it is let in.

use nvmf_core::host::{AdminData, Authenticate, HostError, Outcome, Step};
use reactor::{Handle, Segment, Turn};

use crate::host::cpu::set_up::filled;
use crate::host::cpu::{HostCpu, TIMER_AUTHENTICATE};
use crate::host::error::HostFailure;
use crate::host::message::Message;
use crate::host::options::CONNECT_DATA_LEN;
use crate::host::queue::{Finished, Queue};
use crate::host::workload::Workload;
use crate::verbs::Provider;

/// A queue that authenticates.
pub(super) struct Authenticating {
    queue: Handle<Queue>,
    machine: Authenticate,
    /// Bytes that the outstanding command brings.
    expected_len: usize,
}

impl<P: Provider, W: Workload> HostCpu<P, W> {
    /// Connect has succeeded, and asked for it or not.
    pub(super) fn prove(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>, must_authenticate: bool) {
        let Some(qid) = self.queues.look(handle).map(|queue| queue.qid) else { return };
        let options = &self.options;
        match (&options.authentication, must_authenticate) {
            (_, false) => self.go_live(turn, handle),
            (None, true) => {
                let what = "the controller asks for authentication on an I/O queue: give this host's secret".to_owned();
                self.report_failure(turn, handle, HostFailure::Controller { qid, error: HostError::Peer { what } });
            }
            (Some(authentication), true) => {
                let entropy = authentication.random.entropy();
                let (credentials, identity) = (&authentication.credentials, &options.identity);
                let machine = Authenticate::new(credentials, identity, &options.subsystem_nqn, qid, entropy);
                self.authenticating.push(Authenticating { queue: handle, machine, expected_len: 0 });
                self.authentication_step(turn, handle, None);
            }
        }
    }

    /// Whether what ends on this queue is a step of its authentication.
    pub(super) fn is_authenticating(&self, handle: Handle<Queue>) -> bool {
        self.authenticating.iter().any(|one| one.queue == handle)
    }

    /// The next step. `finished` is the end of the last one, if that was a command.
    pub(super) fn authentication_step(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        handle: Handle<Queue>,
        finished: Option<&Finished>,
    ) {
        let Some(place) = self.authenticating.iter().position(|one| one.queue == handle) else { return };
        let Some(queue) = self.queues.look(handle).filter(|queue| queue.carries_commands()) else {
            self.authenticating.remove(place);
            return;
        };
        let (qid, memory) = (queue.qid, self.connect_data_of(queue.number));
        let one = &mut self.authenticating[place];
        let mut data = vec![0; one.expected_len];
        let outcome = finished.map(|finished| {
            memory.read(0, &mut data);
            Outcome { completion: finished.response, data: &data }
        });
        match one.machine.next(outcome) {
            Step::Submit { command, data } => {
                let (expected_len, data_len) = put(memory, &data);
                one.expected_len = expected_len;
                let keys = self.keys.expect("the keys come before the first queue pair");
                let make = |id| filled(command, id, keys.keyed(memory, data_len));
                let Some(queue) = self.queues.look_mut(handle) else { return };
                if let Err(fault) = queue.submit(&mut self.port, turn.now_ns(), 0, make, None) {
                    self.report(turn, handle, fault);
                }
            }
            Step::Wait { delay_ns } => {
                turn.arm(turn.now_ns() + delay_ns, TIMER_AUTHENTICATE | handle.to_bits());
            }
            Step::Done(_) => {
                self.authenticating.remove(place);
                self.go_live(turn, handle);
            }
            Step::Failed(error) => {
                self.authenticating.remove(place);
                self.report_failure(turn, handle, HostFailure::Controller { qid, error });
            }
        }
    }
}

/// Bytes that come, and bytes of the data.
fn put(memory: Segment, data: &AdminData) -> (usize, u32) {
    match data {
        AdminData::None => (0, 0),
        AdminData::Out(bytes) => {
            assert!(bytes.len() <= CONNECT_DATA_LEN, "messages of hosts are shorter than a page");
            memory.write(0, bytes);
            (0, u32::try_from(bytes.len()).expect("shorter than a page"))
        }
        AdminData::In(len) => {
            // What the controller does not write must not look like what it wrote before.
            memory.zero();
            ((*len as usize).min(CONNECT_DATA_LEN), *len)
        }
    }
}
