//! How changes go on: each a step whenever what it waits for has come.

use reactor::{Cpu, Gathering, Turn};

use super::Target;
use super::change::{Change, ChangeId, Task, Wait};
use crate::message::{Letter, Message};
use crate::order::Order;
use crate::withdrawal::Audience;

impl Target {
    /// Each change goes on whose wait is over. False if none could.
    pub(super) fn advance_changes<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>) -> bool {
        let mut has_moved = false;
        let mut under_way = std::mem::take(&mut self.changes.under_way);
        for change in &mut under_way {
            let Some(wait) = change.wait.take() else { continue };
            match self.next_wait(turn, change, wait) {
                Ok(next) => {
                    change.wait = next;
                    has_moved = true;
                }
                Err(same) => change.wait = Some(same),
            }
        }
        for change in under_way.iter_mut().filter(|change| change.wait.is_none()) {
            self.done.push_back(change.id);
            self.failures.extend(change.failure.take().map(|why| (change.id, why)));
        }
        under_way.retain(|change| change.wait.is_some());
        self.changes.under_way = under_way;
        has_moved
    }

    /// What it waits for next, `None` when it is done; or still for this.
    fn next_wait<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        change: &Change,
        wait: Wait,
    ) -> Result<Option<Wait>, Wait> {
        match (wait, &change.task) {
            (wait @ (Wait::Publishing | Wait::Forgetting), _) if self.is_stale => Err(wait),
            (Wait::Telling(answers), _) if !answers.is_complete() => Err(Wait::Telling(answers)),
            (Wait::Collecting(answers), _) if !answers.is_complete() => Err(Wait::Collecting(answers)),

            (Wait::Making, _) if change.failure.is_some() => Ok(None),
            (Wait::Making, Task::MakeDevice(device)) if self.devices.device(*device).is_some() => {
                let device = *device;
                // A CPU for which no channel was made has none: its commands are told that the namespace is not ready.
                let opened = self
                    .order(turn, change, |target| target.devices.next_way(device).map(|way| Order::Open(device, way)));
                Ok(Some(Wait::Telling(opened)))
            }
            (Wait::Making, _) => Err(Wait::Making),
            (Wait::Telling(_), Task::MakeDevice(device)) => {
                self.devices.opened(*device);
                Ok(None)
            }

            (Wait::Publishing, Task::CloseDevice(device) | Task::RemoveNamespace(device)) => {
                let awaited = self.order(turn, change, |_| Some(Order::Await(*device)));
                Ok(Some(Wait::Telling(awaited)))
            }
            (Wait::Telling(_), Task::RemoveNamespace(device)) => {
                self.devices.free(*device);
                Ok(None)
            }
            (Wait::Telling(_), Task::CloseDevice(device)) => {
                let closed = self.order(turn, change, |_| Some(Order::Close(*device)));
                Ok(Some(Wait::Collecting(closed)))
            }
            (Wait::Collecting(_), Task::CloseDevice(device)) => {
                self.retired.extend(self.devices.remove(*device));
                Ok(None)
            }

            (Wait::Publishing, Task::Pause { subsystem, devices }) => {
                let pause = |_: &mut Self| Some(Order::Pause { subsystem: *subsystem, devices: devices.clone() });
                Ok(Some(Wait::Telling(self.order(turn, change, pause))))
            }
            (Wait::Publishing, Task::Resume { subsystem }) => {
                let resume = |_: &mut Self| Some(Order::Resume { subsystem: *subsystem });
                Ok(Some(Wait::Telling(self.order(turn, change, resume))))
            }

            (Wait::Publishing, Task::ResetDevices(devices)) => {
                let reset = |_: &mut Self| Some(Order::Reset(devices.clone()));
                Ok(Some(Wait::Telling(self.order(turn, change, reset))))
            }
            (Wait::Telling(_), Task::ResetDevices(devices)) => {
                let end = |_: &mut Self| Some(Order::EndReset(devices.clone()));
                Ok(Some(Wait::Collecting(self.order(turn, change, end))))
            }

            (Wait::Publishing, Task::Withdraw(withdrawal)) => {
                let letter =
                    |_: &mut Self| Some(Letter::Withdraw { change: change.id, withdrawal: withdrawal.clone() });
                Ok(Some(Wait::Telling(self.tell(turn, letter))))
            }
            (Wait::Telling(_), Task::Withdraw(withdrawal)) if withdrawal.from == Audience::Everybody => {
                Ok(Some(Wait::Emptying))
            }
            (Wait::Emptying, Task::Withdraw(withdrawal)) if self.controllers.count_of(withdrawal.subsystem) > 0 => {
                Err(Wait::Emptying)
            }
            (Wait::Emptying, Task::Withdraw(withdrawal)) => {
                for device in self.subsystems.forget(withdrawal.subsystem) {
                    self.devices.free(device);
                }
                self.controllers.forget(withdrawal.subsystem);
                self.is_stale = true;
                Ok(Some(Wait::Forgetting))
            }

            (Wait::Publishing | Wait::Telling(_) | Wait::Collecting(_) | Wait::Emptying | Wait::Forgetting, _) => {
                Ok(None)
            }
        }
    }

    fn order<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        change: &Change,
        order: impl FnMut(&mut Self) -> Option<Order>,
    ) -> Gathering<()> {
        self.order_all(turn, change.id, order)
    }

    /// Every polling CPU for which there is an order gets it, and answers by this name.
    pub(super) fn order_all<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        change: ChangeId,
        mut order: impl FnMut(&mut Self) -> Option<Order>,
    ) -> Gathering<()> {
        let letter = |target: &mut Self| Some(Letter::Order { change, order: Box::new(order(target)?) });
        self.tell(turn, letter)
    }

    /// Only the polling CPUs are told: a mesh may hold other programs too.
    fn tell<M: From<Message>>(
        &mut self,
        turn: &mut Turn<'_, M>,
        mut letter: impl FnMut(&mut Self) -> Option<Letter>,
    ) -> Gathering<()> {
        let letters: Vec<(Cpu, Letter)> =
            (0..self.directory.cpu_count()).filter_map(|cpu| Some((Cpu(cpu), letter(self)?))).collect();
        let cpus: Vec<Cpu> = letters.iter().map(|(cpu, _)| *cpu).collect();
        let mut letters = letters.into_iter();
        Gathering::ask_some(turn, cpus, |_| match letters.next() {
            Some((_, letter)) => Message(letter).into(),
            None => unreachable!("a letter for each CPU"),
        })
    }
}
