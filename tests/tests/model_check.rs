//! The model checker sees every state of small worlds, and sees the same ones each time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::time::Duration;

use harness::explore::Action;
use harness::explore::End;
use harness::explore::Limits;
use harness::explore::Program;
use harness::explore::Report;
use harness::explore::Shape;
use harness::explore::Way;
use harness::explore::retrace;
use harness::explore::search;
use reattach_core::link::Counters;

fn searched(name: &str, seed: u64) -> Report {
    searched_with(name, Limits { seed, ..Limits::default() })
}

fn searched_with(name: &str, limits: Limits) -> Report {
    let shape = Shape::named(name).unwrap();
    let limits = Limits { bytes: 1 << 30, time: Duration::from_secs(120), ..limits };
    let report = search(&shape, &limits, |_| {});
    match &report.end {
        End::Finished => report,
        End::Failed(failure) => panic!("{name}: {failure}"),
        End::Stopped(_) | End::GoingOn => panic!("{name} is no small shape: {report:?}"),
    }
}

fn outcomes(report: &Report) -> String {
    report.outcomes.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
}

#[test]
fn without_faults_everything_is_delivered_and_all_ends_in_one_state() {
    let report = searched("(2,0,0)", 0);
    assert_eq!((report.rests, outcomes(&report).as_str()), (1, "delivered"));
    assert!(report.states > 1_000, "{report:?}");
}

#[test]
fn whatever_a_cut_loses_is_delivered_after_it() {
    let report = searched("(1,1,0)", 0);
    assert_eq!(outcomes(&report), "delivered");
}

#[test]
fn fingerprints_of_another_seed_count_the_same_states() {
    let (one, other) = (searched("(1,1,0)", 0), searched("(1,1,0)", 1));
    assert_eq!((one.steps, one.states, one.rests, one.depth), (other.steps, other.states, other.rests, other.depth));
}

#[test]
fn what_the_oracle_may_forget_makes_no_difference() {
    for name in ["(1,1,0)", "cancel", "deferral", "expiry", "stale copy", "take-over"] {
        let (merged, whole) = (searched(name, 0), searched_with(name, Limits { is_whole: true, ..Limits::default() }));
        assert_eq!(merged.outcomes, whole.outcomes, "{name}");
        assert!(merged.states <= whole.states && merged.rests <= whole.rests, "{name}: {merged:?} and {whole:?}");
    }
}

#[test]
fn a_client_that_comes_back_from_its_very_state_loses_nothing_but_an_epoch_that_it_never_heard_of() {
    let told = outcomes(&searched("client restart", 0));
    assert_eq!(told, "delivered; unknown: its epoch ended before it was settled");
}

#[test]
fn what_was_withdrawn_was_not_delivered_or_was_decided_about() {
    let told = outcomes(&searched("cancel", 0));
    for outcome in ["delivered", "not delivered: it was cancelled first", "rejected (busy)"] {
        assert!(told.contains(outcome), "{outcome} in {told}");
    }
}

#[test]
fn what_is_put_off_comes_again_or_ends() {
    let told = outcomes(&searched("deferral", 0));
    for outcome in
        ["delivered", "rejected (busy: it was put off as often as it may be)", "the peer's application never"]
    {
        assert!(told.contains(outcome), "{outcome} in {told}");
    }
}

#[test]
fn a_final_receipt_tells_what_was_never_handed_over() {
    let told = outcomes(&searched("expiry", 0));
    for outcome in ["delivered", "the peer dropped it before its application took it", "the connection expired first"] {
        assert!(told.contains(outcome), "{outcome} in {told}");
    }
}

#[test]
fn a_text_that_is_lost_on_a_wire_that_goes_on_is_asked_about() {
    let report = searched("probe", 0);
    assert_eq!(outcomes(&report), "delivered");
}

#[test]
fn a_server_that_comes_back_from_an_old_copy_guesses_nothing() {
    let told = outcomes(&searched("stale copy", 0));
    for outcome in ["delivered", "the receipt is not final", "restored from an older state"] {
        assert!(told.contains(outcome), "{outcome} in {told}");
    }
}

#[test]
fn a_twin_takes_over_once_and_nobody_is_told_what_is_not_true() {
    let told = outcomes(&searched("take-over", 0));
    assert!(told.contains("another instance took the connection over"), "{told}");
}

#[test]
fn a_search_stops_at_its_limit_and_says_so() {
    let limits = Limits { bytes: 1 << 16, ..Limits::default() };
    let report = search(&Shape::named("(2,2,0)").unwrap(), &limits, |_| {});
    assert!(matches!(report.end, End::Stopped("the limit of memory")), "{report:?}");
}

#[test]
fn a_trace_can_be_gone_again() {
    let shape = Shape::named("(1,1,0)").unwrap();
    let trace = [Action::Deliver(1, Way::Up), Action::Deliver(1, Way::Down), Action::Send(Program::Client(0))];
    assert_eq!(retrace(&shape, &trace), None);
}

#[test]
fn what_a_machine_only_counts_takes_no_part_in_a_hash() {
    let hash = |counters: &Counters| {
        let mut hasher = DefaultHasher::new();
        counters.hash(&mut hasher);
        hasher.finish()
    };
    let (none, mut some) = (Counters::default(), Counters::default());
    some.duplicates = 1;
    assert_ne!(none, some);
    assert_eq!(hash(&none), hash(&some));
}

#[test]
fn every_shape_has_a_name_of_its_own() {
    let mut names: Vec<_> = Shape::all().iter().map(|shape| shape.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
