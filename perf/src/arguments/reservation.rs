//! The command line of `nvmf-perf reservation`: nvme-cli's `resv-…` commands, with its options as other names of ours.

use clap::{Args, Subcommand, ValueEnum};
use nvmf_core::wire::reservation::{AcquireAction, RegisterAction, ReleaseAction, ReservationType};

/// Reservations of one namespace.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum Reservation {
    /// Registers the host's key, replaces it, or takes it back
    Register(Register),
    /// Acquires the reservation, or preempts it from other hosts
    Acquire(Acquire),
    /// Releases the reservation, or clears it with all registrations
    Release(Release),
    /// Prints who has registered, and who holds the reservation
    Report,
    /// Registers, and then replaces the host's key by the next number, over and over: measures what a change takes, and says which was answered last
    Rotate(Rotate),
}

/// `nvme resv-register`.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Register {
    /// What becomes of the registration
    #[arg(long, value_enum, default_value_t = Rrega::Register, alias = "rrega")]
    pub(crate) action: Rrega,
    /// The host's key now, decimal or 0x…; not to register
    #[arg(long, alias = "crkey", value_name = "KEY", default_value = "0", value_parser = parse_key)]
    pub(crate) key: u64,
    /// The key that it is to have; not to unregister
    #[arg(long, alias = "nrkey", value_name = "KEY", default_value = "0", value_parser = parse_key)]
    pub(crate) new_key: u64,
    /// Whatever the host's key is now
    #[arg(long, alias = "iekey")]
    pub(crate) ignore_key: bool,
    /// Whether reservations of the namespace outlive a loss of power from now on [default: as before]
    #[arg(long, value_name = "BOOL")]
    pub(crate) persist: Option<bool>,
}

/// `nvme resv-acquire`.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Acquire {
    /// Where nobody holds one, or instead of those with --preempt-key
    #[arg(long, value_enum, default_value_t = Racqa::Acquire, alias = "racqa")]
    pub(crate) action: Racqa,
    /// The host's key
    #[arg(long, alias = "crkey", value_name = "KEY", value_parser = parse_key)]
    pub(crate) key: u64,
    /// The key of those who are preempted
    #[arg(long, alias = "prkey", value_name = "KEY", default_value = "0", value_parser = parse_key)]
    pub(crate) preempt_key: u64,
    /// What it keeps others from
    #[arg(long = "type", value_enum, alias = "rtype")]
    pub(crate) kind: Rtype,
}

/// `nvme resv-release`.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Release {
    /// The reservation, or all of it
    #[arg(long, value_enum, default_value_t = Rrela::Release, alias = "rrela")]
    pub(crate) action: Rrela,
    /// The host's key
    #[arg(long, alias = "crkey", value_name = "KEY", value_parser = parse_key)]
    pub(crate) key: u64,
    /// Of the reservation that is released
    #[arg(long = "type", value_enum, alias = "rtype", default_value_t = Rtype::WriteExclusive)]
    pub(crate) kind: Rtype,
}

/// Ours.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Rotate {
    /// The first key; the host has none
    #[arg(long, value_name = "KEY", default_value = "1", value_parser = parse_key)]
    pub(crate) key: u64,
    /// Changes to make
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Reservations of the namespace outlive a loss of power
    #[arg(long)]
    pub(crate) persist: bool,
}

/// Words of one of the protocol's numbers; nvme-cli's users may give the number.
macro_rules! words {
    ($(#[$attribute:meta])* $name:ident for $of:ident { $($(#[$variant_attribute:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(crate) enum $name {
            $($(#[$variant_attribute])* #[value(alias = $number)] $variant,)*
        }

        impl $name {
            pub(crate) fn meant(self) -> $of {
                match self {
                    $(Self::$variant => $of::$variant,)*
                }
            }
        }
    };
}

words! {
    /// RREGA.
    Rrega for RegisterAction {
        Register = "0",
        Unregister = "1",
        Replace = "2",
    }
}

words! {
    /// RACQA.
    Racqa for AcquireAction {
        Acquire = "0",
        Preempt = "1",
        PreemptAndAbort = "2",
    }
}

words! {
    /// RRELA.
    Rrela for ReleaseAction {
        Release = "0",
        Clear = "1",
    }
}

words! {
    /// RTYPE.
    Rtype for ReservationType {
        /// Others do not write
        WriteExclusive = "1",
        /// Others neither read nor write
        ExclusiveAccess = "2",
        /// Only registrants write; one of them holds it
        WriteExclusiveRegistrants = "3",
        /// Only registrants read and write; one of them holds it
        ExclusiveAccessRegistrants = "4",
        /// Only registrants write; all of them hold it
        WriteExclusiveAll = "5",
        /// Only registrants read and write; all of them hold it
        ExclusiveAccessAll = "6",
    }
}

fn parse_key(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a key is a number of 64 bits, such as 7 or 0xabcd".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parse(words: &str) -> Result<Reservation, clap::Error> {
        let words = ["nvmf-perf", "--nsid", "1", "reservation"].into_iter().chain(words.split(' '));
        match Arguments::try_parse_from(words)?.command {
            Some(Command::Reservation { action }) => Ok(action),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_and_nvme_clis_numbers_mean_the_same() {
        let acquire =
            parse("acquire --key 0xab --preempt-key 8 --type exclusive-access-registrants --action preempt-and-abort");
        assert_eq!(acquire.unwrap(), parse("acquire --crkey 171 --prkey 8 --rtype 4 --racqa 2").unwrap());
        let register = parse("register --key 7 --new-key 8 --action replace --ignore-key").unwrap();
        assert_eq!(register, parse("register --crkey=7 --nrkey=8 --rrega=2 --iekey").unwrap());
        assert_eq!(parse("release --key 1 --action clear").unwrap(), parse("release --crkey 1 --rrela 1").unwrap());
        assert_eq!(parse("report").unwrap(), Reservation::Report);
        for (number, kind) in (1..).zip(Rtype::value_variants()) {
            assert_eq!(kind.meant().to_byte(), number);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for words in
            ["acquire --key 1", "acquire --key x --type 1", "acquire --key 1 --type 7", "release", "rotate -n 0"]
        {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
