//! What is logged: a level, or a filter by module.

use tracing_subscriber::EnvFilter;

/// What a level may be.
pub const LOG_LEVELS: &str = "error, warn, info, debug or trace, or a filter such as \"info,bdev=debug\"";

/// Reads a level or a filter. SPDK's words for levels are levels too.
#[must_use]
pub fn log_filter(level: &str) -> Option<EnvFilter> {
    let directives: Option<Vec<String>> = level.split(',').map(directive).collect();
    EnvFilter::try_new(directives?.join(",")).ok()
}

/// `EnvFilter` takes a word that is no level for a module, of which all is shown, and of all others nothing: what was meant for a level would
/// silence the log.
fn directive(text: &str) -> Option<String> {
    let text = text.trim();
    let level = match text.to_ascii_lowercase().as_str() {
        "warning" => "warn",
        "notice" => "info",
        "disabled" => "off",
        "error" | "warn" | "info" | "debug" | "trace" | "off" => text,
        _ => return text.contains(['=', '[']).then(|| text.to_owned()),
    };
    Some(level.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_other_words_are_not_taken_for_modules() {
        for level in ["error", "WARN", "Warning", "NOTICE", "info,bdev=debug", "warn, nvmf_core::wire=trace", "off"] {
            assert!(log_filter(level).is_some(), "{level}");
        }
        for level in ["loud", "", "info,bdev", "bdev=loud", "info,"] {
            assert!(log_filter(level).is_none(), "{level}");
        }
        assert_eq!(log_filter("NOTICE").unwrap().to_string(), "info");
    }
}
