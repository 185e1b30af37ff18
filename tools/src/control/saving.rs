//! Keeps what requests change in a file of the state directory (`target.save_changes`), so that it holds again at the next start.
//!
//! A request that changes something is answered when its change is on stable storage. One write is under way at a time; what is changed meanwhile goes with the
//! next one.

use nvmf_core::ChangeId;
use reactor::Turn;
use transport_rdma::target::Message;
use transport_rdma::verbs::Provider;

use super::desk::Desk;
use crate::present;
use crate::saved::SavedFile;

/// A change that is done and not answered yet, with why it came to nothing.
type Held = (ChangeId, Option<String>);

/// See the module.
pub(super) struct Saving {
    file: SavedFile,
    /// What the file says, as far as is known.
    saved: Option<String>,
    /// Something may have changed.
    is_due: bool,
    held: Vec<Held>,
    writing: Option<Writing>,
}

/// What is being written, and who waits for it.
struct Writing {
    change: ChangeId,
    text: String,
    held: Vec<Held>,
}

impl Saving {
    pub(super) fn new(file: SavedFile) -> Self {
        Self { file, saved: None, is_due: true, held: Vec::new(), writing: None }
    }

    /// A request was performed: something may be different now.
    pub(super) fn note(&mut self) {
        self.is_due = true;
    }

    /// A change is done. It is given back when it can be answered: at once only if it is a write of this file's.
    pub(super) fn take(&mut self, change: ChangeId, failure: Option<String>) -> Vec<Held> {
        let Some(writing) = self.writing.take_if(|writing| writing.change == change) else {
            self.is_due = true;
            self.held.push((change, failure));
            return Vec::new();
        };
        match failure {
            None => {
                self.saved = Some(writing.text);
                writing.held
            }
            Some(why) => {
                // It is tried again with the next change.
                self.saved = None;
                let told =
                    |failure: Option<String>| failure.or(Some(format!("it is done, and could not be saved: {why}")));
                writing.held.into_iter().map(|(change, failure)| (change, told(failure))).collect()
            }
        }
    }

    /// Begins to write what is to be written. Gives back what can be answered without.
    pub(super) fn save<P: Provider>(&mut self, desk: &mut Desk<P>, turn: &mut Turn<'_, Message<P>>) -> Vec<Held> {
        if self.writing.is_some() || !self.is_due {
            return Vec::new();
        }
        self.is_due = false;
        let held = std::mem::take(&mut self.held);
        let file = self.file.clone();
        let text = desk.with_view(turn, |view| file.text(view.asked.started(), &present::config(&view)));
        if self.saved.as_ref() == Some(&text) {
            return held;
        }
        match desk.control.begin_work(turn) {
            Ok(change) => {
                let written = text.clone();
                desk.worker.work(Some(change), None, Box::new(move || file.write(&written)));
                self.writing = Some(Writing { change, text, held });
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "what requests have changed is not saved now");
                self.is_due = true;
                held
            }
        }
    }
}
