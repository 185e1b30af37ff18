//! Single values: numbers, sizes, words and addresses within what is allowed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;

use crate::config::report::Report;
use crate::config::size::Size;

pub(super) fn words(
    text: Option<Spanned<String>>,
    field: &str,
    len_max: usize,
    report: &mut Report<'_>,
) -> Option<String> {
    let text = text?;
    let value = text.get_ref();
    if value.is_empty() || value.len() > len_max || !value.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) {
        let allowed = format!("1 to {len_max} printable ASCII characters");
        report.refuse(text.span(), field, quoted(value), &allowed);
    }
    Some(text.into_inner())
}

pub(super) fn address(
    text: &Spanned<String>,
    field: &str,
    example: &str,
    report: &mut Report<'_>,
) -> Option<SocketAddr> {
    let parsed = text.get_ref().parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if parsed.is_none() {
        let allowed = format!("an IP address and a port, such as \"{example}\" or \"[::1]:4420\"");
        report.refuse(text.span(), field, quoted(text.get_ref()), &allowed);
    }
    parsed
}

pub(super) fn socket_path(path: &Spanned<PathBuf>, report: &mut Report<'_>) -> Option<PathBuf> {
    // unix(7): sun_path has 108 bytes with the final zero.
    let len = path.get_ref().as_os_str().len();
    if len == 0 || len > 107 {
        let allowed = "a path of 1 to 107 bytes, which is what a Unix socket's address holds";
        report.refuse(path.span(), "rpc.socket", quoted(&path.get_ref().display().to_string()), allowed);
        return None;
    }
    Some(path.get_ref().clone())
}

pub(super) fn number<T: TryFrom<i64> + Copy + std::fmt::Display + PartialOrd>(
    value: Option<Spanned<i64>>,
    field: &str,
    default: T,
    allowed: RangeInclusive<T>,
    report: &mut Report<'_>,
) -> T {
    let Some(value) = value else {
        return default;
    };
    match T::try_from(*value.get_ref()).ok().filter(|number| allowed.contains(number)) {
        Some(number) => number,
        None => {
            let text = format!("{} to {}", allowed.start(), allowed.end());
            report.refuse(value.span(), field, value.get_ref(), &text);
            default
        }
    }
}

/// `default` and both ends of `allowed` fit into `T`.
pub(super) fn size<T: TryFrom<u64> + Default>(
    value: Option<Spanned<Size>>,
    field: &str,
    default: u64,
    allowed: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> T {
    let mut len = default;
    if let Some(value) = value {
        if allowed.contains(&value.get_ref().0) {
            len = value.get_ref().0;
        } else {
            let text = format!("{} to {}", Size(*allowed.start()), Size(*allowed.end()));
            report.refuse(value.span(), field, value.get_ref(), &text);
        }
    }
    T::try_from(len).unwrap_or_default()
}

pub(super) fn choice<T: Copy>(
    value: Option<Spanned<String>>,
    field: &str,
    default: T,
    allowed: &[(&str, T)],
    report: &mut Report<'_>,
) -> T {
    let Some(value) = value else {
        return default;
    };
    if let Some((_, chosen)) = allowed.iter().find(|(name, _)| name == value.get_ref()) {
        return *chosen;
    }
    let names: Vec<String> = allowed.iter().map(|(name, _)| quoted(name)).collect();
    report.refuse(value.span(), field, quoted(value.get_ref()), &names.join(" or "));
    default
}

pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Numbers as ranges: `0-3, 8`.
pub(super) fn list_of(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let show =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_as_ranges() {
        assert_eq!(list_of(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
    }
}
