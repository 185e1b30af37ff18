//! After the controller is ready: its events are heard, and in the end it is told to shut down.
//!
//! One request for events is out at a time. When it has ended, what it told of is looked at, and then the next one goes out: so no more is heard than can be
//! dealt with, and what happens meanwhile the controller keeps.

use nvmf_core::host::{HostCompletion, HostError, News, async_event_request};
use nvmf_core::wire::AsyncEvent;
use reactor::Turn;

use crate::host::admin::{Admin, TAG_EVENT};
use crate::host::cpu::{HostCpu, Phase};
use crate::host::message::{Kind, Message};
use crate::host::queue::Finished;
use crate::host::workload::Workload;
use crate::verbs::Provider;

impl<P: Provider, W: Workload> HostCpu<P, W> {
    /// Asks to be told of the next event.
    pub(super) fn listen(&mut self, turn: &mut Turn<'_, Message<P>>) {
        if self.options.asynchronous_events {
            self.submit_admin(turn, TAG_EVENT, async_event_request);
        }
    }

    /// The controller has answered: something has happened, or it will not tell any more.
    pub(super) fn event_told(&mut self, turn: &mut Turn<'_, Message<P>>, finished: &Finished) {
        let completion = HostCompletion::parse(&finished.response);
        if !completion.status.is_success() {
            // Also where it shuts down or is reset [NVMe Base 2.0, 5.2].
            tracing::debug!(status = %completion.status, "the controller tells of no events");
            return;
        }
        let event = AsyncEvent::from_result(completion.result);
        if self.admin.as_mut().is_some_and(|admin| admin.begin_refresh(event)) {
            self.admin_step(turn, None);
        }
    }

    /// What an event was about has become known.
    pub(super) fn news_came(&mut self, turn: &mut Turn<'_, Message<P>>, news: Result<Box<News>, HostError>) {
        match news {
            Ok(news) if matches!(self.phase, Phase::Running(_)) => self.workload.news(&news),
            // Nobody listens any more, or not yet.
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what the controller told of could not be looked at"),
        }
        if self.admin.as_mut().is_some_and(Admin::next_task) {
            self.admin_due = true;
        } else {
            self.listen(turn);
        }
    }

    /// The I/O queues have ended: the controller is to shut down.
    pub(super) fn shut_down(&mut self) {
        let patience_ns = self.options.shutdown_timeout_ms * 1_000_000;
        if self.admin.as_mut().is_some_and(|admin| admin.begin_shutdown(patience_ns)) {
            self.admin_due = true;
        }
    }

    /// The controller has shut down, or will not: the admin queue can end.
    pub(super) fn shut_down_ended(&mut self, turn: &mut Turn<'_, Message<P>>, result: Result<(), HostError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "the controller did not shut down as it should; its connection ends all the same");
        }
        turn.send(self.control(), Message(Kind::ShutDownEnded));
    }
}
