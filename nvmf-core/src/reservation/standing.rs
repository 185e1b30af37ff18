//! What I/O commands need to know of a reservation, as every CPU sees it in the snapshot: small, immutable, and without a host identifier.

use super::HostNumber;
use crate::wire::reservation::ReservationType;

/// What a command does to a namespace, as reservations divide commands [NVMe Base 2.0, figure 'Command Behavior in the Presence of a Reservation';
/// NVM Command Set 1.0, 'Reservations'].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The read group: Read, Compare, Verify.
    Read,
    /// The write group: Write, Write Zeroes, Write Uncorrectable, Dataset Management, Copy, Flush.
    Write,
    /// Reservation commands, which have rules of their own.
    Reservation,
}

/// A reservation that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    kind: ReservationType,
    holder: HostNumber,
    /// Ascending. Empty where registrants have no more rights than others.
    registrants: Box<[HostNumber]>,
}

impl Standing {
    pub(super) fn new(
        kind: ReservationType,
        holder: HostNumber,
        registrants: impl Iterator<Item = HostNumber>,
    ) -> Self {
        let mut registrants: Box<[HostNumber]> = registrants.collect();
        registrants.sort_unstable();
        Self { kind, holder, registrants }
    }

    /// Whether a host's command may be carried out.
    pub(crate) fn admits(&self, host: HostNumber, access: Access) -> bool {
        let is_kept_out = match access {
            Access::Read => self.kind.excludes_reads(),
            Access::Write => true,
            Access::Reservation => false,
        };
        !is_kept_out || self.is_privileged(host)
    }

    fn is_privileged(&self, host: HostNumber) -> bool {
        if self.kind.admits_registrants() { self.registrants.binary_search(&host).is_ok() } else { self.holder == host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: HostNumber = HostNumber(5);
    const REGISTRANT: HostNumber = HostNumber(2);
    const STRANGER: HostNumber = HostNumber(9);

    /// [NVMe Base 2.0, figure 'Command Behavior in the Presence of a Reservation']: what the holder, a registrant that does not hold it and a host that
    /// is no registrant may do. A registrant holds what all registrants hold.
    const TABLE: &str = "\
WriteExclusive             read  holder yes, registrant yes, stranger yes
WriteExclusive             write holder yes, registrant no , stranger no
ExclusiveAccess            read  holder yes, registrant no , stranger no
ExclusiveAccess            write holder yes, registrant no , stranger no
WriteExclusiveRegistrants  read  holder yes, registrant yes, stranger yes
WriteExclusiveRegistrants  write holder yes, registrant yes, stranger no
ExclusiveAccessRegistrants read  holder yes, registrant yes, stranger no
ExclusiveAccessRegistrants write holder yes, registrant yes, stranger no
WriteExclusiveAll          read  holder yes, registrant yes, stranger yes
WriteExclusiveAll          write holder yes, registrant yes, stranger no
ExclusiveAccessAll         read  holder yes, registrant yes, stranger no
ExclusiveAccessAll         write holder yes, registrant yes, stranger no
";

    #[test]
    fn the_whole_table() {
        let mut text = String::new();
        for kind in ReservationType::ALL {
            let registrants = [HOLDER, REGISTRANT].into_iter().filter(|_| kind.admits_registrants());
            let standing = Standing::new(kind, HOLDER, registrants);
            for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
                let word = |host| if standing.admits(host, access) { "yes" } else { "no " };
                let (holder, registrant, stranger) = (word(HOLDER), word(REGISTRANT), word(STRANGER));
                let line = format!(
                    "{:<26} {name:<5} holder {holder}, registrant {registrant}, stranger {stranger}",
                    format!("{kind:?}")
                );
                text.push_str(line.trim_end());
                text.push('\n');
            }
            for host in [HOLDER, REGISTRANT, STRANGER] {
                assert!(standing.admits(host, Access::Reservation), "these are checked where they are carried out");
            }
        }
        assert_eq!(text, TABLE);
    }
}
