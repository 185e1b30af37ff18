//! For each ordering and each rule: the model that fails without it, or why there is none.
//!
//! Each mutation is tried in a process of its own, since a model that fails may end its process: the same test binary, asked for one model. `docs/ORDERING.md`
//! ends with this table in words.

use std::env;
use std::process::Command;

use crate::primitive::Site;
use crate::primitive::mutation::{Mutation, Rule, VARIABLE};

/// What becomes of a model under a mutation.
enum Verdict {
    /// It fails, and says this among other things.
    Fails(&'static str, &'static str),
    /// It does not, and need not: this is why.
    Stands(&'static str, &'static str),
}

use Verdict::{Fails, Stands};

/// The checker: a touch of memory that is not ordered against another.
const RACE: &str = "Causality violation";
/// The checker: everybody sleeps.
const ALL_ASLEEP: &str = "deadlock";
/// The checker: somebody turns for ever and what it waits for does not come.
const FOR_EVER: &str = "exceeded maximum number of branches";

const ONLINE: &str = "online::whoever_comes_online_is_waited_for_or_does_not_find_the_object";
const OFFLINE: &str = "online::what_was_read_before_going_offline_happened_before_the_reclamation";
const DOZING: &str = "online::what_was_read_before_dozing_happened_before_the_reclamation";
const READERS: &str = "epochs::an_object_is_reclaimed_only_after_its_readers";
const REAPER: &str = "epochs::whoever_reaps_has_seen_all_that_happened_before_the_step";
const REPLACED: &str = "published::what_another_thread_published_is_whole_when_it_is_replaced";
const LATE_MESSAGE: &str = "messages::a_message_sent_late_in_a_turn_is_received_before_what_it_is_about_is_reclaimed";
const MANY_MESSAGES: &str = "messages::many_messages_are_received_before_what_the_last_is_about_is_reclaimed";
const TO_SLEEPER: &str = "messages::a_message_to_whoever_falls_asleep_holds_the_epoch_up";
const SLEEP: &str = "sleep::a_message_ends_a_sleep";
const REQUEST: &str = "sleep::whoever_takes_a_request_sees_what_came_with_it";
const PLACES: &str = "places::two_holders_of_a_place_never_use_its_slot_at_the_same_time";
const LEAVING: &str = "leaving::whoever_leaves_after_its_last_message_may_do_so_at_once";
const LEAVING_EARLY: &str = "leaving::a_message_to_whoever_leaves_too_early_is_never_lost_in_silence";
const RING: &str = "ring::what_is_pushed_is_popped_in_order_through_room_used_again";

fn verdict(mutation: Mutation) -> Verdict {
    match mutation {
        Mutation::Weak(site) => without_ordering(site),
        Mutation::AcquireOnly(site) | Mutation::ReleaseOnly(site) => {
            assert_eq!(site, Site::Replace, "the only one that does both");
            Fails(REPLACED, RACE)
        }
        Mutation::Broken(rule) => without_rule(rule),
    }
}

fn without_ordering(site: Site) -> Verdict {
    match site {
        Site::Link | Site::Look => Fails("table::an_object_is_whole_when_it_is_found", RACE),
        Site::Unlink => Fails("table::what_another_thread_linked_is_whole_when_it_is_taken_out", RACE),
        Site::Replace => Fails("published::a_snapshot_is_whole_when_it_is_read", RACE),
        Site::Quiet | Site::Survey | Site::QuietEpoch => Fails(READERS, RACE),
        Site::Online | Site::Offline => Fails(OFFLINE, RACE),
        Site::Doze => Fails(DOZING, RACE),
        Site::Step | Site::ReapEpoch => Fails(REAPER, RACE),
        Site::OnlineFence | Site::SurveyFence => Fails(ONLINE, RACE),
        Site::SleepFence | Site::WakeFence => Fails(SLEEP, ALL_ASLEEP),
        Site::Hold => Stands(
            TO_SLEEPER,
            "the sender's light fence is a full one here, and orders the message before the exchange",
        ),
        Site::Want | Site::TakeWanted => Fails(REQUEST, RACE),
        Site::TakePlace | Site::GivePlace => Fails(PLACES, "the epoch went past a reader"),
        Site::Enter | Site::Stage => Fails(LEAVING, "which left meanwhile"),
        Site::LeaveFence => Fails(LEAVING_EARLY, "lost in silence"),
        Site::RingFill | Site::RingLook | Site::RingEmpty | Site::RingRoom => Fails(RING, RACE),
    }
}

fn without_rule(rule: Rule) -> Verdict {
    match rule {
        Rule::ReaderGrace => Fails(READERS, RACE),
        Rule::MessageGrace => Fails(LATE_MESSAGE, "touched after it was reclaimed"),
        Rule::BacklogHolds | Rule::WholeDrain => Fails(MANY_MESSAGES, "touched after it was reclaimed"),
        Rule::SecondLoad => Fails("online::the_stamp_of_whoever_just_came_online_is_not_over", RACE),
        Rule::LastLook => Fails(SLEEP, ALL_ASLEEP),
        Rule::Hold | Rule::OfflineLast | Rule::OfflineByExchange => Fails(TO_SLEEPER, RACE),
        Rule::BellsBeforeQuiet => {
            Stands(TO_SLEEPER, "four steps leave room for a sender that holds the epoch up one step later")
        }
        Rule::NoteAdvancer => Fails("sleep::reclamation_goes_on_while_cpus_sleep", FOR_EVER),
        Rule::WantByExchange => Fails("sleep::no_wake_up_of_two_is_lost", ALL_ASLEEP),
        Rule::LeaverLooks | Rule::SenderLooks => Fails(LEAVING_EARLY, "lost in silence"),
        Rule::RingCapacity => Fails(RING, RACE),
        Rule::BacklogFirst => {
            Fails("mailbox::messages_come_in_order_and_none_is_lost_through_a_backlog", "lost, doubled or overtaken")
        }
    }
}

/// Runs one model in a process of its own. Whether it passed, and what it said.
fn run(model: &str, mutation: Mutation) -> (bool, String) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("models::{model}"), "--nocapture"])
        .env(VARIABLE, mutation.name())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("running 1 test"), "there is no model {model}:\n{said}");
    (output.status.success(), said)
}

#[test]
fn a_model_fails_without_each_ordering_and_without_each_rule() {
    let mut wrong = Vec::new();
    for mutation in Mutation::all() {
        let name = mutation.name();
        match verdict(mutation) {
            Fails(model, expected) => {
                let (passed, said) = run(model, mutation);
                println!("{name}: {model} {}", if passed { "PASSES" } else { "fails" });
                if passed || !said.contains(expected) {
                    wrong.push(format!("{name}: {model} was to fail with «{expected}», and said:\n{said}"));
                }
            }
            Stands(model, reason) => {
                let (passed, said) = run(model, mutation);
                println!("{name}: {model} {}: {reason}", if passed { "stands" } else { "FAILS" });
                if !passed {
                    wrong.push(format!("{name}: {model} was to pass, and said:\n{said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
