//! The last devices that came and went, for programs that follow (`notify_get_notifications`).

use std::collections::VecDeque;

/// More are forgotten, the oldest first, as in SPDK.
pub const NOTIFICATION_COUNT_MAX: usize = 1024;

/// What is told, by SPDK's names.
pub const KINDS: [&str; 2] = [REGISTERED, UNREGISTERED];

/// A device came.
pub const REGISTERED: &str = "bdev_register";
/// A device went.
pub const UNREGISTERED: &str = "bdev_unregister";

/// See the module.
#[derive(Debug, Default)]
pub struct Notifications {
    /// Kinds and names.
    last: VecDeque<(&'static str, String)>,
    /// The id of the first of them.
    first_id: u64,
}

impl Notifications {
    /// Something came or went.
    pub fn add(&mut self, kind: &'static str, name: &str) {
        if self.last.len() == NOTIFICATION_COUNT_MAX {
            self.last.pop_front();
            self.first_id += 1;
        }
        self.last.push_back((kind, name.to_owned()));
    }

    /// With their ids, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &(&'static str, String))> {
        (self.first_id..).zip(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_ids_go_on() {
        let mut notifications = Notifications::default();
        for number in 0..NOTIFICATION_COUNT_MAX + 3 {
            notifications.add(REGISTERED, &number.to_string());
        }
        let known: Vec<_> = notifications.iter().collect();
        assert_eq!(known.len(), NOTIFICATION_COUNT_MAX);
        assert_eq!((known[0].0, known[0].1.1.as_str()), (3, "3"));
    }
}
