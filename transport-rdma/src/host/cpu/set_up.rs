//! From a queue pair to a queue that carries commands: attaching, the admin queue's steps, Connect of the I/O queues; keep-alives; and, for a host
//! that stays, back to where the next association begins.

use nvmf_core::host::{DataPointer, connect_io, connect_outcome, fill, keep_alive};
use reactor::{Handle, Segment, Turn};

use crate::binding::COMMAND_LEN;
use crate::host::admin::{Action, Admin, TAG_EVENT, TAG_KEEP_ALIVE, TAG_STEP};
use crate::host::cpu::{HostCpu, Phase, TIMER_ADMIN_STEP, TIMER_COMMANDS, TIMER_KEEP_ALIVE};
use crate::host::error::HostFailure;
use crate::host::link::Link;
use crate::host::message::{Kind, Message};
use crate::host::options::{ADMIN_DATA_LEN, CONNECT_DATA_LEN};
use crate::host::queue::{Finished, Queue, QueueOptions, capsule_memory_len};
use crate::host::workload::Workload;
use crate::trace::{self, News, Step};
use crate::verbs::{Port, Provider};

impl<P: Provider, W: Workload> HostCpu<P, W> {
    pub(super) fn attach(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        link: Handle<Link>,
        qid: u16,
        queue_pair: <P::Port as Port>::QueuePair,
    ) {
        let keys = self.keys.expect("the keys come before the first queue pair");
        let number = self.number_of(qid);
        let options = QueueOptions {
            link,
            qid,
            number,
            depth: self.options.depth_of(qid),
            capsules: self.capsules_of(qid),
            capsule_key: keys.capsules.local_key,
        };
        let handle = self.queues.next_handle().expect("a slot for each queue was made at start");
        let name = self.port.attach(queue_pair);
        Step::Adopted.trace(turn, handle.to_bits(), link.to_bits());
        let mut queue = Queue::new(&options, name, handle);
        let posted = queue.post_receives(&mut self.port);
        let inserted = self.queues.insert(queue).ok();
        assert_eq!(inserted, Some(handle));
        if qid > 0 {
            self.names[usize::from(number)] = handle;
        }
        turn.send(self.control(), Message(Kind::Attached { link, queue: handle }));
        if let Err(fault) = posted {
            self.report(turn, handle, fault);
        }
    }

    /// The association is over and its queues are reaped: as before the first one.
    pub(super) fn part(&mut self, turn: &mut Turn<'_, Message<P>>) {
        assert!(self.queues.is_empty(), "the control plane closes every queue before it parts");
        for timer in self.chores.iter_mut().filter_map(Option::take) {
            turn.cancel(timer);
        }
        self.keys = None;
        self.admin = (self.cpu == 0).then(|| Admin::new(&self.options, self.data.part(0, ADMIN_DATA_LEN)));
        self.admin_due = false;
        self.joining.clear();
        self.authenticating.clear();
        self.controller_id = 0;
        self.faults.clear();
        self.phase = Phase::Waiting;
        turn.send(self.control(), Message(Kind::Parted));
    }

    /// A queue's number among this CPU's I/O queues; of no meaning for the admin queue.
    pub(super) fn number_of(&self, qid: u16) -> u16 {
        if qid == 0 { 0 } else { (qid - 1) % self.options.queue_count_per_cpu }
    }

    pub(super) fn capsules_of(&self, qid: u16) -> Segment {
        let admin_len = self.options.capsule_len(self.cpu)
            - usize::from(self.options.queue_count_per_cpu) * capsule_memory_len(self.options.queue_depth);
        let len = capsule_memory_len(self.options.depth_of(qid));
        let offset = if qid == 0 { 0 } else { admin_len + usize::from(self.number_of(qid)) * len };
        self.capsules.part(offset, len)
    }

    pub(super) fn connect_data_of(&self, number: u16) -> Segment {
        let admin_len = self.options.transport_data_len(self.cpu) - self.names.len() * CONNECT_DATA_LEN;
        self.data.part(admin_len + usize::from(number) * CONNECT_DATA_LEN, CONNECT_DATA_LEN)
    }

    pub(super) fn workload_memory(&self) -> Segment {
        self.data.part(self.options.transport_data_len(self.cpu), self.options.data_memory_len)
    }

    pub(super) fn connected(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>) {
        let Some(queue) = self.queues.look_mut(handle) else {
            return trace::missed(turn, handle, News::Connected);
        };
        if !queue.established() {
            return trace::missed(turn, handle, News::Connected);
        }
        trace::applied(turn, handle, News::Connected);
        if queue.qid == 0 {
            self.admin_due = true;
            self.arm(turn, turn.now_ns() + self.command_scan_ns(), TIMER_COMMANDS);
        } else {
            let is_first = queue.number == 0;
            self.joining.push(handle);
            if self.cpu != 0 && is_first {
                self.arm(turn, turn.now_ns() + self.command_scan_ns(), TIMER_COMMANDS);
            }
        }
    }

    pub(super) fn keep_alive(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if self.admin.as_mut().is_some_and(Admin::begin_keep_alive) {
            self.submit_admin(turn, TAG_KEEP_ALIVE, keep_alive);
        }
        // Also where the last one is late: when it has ended the next is due.
        self.arm_keep_alive(turn);
    }

    pub(super) fn arm_keep_alive(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if self.options.keep_alive_ms > 0 {
            // Twice within the timeout: one may be late.
            let deadline_ns = turn.now_ns() + u64::from(self.options.keep_alive_ms) * 500_000;
            self.arm(turn, deadline_ns, TIMER_KEEP_ALIVE);
        }
    }

    pub(super) fn admin_ended(&mut self, turn: &mut Turn<'_, Message<P>>, finished: &Finished) {
        if finished.tag == TAG_KEEP_ALIVE {
            let Some(admin) = &mut self.admin else { return };
            admin.keep_alive_ended();
            if !finished.status().is_success() {
                let what = format!("Keep Alive ended with {}", finished.status());
                self.send_failure(turn, HostFailure::Protocol { qid: 0, what });
            }
            return;
        }
        if finished.tag == TAG_EVENT {
            return self.event_told(turn, finished);
        }
        self.admin_step(turn, Some(finished));
    }

    pub(super) fn admin_step(&mut self, turn: &mut Turn<'_, Message<P>>, finished: Option<&Finished>) {
        let (Some(admin), Some(keys)) = (&mut self.admin, self.keys) else { return };
        match admin.advance(finished, keys) {
            Action::Submit { command, data } => self.submit_admin(turn, TAG_STEP, |id| filled(command, id, data)),
            Action::Wait { delay_ns } => {
                self.arm(turn, turn.now_ns() + delay_ns, TIMER_ADMIN_STEP);
            }
            Action::Ready(attached) => {
                turn.send(self.control(), Message(Kind::ControllerReady(attached)));
                self.arm_keep_alive(turn);
                self.listen(turn);
            }
            Action::Discovered(found) => {
                if matches!(self.phase, Phase::Waiting) {
                    self.workload.discovered(&found);
                    self.phase = Phase::Done;
                }
                turn.send(self.control(), Message(Kind::Discovered));
            }
            Action::News(news) => self.news_came(turn, news),
            Action::ShutDown(result) => self.shut_down_ended(turn, result),
            Action::Failed(error) => self.send_failure(turn, HostFailure::Controller { qid: 0, error }),
        }
    }

    pub(super) fn submit_admin(
        &mut self,
        turn: &mut Turn<'_, Message<P>>,
        tag: u64,
        command: impl FnOnce(u16) -> [u8; COMMAND_LEN],
    ) {
        let found = self.queues.iter().find(|(_, queue)| queue.qid == 0).map(|(handle, _)| handle);
        let Some(handle) = found else { return };
        let Some(queue) = self.queues.look_mut(handle).filter(|queue| queue.room() > 0) else { return };
        if let Err(fault) = queue.submit(&mut self.port, turn.now_ns(), tag, command, None) {
            self.report(turn, handle, fault);
        }
    }

    pub(super) fn send_connects(&mut self, turn: &mut Turn<'_, Message<P>>) {
        while let Some(handle) = self.joining.pop() {
            let Some(number) = self.queues.look(handle).map(|queue| queue.number) else { continue };
            let memory = self.connect_data_of(number);
            let Some(queue) = self.queues.look_mut(handle).filter(|queue| queue.carries_commands()) else {
                continue;
            };
            let keys = self.keys.expect("the keys come before the first queue pair");
            let options = &self.options;
            let (command, data) = connect_io(
                &options.identity,
                &options.subsystem_nqn,
                self.controller_id,
                queue.qid,
                options.queue_depth + 1,
            );
            memory.write(0, &data);
            let len = u32::try_from(data.len()).expect("Connect has 1024 bytes of data");
            let make = |id| filled(command, id, keys.keyed(memory, len));
            if let Err(fault) = queue.submit(&mut self.port, turn.now_ns(), 0, make, None) {
                self.report(turn, handle, fault);
            }
        }
    }

    pub(super) fn go_live(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>) {
        if self.queues.look_mut(handle).is_some_and(Queue::joined) {
            turn.send(self.control(), Message(Kind::QueueReady));
        }
    }

    pub(super) fn joined(&mut self, turn: &mut Turn<'_, Message<P>>, handle: Handle<Queue>, finished: &Finished) {
        let Some(qid) = self.queues.look(handle).map(|queue| queue.qid) else { return };
        let outcome = connect_outcome(&finished.response);
        match outcome {
            Ok(connected) if connected.controller_id != self.controller_id => {
                let what =
                    format!("Connect for controller {} answered with {}", self.controller_id, connected.controller_id);
                self.report_failure(turn, handle, HostFailure::Protocol { qid, what });
            }
            Ok(connected) => self.prove(turn, handle, connected.must_authenticate),
            Err(error) => self.report_failure(turn, handle, HostFailure::Controller { qid, error }),
        }
    }
}

pub(super) fn filled(mut command: [u8; COMMAND_LEN], id: u16, data: DataPointer) -> [u8; COMMAND_LEN] {
    fill(&mut command, id, data);
    command
}
