//! One operation on a drive: the commands that it still needs, one after the other. No I/O here: a result goes in, the next step comes out.

use reactor::Segment;

use super::command::Command;
use super::identify::{COMMAND_BLOCK_COUNT_MAX, Commands};
use super::status;
use crate::channel::{Operation, OperationKind};
use crate::device::DeviceError;

/// How often one command that was interrupted, or found no room, is repeated before the operation fails.
const RETRY_COUNT_MAX: u32 = 64;

/// What a command's result leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another command.
    Command,
    /// The end.
    Done(Result<(), DeviceError>),
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) token: u64,
    kind: OperationKind,
    start_block: u64,
    block_count: u64,
    data: Option<Segment>,
    /// Blocks that are done.
    done_count: u64,
    retry_count: u32,
}

impl Request {
    /// The operation's range and data are checked.
    pub(super) fn new(operation: &Operation) -> Self {
        let Operation { token, kind, start_block, block_count, data, .. } = *operation;
        Self { token, kind, start_block, block_count, data, done_count: 0, retry_count: 0 }
    }

    /// The command that is to be given now. `zeroes_len` is how many bytes of zeroes there are to be written by a drive that has none of its own.
    pub(super) fn command(&self, commands: &Commands, zeroes_len: usize) -> Command {
        let start = self.start_block + self.done_count;
        let count = self.count(commands, zeroes_len);
        let piece = |data: Segment| {
            let block_len = u64::from(commands.block_len);
            let bytes = |blocks: u64| usize::try_from(blocks * block_len).unwrap_or(usize::MAX);
            data.part(bytes(self.done_count), bytes(count))
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match (self.kind, self.data) {
            (OperationKind::Read, Some(data)) => Command::Read { start, count, into: piece(data) },
            (OperationKind::Write { force_unit_access: durable }, Some(data)) => {
                Command::Write { start, count, from: piece(data), durable }
            }
            (OperationKind::WriteZeroes { deallocate, force_unit_access: durable }, _) => {
                if commands.zeroes_block_count_max == 0 {
                    Command::WriteOfZeroes { start, count, durable }
                } else {
                    let deallocate = deallocate && commands.zeroes_deallocate;
                    Command::WriteZeroes { start, count, deallocate, durable }
                }
            }
            (OperationKind::Deallocate, _) => Command::Deallocate { start, count },
            (OperationKind::WriteUncorrectable, _) => Command::WriteUncorrectable { start, count },
            // A transfer without data was refused by the check.
            (OperationKind::Flush | OperationKind::Read | OperationKind::Write { .. }, _) => Command::Flush,
        }
    }

    /// Blocks of the command that is to be given now.
    fn count(&self, commands: &Commands, zeroes_len: usize) -> u64 {
        let most = match self.kind {
            OperationKind::Flush => 0,
            OperationKind::Read | OperationKind::Write { .. } => commands.transfer_block_count_max,
            OperationKind::WriteZeroes { .. } if commands.zeroes_block_count_max == 0 => {
                (zeroes_len as u64 / u64::from(commands.block_len)).clamp(1, commands.transfer_block_count_max)
            }
            OperationKind::WriteZeroes { .. } => commands.zeroes_block_count_max,
            OperationKind::WriteUncorrectable => commands.uncorrectable_block_count_max.min(COMMAND_BLOCK_COUNT_MAX),
            OperationKind::Deallocate => commands.deallocate_block_count_max,
        };
        (self.block_count - self.done_count).min(most)
    }

    /// Takes the result of [`Self::command`], as the kernel gives it.
    pub(super) fn advance(&mut self, result: i32, commands: &Commands, zeroes_len: usize) -> Next {
        // Linux ends a command so that was with the drive when it was reset. Every command can be given again: nothing else has been done since with the
        // same blocks that the submitter did not leave to chance.
        if matches!(-i64::from(result), INTERRUPTED | AGAIN) && self.retry_count < RETRY_COUNT_MAX {
            self.retry_count += 1;
            return Next::Command;
        }
        if let Err(error) = status::device_error(result, self.kind) {
            return Next::Done(Err(error));
        }
        self.done_count += self.count(commands, zeroes_len);
        self.retry_count = 0;
        if self.done_count >= self.block_count { Next::Done(Ok(())) } else { Next::Command }
    }
}

const INTERRUPTED: i64 = libc::EINTR as i64;
const AGAIN: i64 = libc::EAGAIN as i64;

#[cfg(test)]
mod tests {
    use reactor::Arena;

    use super::*;

    const COMMANDS: Commands = Commands {
        nsid: 1,
        block_len: 512,
        transfer_block_count_max: 256,
        zeroes_block_count_max: 65536,
        zeroes_deallocate: true,
        deallocate_block_count_max: 1000,
        uncorrectable_block_count_max: 65536,
    };
    const ZEROES_LEN: usize = 64 << 10;

    fn request(kind: OperationKind, block_count: u64, data: Option<Segment>) -> Request {
        Request::new(&Operation { token: 1, host: 0, kind, start_block: 8, block_count, data })
    }

    /// All commands of an operation that goes well.
    fn course(kind: OperationKind, block_count: u64, data: Option<Segment>, commands: &Commands) -> Vec<Command> {
        let mut request = request(kind, block_count, data);
        let mut given = Vec::new();
        loop {
            given.push(request.command(commands, ZEROES_LEN));
            match request.advance(0, commands, ZEROES_LEN) {
                Next::Command => {}
                Next::Done(result) => {
                    assert_eq!(result, Ok(()));
                    return given;
                }
            }
        }
    }

    #[test]
    fn a_long_transfer_is_several_commands_each_of_them_forced() {
        let data = Arena::new(300 << 10, false).unwrap().segment().part(0, 300 << 10);
        let write = OperationKind::Write { force_unit_access: true };
        let part = |at: usize, blocks: usize| data.part(at * 512, blocks * 512);
        assert_eq!(
            course(write, 600, Some(data), &COMMANDS),
            [
                Command::Write { start: 8, count: 256, from: part(0, 256), durable: true },
                Command::Write { start: 264, count: 256, from: part(256, 256), durable: true },
                Command::Write { start: 520, count: 88, from: part(512, 88), durable: true },
            ]
        );
        assert_eq!(
            course(OperationKind::Read, 1, Some(data.part(0, 512)), &COMMANDS),
            [Command::Read { start: 8, count: 1, into: part(0, 1) }]
        );
    }

    #[test]
    fn zeroes_are_written_by_the_drive_or_out_of_memory() {
        let kind = OperationKind::WriteZeroes { deallocate: true, force_unit_access: true };
        assert_eq!(
            course(kind, 65537, None, &COMMANDS),
            [
                Command::WriteZeroes { start: 8, count: 65536, deallocate: true, durable: true },
                Command::WriteZeroes { start: 65544, count: 1, deallocate: true, durable: true },
            ]
        );
        let cautious = Commands { zeroes_deallocate: false, ..COMMANDS };
        assert_eq!(
            course(kind, 1, None, &cautious),
            [Command::WriteZeroes { start: 8, count: 1, deallocate: false, durable: true }]
        );
        let without = Commands { zeroes_block_count_max: 0, ..COMMANDS };
        assert_eq!(
            course(kind, 200, None, &without),
            [
                Command::WriteOfZeroes { start: 8, count: 128, durable: true },
                Command::WriteOfZeroes { start: 136, count: 72, durable: true },
            ]
        );
    }

    #[test]
    fn what_moves_no_data_has_limits_of_its_own() {
        assert_eq!(
            course(OperationKind::Deallocate, 1500, None, &COMMANDS),
            [Command::Deallocate { start: 8, count: 1000 }, Command::Deallocate { start: 1008, count: 500 }]
        );
        assert_eq!(
            course(OperationKind::WriteUncorrectable, 3, None, &COMMANDS),
            [Command::WriteUncorrectable { start: 8, count: 3 }]
        );
        assert_eq!(course(OperationKind::Flush, 0, None, &COMMANDS), [Command::Flush]);
    }

    #[test]
    fn an_error_ends_it_and_what_was_interrupted_is_given_again_but_not_for_ever() {
        let mut zeroes = request(OperationKind::Deallocate, 2000, None);
        assert_eq!(zeroes.advance(0, &COMMANDS, ZEROES_LEN), Next::Command);
        let error = Next::Done(Err(DeviceError::WriteFault));
        assert_eq!(zeroes.advance(0x4280, &COMMANDS, ZEROES_LEN), error);
        for errno in [libc::EINTR, libc::EAGAIN] {
            let mut read = request(OperationKind::Read, 1, None);
            let mut count = 1;
            while read.advance(-errno, &COMMANDS, ZEROES_LEN) == Next::Command {
                count += 1;
            }
            assert_eq!(count, RETRY_COUNT_MAX + 1);
        }
        let mut flush = request(OperationKind::Flush, 0, None);
        assert_eq!(flush.advance(-libc::ENODEV, &COMMANDS, 0), Next::Done(Err(DeviceError::PathLost)));
    }
}
