//! A response as the host reads it.

use crate::host::step::HostError;
use crate::status::Status;
use crate::wire::{CompletionEntry, ConnectRefusal, ConnectResult};

/// Controller ids from here on are reserved [NVMe over Fabrics 1.1, 3.3].
const CONTROLLER_ID_RESERVED: u16 = 0xFFF0;

/// What a Connect came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The controller's id.
    pub controller_id: u16,
    /// The queue carries nothing else until the host has authenticated on it ([`crate::host::Authenticate`]).
    pub must_authenticate: bool,
}

/// How a Connect ended, of any queue.
///
/// # Errors
/// [`HostError`] names the parameter that was refused, or what the controller asks for that this host cannot do.
pub fn connect_outcome(completion: &[u8; 16]) -> Result<Connected, HostError> {
    let completion = HostCompletion::parse(completion).success("Connect")?;
    let result = ConnectResult::from_result(completion.result);
    if result.authentication & ConnectResult::AUTHENTICATION_CHANNEL != 0 {
        return Err(HostError::peer("the controller asks for a secure channel (ASCR), which this host cannot make"));
    }
    if result.controller_id >= CONTROLLER_ID_RESERVED {
        return Err(HostError::peer(format!(
            "Connect gave controller id {:#06x}, which is reserved",
            result.controller_id
        )));
    }
    let must_authenticate = result.authentication & ConnectResult::AUTHENTICATION_TRANSACTION != 0;
    Ok(Connected { controller_id: result.controller_id, must_authenticate })
}

/// A response as the host reads it. Any 16 bytes are one: whether `command_id` is one that is out is the queue's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCompletion {
    /// Which command.
    pub command_id: u16,
    /// How far the controller has fetched; 0xFFFF where SQ flow control is off.
    pub sq_head: u16,
    /// How it ended.
    pub status: Status,
    /// DW0 and DW1.
    pub result: u64,
}

impl HostCompletion {
    /// Reads all fields.
    #[must_use]
    pub const fn parse(bytes: &[u8; 16]) -> Self {
        let entry = CompletionEntry::from_bytes(*bytes);
        Self {
            command_id: entry.command_id.get(),
            sq_head: entry.sq_head.get(),
            status: entry.status(),
            result: entry.result.get(),
        }
    }

    /// Itself, if the command did what it should. `command` is its name in words.
    ///
    /// # Errors
    /// [`HostError::Status`].
    pub fn success(self, command: &'static str) -> Result<Self, HostError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let status = if command == "Connect" { self.connect_refusal() } else { self.status.to_string() };
        Err(HostError::Status { command, status })
    }

    /// Why Connect failed, and what to do about the likeliest causes.
    fn connect_refusal(self) -> String {
        let refused = ConnectRefusal::from_result(self.result);
        if self.status.is(Status::CONNECT_INVALID_PARAMETERS) && refused == ConnectRefusal::SUBSYSTEM_NQN {
            "the target has no subsystem of this name (subnqn) at this address; its discovery log lists those that it has".to_owned()
        } else if self.status.is(Status::CONNECT_INVALID_PARAMETERS) {
            format!("invalid parameter: {}", refused.field())
        } else if self.status.is(Status::CONNECT_INVALID_HOST) {
            "the subsystem does not allow this host's NQN".to_owned()
        } else if self.status.is(Status::CONNECT_CONTROLLER_BUSY) {
            "the controller is busy: the target takes no more now, is shutting down, or another host has the one that was asked for; try again later".to_owned()
        } else {
            self.status.to_string()
        }
    }

    /// DW0.
    #[must_use]
    pub const fn dword0(&self) -> u32 {
        let [a, b, c, d, ..] = self.result.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_bytes() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0xEE, 0xEE, 0x34, 0x12, 0x05, 0x80];
        let completion = HostCompletion::parse(&bytes);
        assert_eq!(completion.command_id, 0x1234);
        assert_eq!(completion.sq_head, 9);
        // The phase tag means nothing over fabrics.
        assert_eq!(completion.status, Status::INVALID_FIELD);
        assert_eq!(completion.result, 0x0807_0605_0403_0201);
        assert_eq!(completion.dword0(), 0x0403_0201);
    }

    #[test]
    fn how_a_connect_ended() {
        let end = |status, result| connect_outcome(&CompletionEntry::new(1, status).with_result(result).to_bytes());
        assert_eq!(end(Status::SUCCESS, 7), Ok(Connected { controller_id: 7, must_authenticate: false }));
        assert_eq!(end(Status::SUCCESS, 0x2_0007), Ok(Connected { controller_id: 7, must_authenticate: true }));
        let words = |status, result| end(status, result).unwrap_err().to_string();
        assert!(words(Status::SUCCESS, 0x4_0007).contains("secure channel"));
        assert!(words(Status::SUCCESS, 0xFFFF).contains("0xffff"));
        let refused = words(Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::QUEUE_SIZE.to_result());
        assert!(refused.starts_with("Connect failed") && refused.ends_with(": queue size"), "{refused}");
        // Codes that mean something else for an I/O command are told as what they are here.
        let unknown = words(Status::CONNECT_INVALID_PARAMETERS, ConnectRefusal::SUBSYSTEM_NQN.to_result());
        assert!(unknown.contains("subnqn") && !unknown.contains("I/O"), "{unknown}");
        assert!(words(Status::CONNECT_INVALID_HOST, 0).ends_with("host's NQN"));
        assert!(words(Status::CONNECT_CONTROLLER_BUSY, 0).contains("try again"));
        assert!(words(Status::INVALID_QUEUE_ID, 0).contains("invalid queue identifier"));
    }
}
