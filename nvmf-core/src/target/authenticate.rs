//! The control plane's part of authentication: who has which keys, and the work that poll groups ask for.
//!
//! Keys stay here: poll groups know only who has to authenticate. A question waits in line until the program has somebody free ([`Target::next_job`]), gets its
//! keys then, and so those that hold at that moment, and comes back as an answer ([`Target::job_done`]).

use reactor::{Full, Turn};

use super::Target;
use super::change::{ChangeError, ChangeId, Task};
use crate::auth::{Answer, Done, Failure, GroupSet, HashSet, Job, Outcome, Question, Work};
use crate::message::{Letter, Message};
use crate::spec::HostKeys;

impl Target {
    /// The host may use the subsystem once it has proven that it has this key. Done when it can.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_host_with_keys(&mut self, nqn: &str, keys: HostKeys) -> Result<ChangeId, ChangeError> {
        // Both in one snapshot: the host is never let in without.
        let change = self.add_host(nqn, &keys.host)?;
        self.subsystems.find_mut(nqn)?.spec.host_keys.push(keys);
        Ok(change)
    }

    /// The host's keys are these from now on; `None`: it need not authenticate. Who is connected stays. Done when it holds.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn set_keys(&mut self, nqn: &str, host: &str, keys: Option<HostKeys>) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        let entry = self.subsystems.find_mut(nqn)?;
        entry.has_host(host)?;
        entry.spec.host_keys.retain(|known| known.host != host);
        entry.spec.host_keys.extend(keys.map(|keys| HostKeys { host: host.into(), ..keys }));
        Ok(self.begin(Task::Publish))
    }

    /// Hash functions and groups that exchanges may use from now on. Done when it holds.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn set_authentication(&mut self, hashes: HashSet, groups: GroupSet) -> Result<ChangeId, ChangeError> {
        self.may_change()?;
        self.subsystems.authentication = (hashes, groups);
        Ok(self.begin(Task::Publish))
    }

    /// Hash functions and groups that exchanges may use.
    #[must_use]
    pub fn authentication(&self) -> (HashSet, GroupSet) {
        self.subsystems.authentication
    }

    /// Work that may be begun, with `running_max` at a time: to be performed off the polling CPUs, and given back to [`Self::job_done`]. To be asked after each
    /// turn in which this part had something to do, until there is none.
    pub fn next_job<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, running_max: usize) -> Option<Job> {
        while let Some(question) = self.questions.next(turn.now_ns(), running_max) {
            let peer = question.peer;
            match self.job(question) {
                Ok(job) => return Some(job),
                Err(answer) => {
                    self.questions.ended(peer);
                    Self::send_answer(turn, answer);
                }
            }
        }
        None
    }

    /// A job is done.
    pub fn job_done<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, done: Done) {
        self.questions.ended(done.peer);
        Self::send_answer(turn, done.answer);
    }

    /// Jobs that wait, and jobs that are being done.
    #[must_use]
    pub fn job_counts(&self) -> (usize, usize) {
        self.questions.counts()
    }

    pub(super) fn ask<M: From<Message>>(&mut self, turn: &mut Turn<'_, M>, question: Box<Question>) {
        if let Err(Full(question)) = self.questions.push(question) {
            Self::send_answer(turn, Box::new(question.answer(Outcome::Busy)));
        }
    }

    fn job(&mut self, question: Box<Question>) -> Result<Job, Box<Answer>> {
        let failed = |question: Question| Box::new(question.answer(|_| Outcome::Failed(Failure::Failed)));
        let Some(entry) = self.subsystems.look(question.subsystem).filter(|entry| !entry.is_leaving) else {
            return Err(failed(*question));
        };
        let keys = entry.spec.host_keys.iter().find(|keys| keys.host == question.host.as_str());
        // Taken away since: nobody can be sure of this host any more.
        let Some(keys) = keys else { return Err(failed(*question)) };
        let controller_secret = keys.controller_key.as_ref().map(|key| key.secret.clone());
        let subsystem_nqn = entry.nqn().clone();
        let host_secret = keys.key.secret.clone();
        let sequence = self.next_sequence;
        if matches!(question.work, Work::Challenge { .. }) {
            // 0 is skipped [NVMe Base 2.0, 8.13.5.3].
            self.next_sequence = sequence.checked_add(1).unwrap_or(1);
        }
        Ok(Job { question, host_secret, controller_secret, subsystem_nqn, sequence })
    }

    fn send_answer<M: From<Message>>(turn: &mut Turn<'_, M>, answer: Box<Answer>) {
        turn.send(answer.qpair.cpu, Message(Letter::Authenticated(answer)).into());
    }
}
