//! The admin queue's work on its CPU: from a connected queue to a ready controller, then keep-alives.
//!
//! One step of [`Initialise`] is outstanding at a time, so one buffer is enough.

use nvmf_core::host::{AdminData, Attached, HostError, Initialise, Outcome, Step};
use reactor::Segment;

use crate::binding::{COMMAND_LEN, RESPONSE_LEN};
use crate::host::command::DataPointer;
use crate::host::options::{ADMIN_DATA_LEN, ADMIN_DEPTH, HostOptions};
use crate::host::queue::Finished;

/// What an admin command's tag says.
pub(super) const TAG_STEP: u64 = 0;
pub(super) const TAG_KEEP_ALIVE: u64 = 1;

/// Keep Alive [NVMe Base 2.0, 5.18].
const OPCODE_KEEP_ALIVE: u8 = 0x18;

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
    Failed(HostError),
}

pub(super) struct Admin {
    initialise: Initialise,
    data: Segment,
    /// Bytes that the outstanding step's command brings.
    expected_len: usize,
    /// A keep-alive is out: no second one.
    keep_alive_outstanding: bool,
}

impl Admin {
    pub(super) fn new(options: &HostOptions, data: Segment) -> Self {
        let io_queue_count = options.cpu_count * options.queue_count_per_cpu;
        let initialise = Initialise::new(
            &options.identity,
            &options.subsystem_nqn,
            ADMIN_DEPTH + 1,
            io_queue_count,
            options.keep_alive_ms,
        );
        Self { initialise, data, expected_len: 0, keep_alive_outstanding: false }
    }

    /// The next step. `finished` is the end of the last one, if that was a command.
    pub(super) fn advance(&mut self, finished: Option<&Finished>, remote_key: u32) -> Action {
        let step = match finished {
            None => self.initialise.next(None),
            Some(Finished { response, .. }) => self.outcome(*response),
        };
        match step {
            Step::Submit { command, data } => match self.place(data, remote_key) {
                Ok(data) => Action::Submit { command, data },
                Err(what) => Action::Failed(HostError::Peer { what }),
            },
            Step::Wait { delay_ns } => Action::Wait { delay_ns },
            Step::Done(attached) => Action::Ready(attached),
            Step::Failed(error) => Action::Failed(error),
        }
    }

    fn outcome(&mut self, completion: [u8; RESPONSE_LEN]) -> Step {
        let mut data = vec![0; self.expected_len];
        self.data.read(0, &mut data);
        self.initialise.next(Some(Outcome { completion, data: &data }))
    }

    fn place(&mut self, data: AdminData, key: u32) -> Result<DataPointer, String> {
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
        Ok(DataPointer::Keyed { address: self.data.address(), len, key })
    }

    /// The keep-alive timer has fired: the command to send, unless one is still out.
    pub(super) fn keep_alive(&mut self) -> Option<[u8; COMMAND_LEN]> {
        if self.keep_alive_outstanding {
            return None;
        }
        self.keep_alive_outstanding = true;
        let mut command = [0; COMMAND_LEN];
        command[0] = OPCODE_KEEP_ALIVE;
        Some(command)
    }

    pub(super) fn keep_alive_ended(&mut self) {
        self.keep_alive_outstanding = false;
    }
}
