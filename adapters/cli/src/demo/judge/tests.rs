#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use super::*;

/// The lane of these tests: its numbers are 0, 6 and 12.
const NEXT: u64 = LANES;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn id(n: u64) -> MessageId {
    format!("00000000-0000-8000-8000-{n:012}").parse().unwrap()
}

fn sent(n: u64) -> Line {
    Line::Sent { n, id: id(n), at: ms(0), within: None, hands: 2 }
}

fn expiring(n: u64, within: u64) -> Line {
    Line::Sent { n, id: id(n), at: ms(0), within: Some(ms(within)), hands: 2 }
}

fn handed(n: u64, turn: u32, at: u64) -> Line {
    Line::Handed { n, lane: lane_of(n), turn, since: ms(at), at: ms(at), is_intact: true }
}

fn deciding(n: u64, at: u64, decision: Decided) -> Line {
    Line::Deciding { n, at: ms(at), decision }
}

fn accepting(n: u64, at: u64) -> Line {
    deciding(n, at, Decided::Accept)
}

fn rejecting(n: u64, at: u64, code: &str) -> Line {
    deciding(n, at, Decided::Reject { code: code.to_owned(), reason: "words".to_owned() })
}

fn deferring(n: u64, at: u64, code: &str) -> Line {
    deciding(n, at, Decided::Defer { code: code.to_owned(), retry_after: ms(30) })
}

fn told(n: u64, outcome: Outcome) -> Line {
    Line::Told { id: id(n), word: Word::Outcome(outcome) }
}

fn put_off(n: u64, attempt: u32, code: &str) -> Line {
    Line::Told { id: id(n), word: Word::PutOff { attempt, code: code.to_owned() } }
}

/// The outcome, by event and by receipt.
fn claimed(n: u64, at: u64, outcome: &Outcome) -> [Line; 2] {
    [told(n, outcome.clone()), Line::Claimed { n, at: ms(at), outcome: outcome.clone() }]
}

fn delivered(n: u64) -> [Line; 2] {
    claimed(n, 1_000, &Outcome::Delivered)
}

fn rejected(code: &str, reason: &str) -> Outcome {
    Outcome::Rejected { code: code.parse().unwrap(), reason: reason.to_owned() }
}

fn not_delivered(reason: NotDelivered) -> Outcome {
    Outcome::NotDelivered { reason }
}

fn unknown(reason: Unknown) -> Outcome {
    Outcome::Unknown { reason }
}

/// What is found in a book.
fn found(lines: &[Line]) -> Vec<Broken> {
    let judgement = judge(lines);
    let tally = &judgement.all;
    let counted =
        tally.false_claims + tally.unclaimed + tally.out_of_order + tally.handed_twice + tally.otherwise_broken;
    assert_eq!(counted, judgement.broken.len() as u64, "what is broken is counted, once");
    judgement.broken.into_iter().map(|(_, broken)| broken).collect()
}

/// What is found of message 0, with these lines and this outcome at 1,000 ms.
fn found_of(lines: &[Line], outcome: &Outcome) -> Vec<Broken> {
    found(&[lines, &claimed(0, 1_000, outcome)].concat())
}

const HONEST: [Broken; 0] = [];

#[test]
fn delivered_means_accepted_and_accepted_means_delivered() {
    let accepted = [sent(0), handed(0, 1, 10), accepting(0, 11)];
    assert_eq!(found_of(&accepted, &Outcome::Delivered), HONEST);
    assert_eq!(found_of(&accepted, &rejected("no", "")), [Broken::FalseRejected]);
    assert_eq!(found_of(&accepted, &not_delivered(NotDelivered::Cancelled)), [Broken::FalseNotDelivered]);
    assert_eq!(found_of(&accepted, &unknown(Unknown::Abandoned)), [Broken::FalseUnknown]);
    for otherwise in [
        vec![sent(0)],
        vec![sent(0), handed(0, 1, 10)],
        vec![sent(0), handed(0, 1, 10), rejecting(0, 11, "no")],
        vec![sent(0), handed(0, 1, 10), deferring(0, 11, "busy")],
        vec![sent(0), handed(0, 1, 10), deciding(0, 11, Decided::Drop)],
        vec![sent(0), handed(0, 1, 10), accepting(0, 400), Line::Refused { n: 0, at: ms(401) }],
    ] {
        assert_eq!(found_of(&otherwise, &Outcome::Delivered), [Broken::FalseDelivered], "{otherwise:?}");
    }
}

#[test]
fn rejected_means_refused_or_put_off_too_often_or_withdrawn_after_that() {
    let refused = [sent(0), handed(0, 1, 10), rejecting(0, 11, "no")];
    assert_eq!(found_of(&refused, &rejected("no", "words")), HONEST);
    assert_eq!(found_of(&refused, &rejected("no", "")), HONEST, "words may be left out");
    assert_eq!(found_of(&refused, &rejected("no", "others")), [Broken::FalseRejected]);
    assert_eq!(found_of(&refused, &rejected("yes", "words")), [Broken::FalseRejected]);
    let once = [handed(0, 1, 10), deferring(0, 11, "busy")];
    let twice = [&once[..], &[handed(0, 2, 50), deferring(0, 51, "still")]].concat();
    assert_eq!(found_of(&[&[sent(0)], &twice[..]].concat(), &rejected("still", "")), HONEST);
    assert_eq!(found_of(&[&[sent(0)], &twice[..]].concat(), &rejected("busy", "")), [Broken::FalseRejected]);
    assert_eq!(found_of(&[&[sent(0)], &once[..]].concat(), &rejected("busy", "")), [Broken::FalseRejected]);
    assert_eq!(found_of(&[&[expiring(0, 20)], &once[..]].concat(), &rejected("busy", "")), HONEST);
    assert_eq!(found_of(&[&[expiring(0, 2_000)], &once[..]].concat(), &rejected("busy", "")), [Broken::FalseRejected]);
    for otherwise in [vec![], vec![handed(0, 1, 10)], vec![handed(0, 1, 10), deciding(0, 11, Decided::Drop)]] {
        let lines = [&[sent(0)], &otherwise[..]].concat();
        assert_eq!(found_of(&lines, &rejected("busy", "")), [Broken::FalseRejected], "{otherwise:?}");
    }
}

#[test]
fn not_delivered_means_never_handed_over_and_withdrawn() {
    let cancelled = [sent(0), Line::Cancelling { n: 0, at: ms(5) }];
    let refused = [&cancelled[..], &[Line::NotCancelled { n: 0 }]].concat();
    assert_eq!(found_of(&cancelled, &not_delivered(NotDelivered::Cancelled)), HONEST);
    assert_eq!(found_of(&refused, &not_delivered(NotDelivered::Cancelled)), [Broken::FalseNotDelivered]);
    assert_eq!(found_of(&cancelled, &not_delivered(NotDelivered::Deadline)), [Broken::FalseNotDelivered]);
    assert_eq!(found_of(&[expiring(0, 1_000)], &not_delivered(NotDelivered::Deadline)), HONEST);
    let early = found_of(&[expiring(0, 1_001)], &not_delivered(NotDelivered::Deadline));
    assert_eq!(early, [Broken::FalseNotDelivered]);
    assert_eq!(found_of(&cancelled, &not_delivered(NotDelivered::Forgotten)), [Broken::FalseNotDelivered]);
    for decision in [None, Some(deferring(0, 11, "busy")), Some(deciding(0, 11, Decided::Drop))] {
        let lines: Vec<_> = cancelled.iter().cloned().chain([handed(0, 1, 10)]).chain(decision).collect();
        assert_eq!(found_of(&lines, &not_delivered(NotDelivered::Cancelled)), [Broken::FalseNotDelivered]);
    }
}

#[test]
fn unknown_means_abandoned_or_withdrawn_without_an_answer() {
    let dropped = [sent(0), handed(0, 1, 10), deciding(0, 11, Decided::Drop)];
    let late = [sent(0), handed(0, 1, 10), accepting(0, 300), Line::Refused { n: 0, at: ms(301) }];
    assert_eq!(found_of(&dropped, &unknown(Unknown::Abandoned)), HONEST);
    assert_eq!(found_of(&late, &unknown(Unknown::Abandoned)), HONEST);
    assert_eq!(found_of(&[sent(0)], &unknown(Unknown::Abandoned)), [Broken::FalseUnknown]);
    assert_eq!(found_of(&dropped, &unknown(Unknown::NoReceipt)), [Broken::FalseUnknown], "no state was lost");
    assert_eq!(found_of(&dropped, &unknown(Unknown::VoidUnanswered)), [Broken::FalseUnknown], "nobody asked");
    let asked = |at| [sent(0), Line::Cancelling { n: 0, at: ms(at) }];
    assert_eq!(found_of(&asked(600), &unknown(Unknown::VoidUnanswered)), HONEST);
    assert_eq!(found_of(&asked(900), &unknown(Unknown::VoidUnanswered)), [Broken::FalseUnknown], "given up too soon");
}

#[test]
fn each_message_has_one_outcome_by_event_and_by_receipt() {
    let accepted = [sent(0), handed(0, 1, 10), accepting(0, 11)];
    let [event, receipt] = delivered(0);
    assert_eq!(found(&accepted), [Broken::NoClaim]);
    let with = |more: &[&Line]| found(&[&accepted[..], &more.iter().copied().cloned().collect::<Vec<_>>()].concat());
    assert_eq!(with(&[&receipt]), [Broken::NotToldOnce]);
    assert_eq!(with(&[&event, &event, &receipt]), [Broken::NotToldOnce]);
    assert_eq!(with(&[&event, &receipt, &receipt]), [Broken::NotToldOnce]);
    let other = told(0, unknown(Unknown::Abandoned));
    assert_eq!(with(&[&other, &receipt]), [Broken::NotToldOnce]);
}

#[test]
fn a_deferral_is_told_as_it_was_and_before_the_end() {
    let lines = |more: &[Line]| {
        let deferred = [sent(0), handed(0, 1, 10), deferring(0, 11, "busy"), handed(0, 2, 50), accepting(0, 51)];
        found(&[&deferred[..], more, &delivered(0)[..]].concat())
    };
    assert_eq!(lines(&[put_off(0, 1, "busy")]), HONEST);
    assert_eq!(lines(&[]), HONEST, "what came after it may have overtaken it");
    for false_one in [put_off(0, 1, "idle"), put_off(0, 2, "busy"), put_off(0, 0, "busy")] {
        assert_eq!(lines(&[false_one]), [Broken::FalseDeferral]);
    }
    assert_eq!(lines(&[put_off(0, 1, "busy"), put_off(0, 1, "busy")]), [Broken::FalseDeferral]);
    let behind = [sent(0), handed(0, 1, 10), deferring(0, 11, "busy"), handed(0, 2, 50), accepting(0, 51)];
    let behind = [&behind[..], &delivered(0)[..], &[put_off(0, 1, "busy")]].concat();
    assert_eq!(found(&behind), [Broken::FalseDeferral]);
}

#[test]
fn a_lane_hands_over_in_order_and_only_when_the_one_before_is_done_with() {
    let both = |lines: &[Line]| {
        let frame = [&[sent(0), expiring(NEXT, 2_000)], lines, &delivered(0)[..], &delivered(NEXT)[..]];
        found(&frame.concat())
    };
    let [first, second] = [accepting(0, 11), accepting(NEXT, 13)];
    assert_eq!(both(&[handed(0, 1, 10), first.clone(), handed(NEXT, 1, 12), second.clone()]), HONEST);
    let swapped = [handed(NEXT, 1, 10), accepting(NEXT, 11), handed(0, 1, 12), accepting(0, 13)];
    assert_eq!(both(&swapped), [Broken::OutOfOrder]);
    let undecided = [handed(0, 1, 10), handed(NEXT, 1, 10), first, second.clone()];
    assert_eq!(both(&undecided), [Broken::DecidedTwice, Broken::Overtaken]);
    let waiting = [handed(0, 1, 10), deferring(0, 11, "busy"), handed(NEXT, 1, 12), second, handed(0, 2, 50)];
    let waiting = [&waiting[..], &[accepting(0, 51)]].concat();
    assert_eq!(both(&waiting), [Broken::OutOfOrder, Broken::Overtaken]);
    let other_lane = [sent(0), sent(1), handed(1, 1, 10), handed(0, 1, 11), accepting(0, 12), accepting(1, 13)];
    assert_eq!(found(&[&other_lane[..], &delivered(0)[..], &delivered(1)[..]].concat()), HONEST);
}

#[test]
fn a_lane_goes_on_when_the_lease_is_over_and_a_decision_then_is_refused() {
    let late = |next: u64, refused: bool| {
        let mut lines = vec![sent(0), sent(NEXT), handed(0, 1, 10), handed(NEXT, 1, next), accepting(NEXT, next + 1)];
        lines.push(accepting(0, 400));
        if refused {
            lines.push(Line::Refused { n: 0, at: ms(401) });
        }
        let outcome = if refused { unknown(Unknown::Abandoned) } else { Outcome::Delivered };
        found(&[&lines[..], &claimed(0, 1_000, &outcome)[..], &delivered(NEXT)[..]].concat())
    };
    assert_eq!(late(260, true), HONEST);
    assert_eq!(late(200, true), [Broken::Overtaken], "the lease ends at 260");
    assert_eq!(late(260, false), [Broken::DecidedTwice]);
    let refused = |extended: &[Line], closing: &[Line]| {
        let end = [accepting(0, 300), Line::Refused { n: 0, at: ms(300) }];
        found_of(&[&[sent(0), handed(0, 1, 10)], extended, closing, &end[..]].concat(), &unknown(Unknown::Abandoned))
    };
    assert_eq!(refused(&[], &[]), HONEST);
    let extended = [Line::Extended { n: 0, at: ms(11), lease: ms(500) }];
    assert_eq!(refused(&extended, &[]), [Broken::RefusedInTime]);
    assert_eq!(refused(&extended, &[Line::Closing]), HONEST, "the end takes the handles with it");
}

#[test]
fn nothing_comes_again_but_after_its_own_deferral_in_its_time_and_as_often_as_it_may() {
    let accepted = [sent(0), handed(0, 1, 10), accepting(0, 11), handed(0, 2, 50), accepting(0, 51)];
    assert_eq!(found_of(&accepted, &Outcome::Delivered), [Broken::HandedTwice]);
    let again = |turn, at| [sent(0), handed(0, 1, 10), deferring(0, 11, "busy"), handed(0, turn, at), accepting(0, 90)];
    assert_eq!(found_of(&again(2, 41), &Outcome::Delivered), HONEST);
    assert_eq!(found_of(&again(2, 30), &Outcome::Delivered), [Broken::TooEarly]);
    assert_eq!(found_of(&again(3, 41), &Outcome::Delivered), [Broken::HandedTwice], "a hand-over is missing");
    let third = [handed(0, 2, 50), deferring(0, 51, "still"), handed(0, 3, 90), accepting(0, 91)];
    let third = [&[sent(0), handed(0, 1, 10), deferring(0, 11, "busy")], &third[..]].concat();
    assert_eq!(found_of(&third, &Outcome::Delivered), [Broken::TooOften]);
    let first = [sent(0), handed(0, 2, 10), accepting(0, 11)];
    assert_eq!(found_of(&first, &Outcome::Delivered), [Broken::HandedTwice]);
}

#[test]
fn what_is_handed_over_is_what_was_sent() {
    let with = |lane, is_intact| {
        let handed = Line::Handed { n: 0, lane, turn: 1, since: ms(10), at: ms(10), is_intact };
        found_of(&[sent(0), handed, accepting(0, 11)], &Outcome::Delivered)
    };
    assert_eq!(with(0, true), HONEST);
    assert_eq!(with(1, true), [Broken::Changed]);
    assert_eq!(with(0, false), [Broken::Changed]);
    let unsent = [handed(0, 1, 10), accepting(0, 11)];
    assert!(found(&unsent).contains(&Broken::Changed));
}

#[test]
fn everything_is_counted_in_its_lane() {
    let lines = [
        &[sent(0), sent(1), expiring(2, 5), handed(0, 1, 10), deferring(0, 11, "busy"), put_off(0, 1, "busy")][..],
        &[handed(0, 2, 50), accepting(0, 51), handed(1, 1, 10), deciding(1, 11, Decided::Drop)],
        &delivered(0),
        &claimed(1, 1_000, &unknown(Unknown::Abandoned)),
        &claimed(2, 1_000, &not_delivered(NotDelivered::Deadline)),
    ];
    let judgement = judge(&lines.concat());
    assert_eq!(judgement.broken, []);
    let [first, second, third] = [&judgement.lanes[0], &judgement.lanes[1], &judgement.lanes[2]];
    assert_eq!((first.hand_overs, first.deferrals, first.deferrals_told, first.delivered), (2, 1, 1, 1));
    assert_eq!((second.unknown, second.abandoned, second.unknown_because.values().sum::<u64>()), (1, 1, 1));
    assert_eq!((third.not_delivered, third.never_handed_over), (1, 1));
    assert_eq!((judgement.all.sent, judgement.all.hand_overs, judgement.all.accepted), (3, 3, 1));
}
