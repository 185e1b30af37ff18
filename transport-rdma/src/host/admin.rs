//! The admin queue's work on its CPU: from a connected queue to a ready controller, then keep-alives and events, and at last the shutdown.
//!
//! One step of [`Initialise`] is outstanding at a time, so one buffer is enough.

use nvmf_core::host::{
    AdminData, Attached, DataPointer, Discover, Discovered, HostError, Initialise, News, Outcome, Refresh, ShutDown,
    Step,
};
use nvmf_core::wire::{AsyncEvent, DISCOVERY_NQN, Version};
use reactor::Segment;

use crate::binding::COMMAND_LEN;
use crate::host::message::MemoryKeys;
use crate::host::options::{ADMIN_DATA_LEN, ADMIN_DEPTH, HostOptions};
use crate::host::queue::{Finished, TAG_HELD};

/// What an admin command's tag says.
pub(super) const TAG_STEP: u64 = 0;
pub(super) const TAG_KEEP_ALIVE: u64 = 1;
pub(super) const TAG_EVENT: u64 = TAG_HELD;

/// What the CPU is to do for the admin queue.
pub(super) enum Action {
    Submit {
        command: [u8; COMMAND_LEN],
        data: DataPointer,
    },
    /// Call [`Admin::advance`] again after this time.
    Wait {
        delay_ns: u64,
    },
    Ready(Box<Attached>),
    Discovered(Vec<Discovered>),
    /// What an event was about, if that was to be had.
    News(Result<Box<News>, HostError>),
    /// The controller has shut down, or will not.
    ShutDown(Result<(), HostError>),
    Failed(HostError),
}

/// What the admin queue is for.
enum Task {
    /// Nothing at present.
    None,
    Initialise(Initialise),
    /// The discovery subsystem has a log and no namespaces.
    Discover(Discover),
    Refresh(Refresh),
    ShutDown(ShutDown),
}

pub(super) struct Admin {
    task: Task,
    /// Of the controller, once that is known.
    version: Version,
    /// How long the controller will have to shut down, when what is under way has ended.
    shutdown_due_ns: Option<u64>,
    data: Segment,
    /// Bytes that the outstanding step's command brings.
    expected_len: usize,
    /// A keep-alive is out: no second one.
    keep_alive_outstanding: bool,
}

impl Admin {
    pub(super) fn new(options: &HostOptions, data: Segment) -> Self {
        let io_queue_count = options.cpu_count * options.queue_count_per_cpu;
        let (identity, nqn) = (&options.identity, &options.subsystem_nqn);
        let task = if nqn == DISCOVERY_NQN {
            Task::Discover(Discover::new(identity, ADMIN_DEPTH + 1))
        } else {
            let task = Initialise::new(identity, nqn, ADMIN_DEPTH + 1, io_queue_count, options.keep_alive_ms)
                .asking_for(options.controller_id);
            Task::Initialise(match &options.authentication {
                Some(authentication) => {
                    task.authenticating(authentication.credentials.clone(), authentication.random.entropy())
                }
                None => task,
            })
        };
        let version = Version::default();
        Self { task, version, shutdown_due_ns: None, data, expected_len: 0, keep_alive_outstanding: false }
    }

    /// The next step. `finished` is the end of the last one, if that was a command.
    pub(super) fn advance(&mut self, finished: Option<&Finished>, keys: MemoryKeys) -> Action {
        let mut data = vec![0; self.expected_len];
        let outcome = finished.map(|&Finished { response, .. }| {
            self.data.read(0, &mut data);
            Outcome { completion: response, data: &data }
        });
        match &mut self.task {
            Task::None => Action::Failed(HostError::Peer { what: "a response that nothing was asked for".to_owned() }),
            Task::Initialise(initialise) => {
                let step = initialise.next(outcome);
                let action = self.action(step, keys, |done| done.map_or_else(Action::Failed, Action::Ready));
                if let Action::Ready(attached) = &action {
                    self.version = attached.version;
                }
                action
            }
            Task::Discover(discover) => {
                let step = discover.next(outcome);
                self.action(step, keys, |done| done.map_or_else(Action::Failed, |found| Action::Discovered(*found)))
            }
            Task::Refresh(refresh) => {
                let step = refresh.next(outcome);
                self.action(step, keys, Action::News)
            }
            Task::ShutDown(shut_down) => {
                let step = shut_down.next(outcome);
                self.action(step, keys, |done| Action::ShutDown(done.map(|_| ())))
            }
        }
    }

    fn action<T>(&mut self, step: Step<T>, keys: MemoryKeys, end: fn(Result<Box<T>, HostError>) -> Action) -> Action {
        let ended = match step {
            Step::Submit { command, data } => match self.place(data, keys) {
                Ok(data) => return Action::Submit { command, data },
                Err(what) => Err(HostError::Peer { what }),
            },
            Step::Wait { delay_ns } => return Action::Wait { delay_ns },
            Step::Done(result) => Ok(result),
            Step::Failed(error) => Err(error),
        };
        self.task = Task::None;
        end(ended)
    }

    /// The controller told of an event: whether there is something to ask. Not when it shuts down.
    pub(super) fn begin_refresh(&mut self, event: AsyncEvent) -> bool {
        let is_free = matches!(self.task, Task::None);
        if is_free {
            self.task = Task::Refresh(Refresh::new(event, self.version));
        }
        is_free
    }

    /// The controller is to shut down: whether that can begin. Otherwise it does when what is under way has ended.
    pub(super) fn begin_shutdown(&mut self, patience_ns: u64) -> bool {
        self.shutdown_due_ns = Some(patience_ns);
        self.next_task()
    }

    /// Whether there is something else to do now that the last thing has ended.
    pub(super) fn next_task(&mut self) -> bool {
        if !matches!(self.task, Task::None) {
            return false;
        }
        let Some(patience_ns) = self.shutdown_due_ns.take() else { return false };
        self.task = Task::ShutDown(ShutDown::new(patience_ns));
        true
    }

    fn place(&mut self, data: AdminData, keys: MemoryKeys) -> Result<DataPointer, String> {
        let len = match &data {
            AdminData::None => 0,
            AdminData::Out(bytes) => bytes.len(),
            AdminData::In(len) => *len as usize,
        };
        if len > ADMIN_DATA_LEN {
            return Err(format!("an admin command with {len} bytes of data, at most {ADMIN_DATA_LEN} are possible"));
        }
        self.expected_len = 0;
        match &data {
            AdminData::None => return Ok(DataPointer::None),
            AdminData::Out(bytes) => self.data.write(0, bytes),
            AdminData::In(_) => {
                // What the controller does not write must not look like what it wrote before.
                self.data.part(0, len).zero();
                self.expected_len = len;
            }
        }
        // Cannot truncate: at most ADMIN_DATA_LEN.
        #[allow(clippy::cast_possible_truncation)]
        let len = len as u32;
        Ok(keys.keyed(self.data, len))
    }

    /// The keep-alive timer has fired: whether to send one. Not while one is out.
    pub(super) fn begin_keep_alive(&mut self) -> bool {
        !std::mem::replace(&mut self.keep_alive_outstanding, true)
    }

    pub(super) fn keep_alive_ended(&mut self) {
        self.keep_alive_outstanding = false;
    }
}
