//! What the controller tells of while a job runs: said at once, and only the first of it, since a target can tell for ever.

use std::fmt::Write;

use indicatif::ProgressBar;
use nvmf_core::host::News;
use nvmf_core::wire::AsyncEvent;

/// Lines that are shown.
const SHOWN_MAX: u64 = 16;
/// Namespaces of one line.
const LISTED_MAX: usize = 8;

/// Of one run.
#[derive(Debug, Default)]
pub(crate) struct NewsDesk {
    count: u64,
}

impl NewsDesk {
    /// Says it beside the progress bar.
    pub(crate) fn say(&mut self, news: &News, bar: &ProgressBar) {
        self.count += 1;
        if self.count <= SHOWN_MAX {
            bar.suspend(|| eprintln!("nvmf-perf: {}", describe(news)));
        }
    }

    /// Says how many there were, where not all of them were shown.
    pub(crate) fn close(&self) {
        if self.count > SHOWN_MAX {
            eprintln!("nvmf-perf: the controller told of {} events; the first {SHOWN_MAX} are above", self.count);
        }
    }
}

fn describe(news: &News) -> String {
    let AsyncEvent { event_type, information, log_page } = news.event;
    let mut text = "the controller tells: ".to_owned();
    text.push_str(match news.event {
        AsyncEvent::NAMESPACE_CHANGED => "namespaces have changed",
        AsyncEvent::ANA_CHANGED => "asymmetric access (ANA) has changed",
        AsyncEvent::DISCOVERY_CHANGED => "the discovery log has changed",
        AsyncEvent::RESERVATION_LOG => "something was done to a reservation",
        _ => "",
    });
    if text.ends_with(": ") {
        let _ = write!(text, "event of type {event_type}, information {information:#04x}, log page {log_page:#04x}");
    }
    if let Some(namespaces) = &news.namespaces {
        let line =
            |n: &nvmf_core::host::NamespaceInfo| format!("{} ({} blocks of {})", n.nsid, n.block_count, n.block_len);
        let listed: Vec<String> = namespaces.iter().take(LISTED_MAX).map(line).collect();
        let _ = match namespaces.len() {
            0 => write!(text, "; there is none now"),
            count if count > LISTED_MAX => {
                write!(text, "; now there are {} and {} more", listed.join(", "), count - LISTED_MAX)
            }
            _ => write!(text, "; now there are {}", listed.join(", ")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_words() {
        let namespace =
            |nsid| nvmf_core::host::NamespaceInfo { nsid, block_len: 512, metadata_len: 0, block_count: 8, uuid: None };
        let news = |event, namespaces| describe(&News { event, namespaces });
        assert_eq!(
            news(AsyncEvent::NAMESPACE_CHANGED, Some(vec![namespace(1), namespace(4)])),
            "the controller tells: namespaces have changed; now there are 1 (8 blocks of 512), 4 (8 blocks of 512)"
        );
        assert!(news(AsyncEvent::NAMESPACE_CHANGED, Some(vec![])).ends_with("; there is none now"));
        let many = (1..20).map(namespace).collect();
        assert!(news(AsyncEvent::NAMESPACE_CHANGED, Some(many)).ends_with("8 (8 blocks of 512) and 11 more"));
        assert_eq!(
            news(AsyncEvent { event_type: 1, information: 2, log_page: 2 }, None),
            "the controller tells: event of type 1, information 0x02, log page 0x02"
        );
    }
}
