//! Everything that turns bytes into values, and back where there is a way back.

use std::sync::LazyLock;

use fuzz::{Bytes, Features};
use nvmf_core::auth::Secret;
use nvmf_core::command::{Command, QueueKind};
use nvmf_core::host::{HostCompletion, ReservationReport, connect_outcome};
use nvmf_core::wire::auth::{ControllerMessage, HostMessage};
use nvmf_core::wire::{ConnectData, Nqn, SglDescriptor, trim_text};
use reactor::{Arena, Segment};

/// Where in-capsule data is.
static MEMORY: LazyLock<Segment> = LazyLock::new(|| Arena::new(4096, false).unwrap().segment());

/// See the module.
pub(crate) fn run(input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let choice = bytes.u8() % 11;
    // Whether it is something, and a little of what.
    let seen: u64 = match choice {
        0 | 1 => {
            let queue = if choice == 0 { QueueKind::Admin } else { QueueKind::Io };
            let command: [u8; 64] = bytes.array();
            let seen = u64::from(command[0]) << 8;
            seen | match Command::parse(queue, &command) {
                Ok(_) => 0xFF,
                Err(error) => u64::from(error.status().to_field() >> 1 & 0x7F),
            }
        }
        2 => {
            let data = bytes.clone().array::<1024>();
            let segment = MEMORY.part(0, usize::from(bytes.u16() % 1025));
            segment.write(0, &data[..segment.len()]);
            let command: [u8; 64] = bytes.array();
            u64::from(Command::parse_capsule(QueueKind::Io, &command, Some(segment)).is_ok())
        }
        3 => {
            // Four is what its offsets are: zeroes after the input.
            let mut data = bytes.take(1024).to_vec();
            data.resize(1024, 0);
            u64::from(ConnectData::parse(&data).is_ok())
        }
        4 => match HostMessage::parse(bytes.take(2048)) {
            Ok((transaction, message)) => {
                let kind =
                    format!("{message:?}").bytes().take(8).fold(0, |sum: u64, byte| sum * 31 % 4096 + u64::from(byte));
                u64::from(transaction != 0) << 16 | kind
            }
            Err(_) => 1,
        },
        5 => u64::from(ControllerMessage::parse(bytes.take(2048)).is_ok()),
        6 => {
            let descriptor = SglDescriptor::from_bytes(bytes.array());
            if let Ok(pointer) = descriptor.parse()
                && let Some(again) = pointer.to_descriptor()
            {
                assert_eq!(again.parse(), Ok(pointer), "there and back");
            }
            u64::from(descriptor.identifier())
        }
        7 => {
            let field: [u8; 256] = bytes.array();
            if let Ok(name) = Nqn::from_field(&field) {
                assert_eq!(Nqn::from_field(&name.to_field()), Ok(name.clone()), "there and back");
                assert_eq!(Nqn::new(name.as_str()), Ok(name));
            }
            u64::from(trim_text(&field).len() as u64 > 0)
        }
        8 => ReservationReport::parse(bytes.take(4096)).is_some().into(),
        9 => {
            let completion = bytes.array();
            let parsed = HostCompletion::parse(&completion);
            let _ = (parsed.dword0(), parsed.success("a command"), connect_outcome(&completion).is_ok());
            u64::from(parsed.status.is_success())
        }
        _ => {
            let text = String::from_utf8_lossy(bytes.take(200));
            if let Ok(secret) = Secret::parse(&text) {
                assert_eq!(*secret.to_text(), *text, "there and back");
                2
            } else {
                u64::from(Secret::parse(&format!("DHHC-1:00:{text}:")).is_ok())
            }
        }
    };
    [u64::from(choice) << 32 | seen].into()
}
