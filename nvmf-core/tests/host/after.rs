//! What a host does with a controller that it is attached to: it hears of events and asks again, and it takes leave.

use crate::controller::{Ask, End, FakeController, run};
use nvmf_core::host::{HostError, News, Refresh, ShutDown};
use nvmf_core::wire::{AsyncEvent, Configuration, Version};

const PATIENCE_NS: u64 = 500_000_000;

/// CSTS of the answers to come, the last for ever.
fn shut_down(status: &[u32]) -> (End<()>, FakeController) {
    let mut controller = FakeController::new();
    controller.configuration = Configuration::enabled(6, 0);
    let mut machine = ShutDown::new(PATIENCE_NS);
    let mut looks = 0;
    let end = run(
        |outcome| machine.next(outcome),
        &mut controller,
        |_, controller, completion, _| {
            if controller.asked.last() == Some(&Ask::Status) {
                let value = status.get(looks).or(status.last()).copied().unwrap();
                completion[..4].copy_from_slice(&value.to_le_bytes());
                looks += 1;
            }
        },
    );
    (end, controller)
}

#[test]
fn a_shutdown_is_waited_for() {
    let (end, controller) = shut_down(&[0b0001, 0b0101, 0b0101, 0b1001]);
    end.result.unwrap();
    // CSS stays; SHN is 01b.
    assert_eq!(controller.configuration.0, 0x0046_4061);
    assert_eq!(end.waited_ns, (1 + 2 + 4) * 1_000_000);
    use Ask::{Configuration as Cc, Status};
    assert_eq!(controller.asked, [Cc, Cc, Status, Status, Status, Status]);
}

#[test]
fn a_shutdown_that_does_not_end_is_given_up() {
    let (end, _) = shut_down(&[0b0101]);
    let error = end.result.unwrap_err().to_string();
    assert_eq!(error, "the controller has not shut down after 500 ms: CSTS is 0x5");
    assert_eq!(end.waited_ns, PATIENCE_NS);
    let (end, _) = shut_down(&[0b0111]);
    assert!(matches!(end.result, Err(HostError::Peer { what }) if what.contains("failed while it shut down")));
}

fn refresh(event: AsyncEvent) -> (News, Vec<Ask>) {
    let mut controller = FakeController::new();
    let mut machine = Refresh::new(event, Version::V1_4);
    let end = run(|outcome| machine.next(outcome), &mut controller, |_, _, _, _| {});
    (end.result.unwrap(), controller.asked)
}

#[test]
fn an_event_is_followed_by_its_log_and_by_what_it_is_about() {
    let (news, asked) = refresh(AsyncEvent::NAMESPACE_CHANGED);
    assert_eq!(news.event, AsyncEvent::NAMESPACE_CHANGED);
    let nsids: Vec<u32> = news.namespaces.unwrap().iter().map(|namespace| namespace.nsid).collect();
    assert_eq!(nsids, [1, 2, 9]);
    assert_eq!(asked[..3], [Ask::LogPage, Ask::ActiveNamespaces, Ask::Namespace]);
    for event in [AsyncEvent::ANA_CHANGED, AsyncEvent::DISCOVERY_CHANGED, AsyncEvent::RESERVATION_LOG] {
        let (news, asked) = refresh(event);
        assert_eq!((news, asked), (News { event, namespaces: None }, vec![Ask::LogPage]));
    }
    // Of a vendor: nothing that this layer could read.
    let event = AsyncEvent { event_type: 7, information: 1, log_page: 0xC0 };
    assert_eq!(refresh(event), (News { event, namespaces: None }, vec![]));
}

#[test]
fn a_log_that_cannot_be_read_is_told() {
    let mut machine = Refresh::new(AsyncEvent::ANA_CHANGED, Version::V1_4);
    let mut controller = FakeController::new();
    let end = run(
        |outcome| machine.next(outcome),
        &mut controller,
        |_, _, completion, _| completion[14..16].copy_from_slice(&(0x109u16 << 1).to_le_bytes()),
    );
    assert!(end.result.unwrap_err().to_string().starts_with("Get Log Page after an event failed: "));
}
