//! Sizes as people write them: `"64MiB"`, `"1G"`, or a number of bytes.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// What a size may look like, for messages.
const ALLOWED: &str = "a size such as \"64MiB\", \"1GiB\", \"4K\" (K, M, G, T count in 1024s) or a number of bytes";

impl Size {
    /// Reads a number and a unit. `None` if it is no size, or more than 2^64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        number.checked_mul(1 << shift).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = match self.0 {
            len if len > 0 && len.trailing_zeros() >= 40 => ("TiB", 40),
            len if len > 0 && len.trailing_zeros() >= 30 => ("GiB", 30),
            len if len > 0 && len.trailing_zeros() >= 20 => ("MiB", 20),
            len if len > 0 && len.trailing_zeros() >= 10 => ("KiB", 10),
            _ => (" bytes", 0),
        };
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ALLOWED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                let len = u64::try_from(number);
                len.map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, len) in [
            ("512", 512),
            ("512B", 512),
            ("4K", 4096),
            ("4KiB", 4096),
            ("4 kb", 4096),
            ("64MiB", 64 << 20),
            (" 1G ", 1 << 30),
            ("3GiB", 3 << 30),
            ("2T", 2 << 40),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(Size::parse(text), Some(Size(len)), "{text}");
        }
        for text in ["", "MiB", "64 MB/s", "1.5G", "-1", "0x10", "1Q", "64MiBB", "16777216T", "99999999999999999999"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_is_exact() {
        for (len, text) in [(0, "0 bytes"), (1, "1 bytes"), (4096, "4KiB"), (64 << 20, "64MiB"), (3 << 29, "1536MiB")] {
            assert_eq!(Size(len).to_string(), text);
        }
    }
}
