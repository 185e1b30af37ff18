//! Destroys on their way: each waits for its seeded number of looks, then for what may still touch the object.

use super::TicketKinds;
use super::link::Link;
use super::options::Calls;
use super::provider::InProcessProvider;
use crate::soft::nic::QueuePairSerial;
use crate::verbs::{Charge, ConnectionId, Event, ListenerId, RegisteredMemory, Ticket, VerbsError};

/// What is being ended.
pub(super) enum What {
    Deregister(RegisteredMemory),
    QueuePair {
        connection: ConnectionId,
        serial: QueuePairSerial,
        number: u32,
        link: Option<Link>,
        fails: bool,
    },
    Connection(ConnectionId),
    Unlisten(ListenerId),
    /// No end, but a beginning.
    Reopen,
}

impl What {
    /// For choices: what its end is called.
    fn name(&self) -> &'static str {
        match self {
            Self::Deregister(_) => "end of a deregistration",
            Self::QueuePair { .. } => "end of a queue pair's destruction",
            Self::Connection(_) => "end of a connection's destruction",
            Self::Unlisten(_) => "end of a listener",
            Self::Reopen => "a look for the device",
        }
    }
}

/// One call that has begun and not ended.
pub(super) struct Ending {
    ticket: Ticket,
    remaining: u32,
    what: What,
}

impl InProcessProvider {
    pub(super) fn begin_ending(&mut self, ticket: Ticket, what: What) {
        let remaining = self.delay(what.name());
        self.endings.push(Ending { ticket, remaining, what });
    }

    /// One look at each.
    pub(super) fn progress_endings(&mut self) {
        for mut ending in std::mem::take(&mut self.endings) {
            if ending.remaining > 0 {
                ending.remaining -= 1;
                self.endings.push(ending);
            } else if self.may_end(&ending.what) {
                self.end(ending);
            } else {
                self.endings.push(ending);
            }
        }
    }

    fn may_end(&self, what: &What) -> bool {
        let never_ending = self.world().machine(self.machine).options.never_ending;
        match what {
            What::Deregister(region) => {
                let is_copying = region.remote_key != 0 && self.world().is_copying(self.machine, region.remote_key);
                !never_ending.contains(TicketKinds::DEREGISTER) && !is_copying
            }
            What::QueuePair { connection, serial, link, .. } => {
                !never_ending.contains(TicketKinds::DESTROY_QUEUE_PAIR)
                    && !self.is_leaving(*serial)
                    && !self.is_charged(Charge::QueuePair(*connection))
                    && link.as_ref().is_none_or(|link| self.world().is_quiet(link))
            }
            What::Connection(id) => {
                !never_ending.contains(TicketKinds::DESTROY_CONNECTION) && !self.is_charged(Charge::Connection(*id))
            }
            What::Reopen => true,
            What::Unlisten(id) => {
                !never_ending.contains(TicketKinds::UNLISTEN) && !self.is_charged(Charge::Listener(*id))
            }
        }
    }

    /// Whether the port's CPU still has its part to do.
    fn is_leaving(&self, serial: QueuePairSerial) -> bool {
        let mut world = self.world();
        let machine = world.machine(self.machine);
        let port = machine.queue_pairs.get(&serial).map(|record| record.port);
        port.is_some_and(|port| machine.port(port).leaving.iter().any(|leaving| leaving.serial == serial))
    }

    fn end(&mut self, ending: Ending) {
        let Ending { ticket, what, .. } = ending;
        let event = match what {
            What::Deregister(_) => Event::Deregistered { ticket },
            What::QueuePair { connection, serial, number, link, fails } => {
                if let Some(link) = link {
                    self.world().close(&link);
                }
                self.discard_events(Charge::QueuePair(connection));
                if let Some(record) = self.connections.get_mut(&connection) {
                    record.queue_pair = None;
                }
                self.free_number(number);
                self.queue_pair_count -= 1;
                self.world().machine(self.machine).queue_pairs.remove(&serial);
                // It is gone all the same.
                let result = if fails { Err(destroy_error()) } else { Ok(()) };
                Event::QueuePairDestroyed { ticket, result }
            }
            What::Connection(id) => {
                // Events that came since the call.
                self.discard_events(Charge::Connection(id));
                self.remove_connection(id);
                Event::ConnectionDestroyed { ticket }
            }
            What::Unlisten(_) => {
                self.listener_ended();
                Event::Unlistened { ticket }
            }
            What::Reopen => Event::DeviceReopened { ticket, result: self.reopened() },
        };
        self.push_event(event);
    }
}

/// What a destroy on a broken device ends with.
fn destroy_error() -> VerbsError {
    let source = std::io::Error::from_raw_os_error(libc::EIO);
    VerbsError::System { call: Calls::DESTROY_QUEUE_PAIR.name(), source }
}
