//! ASCII fields of fixed length, padded with spaces or NULs.

/// Copies `text` into a field and fills the rest with spaces [NVMe Base 2.0, 1.4.2: ASCII strings are left justified and padded with
/// spaces]. What has no room is cut; what is not printable ASCII becomes `?`.
#[must_use]
pub fn pad_text<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = if matches!(byte, 0x20..=0x7E) { byte } else { b'?' };
    }
    field
}

/// The text of a field, without the padding. What is not printable ASCII becomes `?`: it ends in logs and on terminals.
#[must_use]
pub fn trim_text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text: String =
        field[..end].iter().map(|byte| if matches!(byte, 0x20..=0x7E) { char::from(*byte) } else { '?' }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_and_trimmed() {
        assert_eq!(pad_text::<6>("abc"), *b"abc   ");
        assert_eq!(pad_text::<2>("abc"), *b"ab");
        assert_eq!(pad_text::<3>("a\n\u{e9}"), *b"a??");
        assert_eq!(trim_text(b"abc   "), "abc");
        assert_eq!(trim_text(b"abc\0junk"), "abc");
        assert_eq!(trim_text(b"a\x1B[2J"), "a?[2J");
        assert_eq!(trim_text(b""), "");
    }
}
