//! What each host has done with each subsystem, also with controllers that are gone: for metrics, whose counters never go back.
//!
//! So many hosts have books of their own ([`HOST_BOOK_COUNT_MAX`]). Past that, one without a controller makes room; what it had done, and what those do that find no room,
//! is kept for each subsystem together.

use std::collections::BTreeMap;

use crate::limits::HOST_BOOK_COUNT_MAX;
use crate::qpair::header::Tally;
use crate::subsystem::{Subject, SubsystemId};
use crate::wire::Nqn;

/// One host, or several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Book {
    /// What its controllers had done that are gone.
    pub(super) past: Tally,
    /// Controllers that it was given.
    pub(super) connect_count: u64,
    /// Those that it has.
    pub(super) controller_count: u64,
}

/// All of them.
#[derive(Default)]
pub(super) struct Books {
    hosts: BTreeMap<(Subject, Nqn), Book>,
    others: BTreeMap<Subject, Book>,
}

impl Books {
    /// A host is given a controller. Whether that is in a book of its own.
    pub(super) fn begin(&mut self, subject: Subject, host: &Nqn) -> bool {
        let name = (subject, host.clone());
        let is_own = self.hosts.contains_key(&name) || self.hosts.len() < HOST_BOOK_COUNT_MAX || self.make_room();
        let book = self.book(subject, host, is_own);
        book.connect_count += 1;
        book.controller_count += 1;
        is_own
    }

    /// One is gone that was begun in that book, and had done this.
    pub(super) fn end(&mut self, subject: Subject, host: &Nqn, is_own: bool, tally: Tally) {
        let book = self.book(subject, host, is_own);
        book.past += tally;
        // A book goes with its subsystem only, or without a controller; nothing relies on that.
        book.controller_count = book.controller_count.saturating_sub(1);
    }

    /// A subsystem is gone.
    pub(super) fn forget(&mut self, subsystem: SubsystemId) {
        self.hosts.retain(|(subject, _), _| *subject != Subject::Nvm(subsystem));
        self.others.remove(&Subject::Nvm(subsystem));
    }

    /// By subsystem and host; `None` stands for those that have none of their own.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Subject, Option<&Nqn>, &Book)> {
        let hosts = self.hosts.iter().map(|((subject, host), book)| (*subject, Some(host), book));
        hosts.chain(self.others.iter().map(|(subject, book)| (*subject, None, book)))
    }

    fn book(&mut self, subject: Subject, host: &Nqn, is_own: bool) -> &mut Book {
        if is_own {
            self.hosts.entry((subject, host.clone())).or_default()
        } else {
            self.others.entry(subject).or_default()
        }
    }

    fn make_room(&mut self) -> bool {
        let idle = self.hosts.iter().find(|(_, book)| book.controller_count == 0).map(|(name, _)| name.clone());
        let Some((name, book)) = idle.and_then(|name| self.hosts.remove_entry(&name)) else { return false };
        let others = self.others.entry(name.0).or_default();
        others.past += book.past;
        others.connect_count += book.connect_count;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject::Nvm(SubsystemId(1));

    fn host(number: usize) -> Nqn {
        Nqn::new(&format!("nqn.2026-11.io.quiesce:host{number}")).unwrap()
    }

    fn reads(count: u64) -> Tally {
        Tally { read_count: count, read_bytes: 512 * count, ..Tally::default() }
    }

    fn sum(books: &Books) -> (u64, u64) {
        let of = |number: fn(&Book) -> u64| books.iter().map(|(_, _, book)| number(book)).sum();
        (of(|book| book.past.read_count), of(|book| book.connect_count))
    }

    #[test]
    fn what_was_done_is_kept_over_reconnects() {
        let mut books = Books::default();
        for count in [3, 4] {
            assert!(books.begin(SUBJECT, &host(0)));
            books.end(SUBJECT, &host(0), true, reads(count));
        }
        let (subject, name, book) = books.iter().next().unwrap();
        assert_eq!((subject, name), (SUBJECT, Some(&host(0))));
        assert_eq!((book.past, book.connect_count, book.controller_count), (reads(7), 2, 0));
        books.forget(SubsystemId(1));
        assert_eq!(books.iter().count(), 0);
    }

    #[test]
    fn there_are_so_many_and_nothing_is_lost_past_that() {
        let mut books = Books::default();
        for number in 0..HOST_BOOK_COUNT_MAX {
            assert!(books.begin(SUBJECT, &host(number)));
        }
        assert!(!books.begin(SUBJECT, &host(HOST_BOOK_COUNT_MAX)), "all have controllers");
        books.end(SUBJECT, &host(9), true, reads(7));
        assert!(books.begin(SUBJECT, &host(HOST_BOOK_COUNT_MAX)), "that one makes room");
        assert!(books.iter().all(|(_, name, _)| name != Some(&host(9))));
        books.end(SUBJECT, &host(HOST_BOOK_COUNT_MAX), false, reads(5));
        assert_eq!(books.iter().map(|(_, _, book)| book.controller_count).sum::<u64>(), HOST_BOOK_COUNT_MAX as u64);
        assert_eq!(books.iter().count(), HOST_BOOK_COUNT_MAX + 1);
        assert_eq!(sum(&books), (12, HOST_BOOK_COUNT_MAX as u64 + 2));
    }
}
