//! Devices that fail in the ways that the published list of lifecycle defects names. After each step the audit looks at every permit and slot, and at the end of
//! each test all of them are back ([`Rig`]'s drop).

use super::*;

const FLUSHED: CompletionStatus = CompletionStatus::WorkRequestFlushed;
const FAILED: CompletionStatus = CompletionStatus::RemoteAccessError;

impl Rig {
    /// A command arrives in this receive.
    fn command(&mut self, receive: u32) -> (Slot, Receive) {
        self.capsule(receive);
        receive_of(self.poll().pop().unwrap())
    }

    fn finish_read_command(&mut self, slot: Slot, receive: Receive, len: u32) {
        self.path.push(self.qpair, slot, self.data.part(0, len as usize), Rig::remote(len));
        self.path.consumed(receive);
        self.respond(slot);
    }

    /// A completion of this kind for this slot; brings nothing.
    fn fails(&mut self, kind: WorkKind, slot: Slot, status: CompletionStatus) {
        self.complete(self.id(kind, slot.into()), status, 0);
        assert!(self.poll().is_empty());
    }

    fn stale_count(&self) -> u64 {
        self.path.counters.stale_completions.value()
    }
}

/// C8: data write and response both fail, in either order, or only one of them, or the unsignalled write alone. Each request ends once, and the marker
/// accounts for whatever was not told.
#[test]
fn c8_a_write_and_its_response_fail_in_any_combination() {
    let combinations: [&[WorkKind]; 5] = [
        &[WorkKind::Write, WorkKind::Send],
        &[WorkKind::Send, WorkKind::Write],
        &[WorkKind::Write],
        &[WorkKind::Send],
        &[],
    ];
    for failing in combinations {
        let mut rig = Rig::new(16, 4, 0);
        let (slot, receive) = rig.command(0);
        rig.finish_read_command(slot, receive, 4096);
        assert_eq!(rig.out(), [2, 0, 3, 0]);
        for kind in failing {
            rig.fails(*kind, slot, FAILED);
        }
        assert_eq!(rig.out(), [2, 0, 3, 0], "{failing:?}: what fails is accounted for by the marker alone");
        assert_eq!(rig.path.endings.len(), failing.len());
        rig.begin_drain();
        assert!(rig.check().is_none(), "{failing:?}: two requests are not accounted for");
        rig.return_all();
        let Some(Quiet::Returned(_)) = rig.check() else { panic!("{failing:?}") };
        rig.body().life = None;
        assert_eq!(rig.stale_count(), 0);
    }
}

/// C8: a response's send that is told twice finishes its command once, and gives no later request's room back.
#[test]
fn c8_a_send_that_completes_twice_counts_once() {
    let mut rig = Rig::new(16, 4, 0);
    for receive in 0..2 {
        let (slot, receive) = rig.command(receive);
        rig.finish_read_command(slot, receive, 4096);
    }
    assert_eq!(rig.out(), [4, 0, 3, 0]);
    rig.complete(rig.id(WorkKind::Send, 0), CompletionStatus::Success, 0);
    assert!(matches!(rig.poll()[..], [Arrival::Finished { slot: 0, .. }]));
    assert_eq!(rig.out(), [2, 0, 3, 0]);
    rig.fails(WorkKind::Send, 0, CompletionStatus::Success);
    assert_eq!((rig.out(), rig.stale_count()), ([2, 0, 3, 0], 1));
    // Slots that never had a response posted, and that do not exist.
    for slot in [2, 15] {
        rig.fails(WorkKind::Send, slot, CompletionStatus::Success);
    }
    assert_eq!((rig.out(), rig.stale_count()), ([2, 0, 3, 0], 3));
}

/// C9, F5: a pull in parts fails on part `p`, with parts behind it posted, and others that wait for read depth. The command never gets its data, the parts
/// that waited are not posted any more, and each READ is counted back once.
#[test]
fn c9_a_pull_that_fails_on_any_part_returns_each_part_once() {
    const PART_COUNT: u32 = 5;
    const DEPTH: u32 = 2;
    for failing in 0..PART_COUNT {
        let mut rig = Rig::new(16, 2, 0);
        let (slot, _receive) = rig.command(0);
        let len = PART_COUNT * 4096;
        rig.path.pull(rig.qpair, slot, Rig::remote(len), rig.data.part(0, len as usize));
        for _ in 0..failing {
            rig.fails(WorkKind::Read, slot, CompletionStatus::Success);
        }
        let out = DEPTH.min(PART_COUNT - failing);
        assert_eq!(rig.out(), [out, out, 2, 1], "part {failing}");
        rig.fails(WorkKind::Read, slot, FAILED);
        for _ in 1..out {
            rig.fails(WorkKind::Read, slot, FLUSHED);
        }
        assert_eq!(rig.sends().len(), (failing + out) as usize, "nothing is posted behind a failure");
        rig.begin_drain();
        assert!(rig.body().work.waiting_pulls.is_empty());
        assert!(rig.check().is_none());
        rig.return_all();
        // Told again after the marker: late, and of nothing that is out.
        rig.fails(WorkKind::Read, slot, CompletionStatus::Success);
        assert_eq!(rig.stale_count(), 1);
    }
}

/// C9: a READ that is told twice is not taken for the next part where no other is out.
#[test]
fn c9_a_read_that_completes_twice_does_not_complete_its_pull() {
    let mut rig = Rig::new(16, 1, 0);
    let (slot, _receive) = rig.command(0);
    rig.path.pull(rig.qpair, slot, Rig::remote(4096), rig.data.part(0, 4096));
    let (other, _other_receive) = rig.command(1);
    rig.path.pull(rig.qpair, other, Rig::remote(4096), rig.data.part(4096, 4096));
    rig.complete(rig.id(WorkKind::Read, slot.into()), CompletionStatus::Success, 4096);
    assert!(matches!(rig.poll()[..], [Arrival::Pulled { slot: 0, .. }]));
    assert_eq!(rig.out(), [1, 1, 1, 2], "the other's is out now");
    rig.fails(WorkKind::Read, slot, CompletionStatus::Success);
    assert_eq!((rig.out(), rig.stale_count()), ([1, 1, 1, 2], 1));
}

/// C11, C18, C6: receives and markers that were not posted, or come twice.
#[test]
fn what_was_not_posted_and_completes_changes_nothing() {
    let mut rig = Rig::new(16, 4, 0);
    let (slot, _receive) = rig.command(0);
    let out = rig.out();
    for (kind, number) in [(WorkKind::Receive, 0), (WorkKind::Receive, 9), (WorkKind::Marker, 0), (WorkKind::Write, 0)]
    {
        for status in [CompletionStatus::Success, FLUSHED] {
            if kind == WorkKind::Write && status == FLUSHED {
                continue;
            }
            rig.complete(rig.id(kind, number), status, 64);
            assert!(rig.poll().is_empty());
        }
    }
    assert_eq!((rig.out(), rig.stale_count()), (out, 7));
    assert!(rig.path.endings.is_empty());
    rig.respond(slot);
    rig.begin_drain();
    rig.return_all();
    rig.fails(WorkKind::Marker, 0, FLUSHED);
    assert_eq!(rig.stale_count(), 8, "a marker comes back once");
}

/// C19: the device refuses request `w` of what a command needs. What was posted stays counted, what was refused is not; and nothing is posted behind
/// it: a response that followed would tell the host of data that never came.
#[test]
fn c19_nothing_follows_a_request_that_was_refused() {
    // A push in three parts, then the response: four requests.
    for refused in 0..4 {
        let mut rig = Rig::new(16, 4, 0);
        let (slot, receive) = rig.command(0);
        rig.path.port.refuses_send_after = Some(refused);
        rig.finish_read_command(slot, receive, 3 * 4096);
        assert_eq!(rig.sends().len(), refused, "the device would have taken what came after");
        assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::TransportError)]);
        // Refused in the push: no response is tried. The receive that its command gave back after that is not posted either.
        let receives = if refused == 3 { 3 } else { 2 };
        assert_eq!(rig.out(), [u32::try_from(refused).unwrap(), 0, receives, 1], "request {refused}");
        // More that the NVMe layer may say in the same turn.
        rig.respond(slot);
        rig.path.pull(rig.qpair, slot, Rig::remote(4096), rig.data.part(0, 4096));
        assert_eq!(rig.sends().len(), refused);
    }
}

/// C19, for the READs of a pull: both of a READ's permits go back where it was refused.
#[test]
fn c19_a_refused_read_gives_both_permits_back() {
    for refused in 0..3 {
        let mut rig = Rig::new(16, 4, 0);
        let (slot, _receive) = rig.command(0);
        rig.path.port.refuses_send_after = Some(refused);
        rig.path.pull(rig.qpair, slot, Rig::remote(3 * 4096), rig.data.part(0, 3 * 4096));
        let posted = u32::try_from(refused).unwrap();
        assert_eq!(rig.out(), [posted, posted, 2, 1], "part {refused}");
        // What was posted succeeds, and that is not the whole pull.
        for _ in 0..refused {
            rig.fails(WorkKind::Read, slot, CompletionStatus::Success);
        }
        assert_eq!(rig.out(), [0, 0, 2, 1]);
    }
}

/// C19: a receive that cannot be posted again ends the queue pair, and its response, which would invite the next command, is not sent.
#[test]
fn c19_no_response_follows_a_receive_that_was_refused() {
    let mut rig = Rig::new(16, 4, 0);
    let (slot, receive) = rig.command(0);
    rig.path.port.refuses_receives = true;
    rig.path.consumed(receive);
    rig.respond(slot);
    assert!(rig.sends().is_empty());
    assert_eq!(rig.path.endings, [(rig.qpair, DisconnectReason::TransportError)]);
    assert_eq!(rig.out(), [0, 0, 2, 1]);
}

/// F6: however slowly sends complete, no more are posted than the queue has room for, and the marker's place is never given away.
#[test]
fn f6_responses_count_in_the_send_queue() {
    const ROOM: u32 = 3;
    let mut rig = Rig::new(ROOM + 1, 4, 0);
    for receive in [0, 1, 0, 1] {
        let (slot, receive) = rig.command(receive);
        rig.path.consumed(receive);
        rig.respond(slot);
    }
    assert_eq!(rig.sends().len(), ROOM as usize);
    assert_eq!(rig.out(), [ROOM, 0, 3, 1], "the fourth response waits, and its command is not over");
    rig.path.port.capacity = Some(ROOM as usize + 1);
    rig.begin_drain();
    rig.path.post_marker(rig.qpair).unwrap().unwrap();
    assert_eq!(rig.sends().len(), ROOM as usize + 1);
    assert!(rig.path.post_marker(rig.qpair).is_none(), "once");
}

/// F13: a slot that had a pull and a push in parts is used by a command without data: nothing of the former is counted for it, however often.
#[test]
fn f13_a_slot_that_is_used_again_keeps_no_count() {
    let mut rig = Rig::new(16, 2, 0);
    for _ in 0..50 {
        let (slot, receive) = rig.command(0);
        assert_eq!(slot, 0);
        rig.path.pull(rig.qpair, slot, Rig::remote(2 * 4096), rig.data.part(0, 2 * 4096));
        rig.fails(WorkKind::Read, slot, CompletionStatus::Success);
        rig.complete(rig.id(WorkKind::Read, 0), CompletionStatus::Success, 4096);
        assert_eq!(rig.poll().len(), 1);
        rig.finish_read_command(slot, receive, 3 * 4096);
        rig.complete(rig.id(WorkKind::Send, 0), CompletionStatus::Success, 0);
        assert_eq!(rig.poll().len(), 1);
        // A keep-alive.
        let (slot, receive) = rig.command(0);
        rig.path.consumed(receive);
        rig.respond(slot);
        rig.complete(rig.id(WorkKind::Send, 0), CompletionStatus::Success, 0);
        assert_eq!(rig.poll().len(), 1);
        assert_eq!(rig.out(), [0, 0, 3, 0]);
    }
    assert_eq!(rig.stale_count(), 0);
}

/// Withheld for ever: the deadline cuts, whatever is out is surrendered, and what comes after all changes nothing.
#[test]
fn what_comes_after_a_cut_changes_nothing() {
    let mut rig = Rig::new(16, 4, 0);
    let (slot, receive) = rig.command(0);
    rig.finish_read_command(slot, receive, 4096);
    let (other, _receive) = rig.command(1);
    rig.path.pull(rig.qpair, other, Rig::remote(4096), rig.data.part(0, 4096));
    rig.begin_drain();
    rig.path.post_marker(rig.qpair).unwrap().unwrap();
    assert!(rig.check().is_none());
    rig.body().draining_mut().unwrap().deadline_passed();
    let Some(Quiet::Cut(cut)) = rig.check() else { panic!("not cut") };
    rig.body().surrender_posted(&cut);
    for (kind, number) in [
        (WorkKind::Send, u32::from(slot)),
        (WorkKind::Read, u32::from(other)),
        (WorkKind::Write, u32::from(slot)),
        (WorkKind::Receive, 0),
        (WorkKind::Receive, 2),
        (WorkKind::Marker, 0),
    ] {
        rig.complete(rig.id(kind, number), CompletionStatus::Success, 64);
        assert!(rig.poll().is_empty());
    }
    assert_eq!(rig.stale_count(), 6);
}

/// A device that refuses the marker: what was signalled comes back by itself, which is enough.
#[test]
fn without_a_marker_what_is_signalled_comes_back_by_itself() {
    let mut rig = Rig::new(16, 4, 0);
    let (slot, receive) = rig.command(0);
    rig.finish_read_command(slot, receive, 4096);
    rig.begin_drain();
    rig.path.port.refuses_sends = true;
    assert!(rig.path.post_marker(rig.qpair).unwrap().is_err());
    assert!(rig.path.post_marker(rig.qpair).is_none());
    assert!(rig.check().is_none());
    rig.fails(WorkKind::Send, slot, CompletionStatus::Success);
    rig.return_all();
    let Some(Quiet::Returned(_)) = rig.check() else { panic!("all was returned") };
    rig.body().life = None;
}
