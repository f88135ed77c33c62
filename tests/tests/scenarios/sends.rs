//! Sends that fail for now, wait in line, fill their queue, and wait while nobody is there.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::net::Way;
use harness::world::Road;
use harness::world::accept;
use harness::world::code;
use harness::world::defer;
use harness::world::frames_of;
use harness::world::in_lane;
use harness::world::manual;
use harness::world::patient;
use harness::world::payload;
use harness::world::reject;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::MessageId;
use reattach_core::link::Decision;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::OpenError;
use reattach_core::rng::Rng;
use reattach_core::server;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const OFFLINE: Road = Road::Failing(OpenError::Unreachable);

// N09, S004-061, S004-058, S004-141
#[test]
fn n09_three_transient_failures_are_told_each_and_the_fourth_try_delivers_once() {
    play(|| {
        let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")));
        for (attempt, millis) in [(1, 3_000), (2, 6_000), (3, 9_000)] {
            it.decide("m", defer("internal", None));
            it.run_to(millis - 1);
            assert_eq!(hands(&it, "m"), attempt, "nothing before {millis}");
            let told = it.world.retries_up(0);
            assert_eq!(told.last().map(|(of, attempt, _)| (*of, *attempt)), Some((id, attempt)));
            let retry_at = it.since(told.last().expect("it was told").2);
            assert!((u128::from(millis)..u128::from(millis) + 100).contains(&retry_at), "{retry_at}");
            // The input stays usable: another message goes while this one waits.
            let beside = it.send_up(0, "beside", &format!("beside {attempt}"));
            it.run_to(millis);
            it.run_for(10 * MILLI);
            it.decide(&format!("beside {attempt}"), accept());
            it.run_for(20 * MILLI);
            assert!(it.world.outcomes_up(0).contains(&(beside, Outcome::Delivered)));
            assert_eq!(hands(&it, "m"), attempt + 1, "again at {millis}");
        }
        it.decide("m", accept());
        it.run_to(60_000);
        let of_m: Vec<_> = it.world.outcomes_up(0).into_iter().filter(|(of, _)| *of == id).collect();
        assert_eq!((of_m, it.world.retries_up(0).len()), (vec![(id, Outcome::Delivered)], 3));
        let view = it.world.client().client.view();
        assert_eq!((view.pending, view.delayed, view.failed), (0, 0, 0), "nothing is shown of it any more");
        assert_eq!(it.world.writes(Way::Up, "m").len(), 1, "the receiver has it: one message, one name");
        it
    });
}

// N09, a variant: the fourth try fails too, S004-061
#[test]
fn n09_a_fourth_transient_failure_is_the_one_terminal_failure_and_nothing_follows() {
    play(|| {
        let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")));
        for (attempt, millis) in [(1, 3_000), (2, 6_000), (3, 9_000)] {
            it.decide("m", defer("internal", None));
            it.run_to(millis);
            assert_eq!(hands(&it, "m"), attempt + 1);
        }
        it.decide("m", defer("internal", None));
        it.run_to(9_100);
        let outcome = Outcome::Rejected { code: code("internal"), reason: String::new() };
        assert!(
            matches!(&it.world.outcomes_up(0)[..], [(of, Outcome::Rejected { code, .. })]
            if *of == id && *code == self::code("internal")),
            "{outcome}"
        );
        let events = it.world.clients[0].events.len();
        it.run_to(300_000);
        assert_eq!((it.world.clients[0].events.len(), hands(&it, "m")), (events, 4), "nothing follows");
        assert_eq!(it.world.client().client.view().failed, 1);
        it
    });
}

// N09, a variant: 404, 400, 401, 403, 422, S004-058
#[test]
fn n09_a_permanent_failure_is_one_terminal_failure_at_once() {
    for why in ["not-found", "bad-request", "unauthorized", "forbidden", "unprocessable"] {
        play(|| {
            let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")));
            it.decide("m", reject(why));
            // The report travels for 10 ms.
            it.run_to(10);
            let outcome = Outcome::Rejected { code: code(why), reason: String::new() };
            assert_eq!(it.world.outcomes_up(0), [(id, outcome)]);
            it.run_to(60_000);
            assert_eq!((it.world.retries_up(0).len(), it.world.outcomes_up(0).len(), hands(&it, "m")), (0, 1, 1));
            it
        });
    }
}

// N09, a variant: 429 with a delay of 10 s, S004-141
#[test]
fn n09_a_delay_that_the_receiver_names_is_kept_to_the_millisecond() {
    play(|| {
        let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")));
        it.decide("m", defer("rate-limited", 10));
        it.run_to(9_999);
        assert_eq!(hands(&it, "m"), 1);
        it.run_to(10_000);
        assert_eq!(hands(&it, "m"), 2);
        it.decide("m", accept());
        it.run_to(11_000);
        assert_eq!(it.world.outcomes_up(0), [(id, Outcome::Delivered)]);
        it
    });
}

// N09, a variant: silence, S004-061
#[test]
fn n09_where_nobody_ever_answers_the_deadline_ends_the_wait_and_nothing_is_claimed() {
    for is_heard in [true, false] {
        play(|| {
            let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")).within(20 * SECOND));
            if !is_heard {
                it.world.stall(0);
                it.world.road = Road::Silent;
            }
            // The deadline counts from the send, 10 ms before; withdrawing it may take the default of 30 s.
            it.run_to(49_989);
            assert_eq!(it.world.outcomes_up(0), []);
            it.run_to(50_100);
            let honest = Outcome::Unknown { reason: Unknown::VoidUnanswered };
            assert_eq!(it.world.outcomes_up(0), [(id, honest)], "heard: {is_heard}");
            it.world.road = Road::Open;
            // The lease of 5 min ends what nobody decides about.
            it.run_to(400_000);
            assert_eq!((it.world.outcomes_up(0).len(), hands(&it, "m")), (1, 1));
            it
        });
    }
}

// N11, S004-073, S004-074, S004-157
#[test]
fn n11_a_lane_is_applied_in_order_behind_a_head_that_fails_once_and_other_lanes_pass() {
    for seed in 0..24 {
        play(|| {
            let it = offline_queue_flushed(&defer("busy", None), seed);
            assert_eq!(handed_in_lane(&it), ["A", "A", "B", "C", "D"], "seed {seed}");
            assert!(it.world.outcomes_up(0).iter().all(|(_, outcome)| outcome.is_delivered()));
            assert_eq!(it.ledger.applied(), ["A", "B", "C", "D", "X"]);
            it
        });
    }
}

// N11, a variant: its head fails for good
#[test]
fn n11_a_head_that_fails_for_good_lets_the_rest_of_its_lane_go_in_order() {
    for seed in 0..24 {
        play(|| {
            let it = offline_queue_flushed(&reject("no"), seed);
            assert_eq!(handed_in_lane(&it), ["A", "B", "C", "D"], "seed {seed}");
            assert_eq!(it.ledger.applied(), ["B", "C", "D", "X"]);
            let outcomes = it.world.outcomes_up(0);
            let rejected = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Rejected { .. }));
            assert_eq!((rejected.count(), outcomes.len()), (1, 5));
            it
        });
    }
}

/// A, B and C were queued offline in one lane and X in another; D follows at the welcome. The first hand-over of A is decided as
/// given, everything else is accepted, each after a delay of its own; reports are held up for a while now and then.
fn offline_queue_flushed(head: &Decision, seed: u64) -> Ensemble {
    let mut it = Ensemble::attached_with(manual(), patient());
    let mut rng = Rng::new(seed);
    it.world.road = OFFLINE;
    it.world.cut(0);
    for (lane, text) in [("s1", "A"), ("s1", "B"), ("s1", "C"), ("s2", "X")] {
        it.send_up(0, lane, text);
    }
    it.run_for(SECOND);
    it.begin();
    it.world.road = Road::Open;
    it.reconnect(0);
    it.until(|it| it.world.attaches(0).len() == 2);
    it.send_up(0, "s1", "D");
    let (mut seen, mut due) = (0, Vec::new());
    while it.world.outcomes_up(0).len() < 5 {
        it.run_for(25 * MILLI);
        assert!(it.millis() < 60_000, "seed {seed}");
        let now = it.world.now;
        for (_, delivery) in &it.world.deliveries[seen..] {
            let text: String = delivery.payload().parse().expect("a text");
            let decision = if text == "A" && delivery.turn() == 1 { head.clone() } else { accept() };
            due.push((now + rng.between(Duration::ZERO, 2 * SECOND), text, decision));
        }
        if seen == 0 && !it.world.deliveries.is_empty() {
            assert_eq!(it.world.taken_texts(), ["A", "X"], "X does not wait for A, and nothing of its lane passes A");
        }
        seen = it.world.deliveries.len();
        let (ready, later) = due.into_iter().partition(|(at, _, _)| *at <= now);
        due = later;
        let ready: Vec<_> = ready;
        ready.into_iter().for_each(|(_, text, decision)| it.decide(&text, decision));
        let wire = it.world.wire(0);
        if rng.below(10) == 0 {
            it.world.net.stall(wire, Way::Down);
        } else if rng.below(4) == 0 {
            it.world.net.unstall(wire, Way::Down);
        }
    }
    it.world.net.unstall_all();
    it
}

// N12, S004-071, S004-072
#[test]
fn n12_a_full_queue_refuses_aloud_and_loses_nothing_when_everything_fails_at_once() {
    for lane in ["s1", "s2"] {
        play(|| {
            let mut it = Ensemble::attached_with(server::Config::default(), patient());
            it.world.road = OFFLINE;
            it.world.cut(0);
            let mut sent = send_some(&mut it, "s1", 0..100);
            assert_eq!(sent.len(), 100);
            assert_eq!(it.try_send_up(0, in_lane("s1", "100")), Err(ApiMisuse::QueueFull), "the 101st, aloud");
            it.run_for(SECOND);
            it.begin();
            it.world.road = Road::Open;
            it.reconnect(0);
            it.run_for(20 * MILLI);
            let wire = it.world.wire(0);
            it.until(|it| it.world.attaches(0).len() == 2);
            // Not one report gets through.
            it.world.net.stall(wire, Way::Down);
            assert_eq!(messages_on(&it, wire), 100, "all are written at the welcome");
            let more = send_some(&mut it, lane, 200..250);
            // The house's bound is 200, of which one lane gets half: the default differs from the script's one queue of 100.
            assert_eq!(more.len(), if lane == "s1" { 0 } else { 50 }, "in lane {lane}");
            sent.extend(more);
            let stats = it.world.client().client.stats();
            assert!(stats.queued + stats.written <= 200, "{stats:?}");
            it.world.cut(0);
            it.settle();
            assert_eq!(it.world.outcomes_up(0), [], "nobody can tell yet, and nobody does");
            it.reconnect(0);
            it.run_for(SECOND);
            let again = it.world.wire(0);
            assert!(messages_on(&it, again) <= 200, "{} writes at the next welcome", messages_on(&it, again));
            it.rest();
            let mut outcomes = it.world.outcomes_up(0);
            outcomes.sort_by_key(|(id, _)| sent.iter().position(|sent| sent == id));
            let delivered: Vec<_> = sent.into_iter().map(|id| (id, Outcome::Delivered)).collect();
            assert_eq!(outcomes, delivered, "each that was accepted was delivered, and no other");
            let texts = it.world.taken_texts();
            let of_s1: Vec<_> = (0..100).map(|number| number.to_string()).collect();
            let taken: Vec<_> = texts.into_iter().filter(|text| text.len() < 3).collect();
            assert_eq!(taken, of_s1, "in order");
            it
        });
    }
}

// N13, S004-066, S004-156
#[test]
fn n13_a_retry_that_falls_due_while_the_link_is_down_writes_nothing_and_burns_nothing() {
    // Whether the deferral ends before the welcome, after it, or long ago as the clock jumps 10 min.
    for order in ["timer first", "welcome first", "after a jump"] {
        play(|| {
            let mut config = manual();
            config.detach_ttl = 3_600 * SECOND;
            let (mut it, id) = handed_at_zero_with(config, Outgoing::from(payload("m")));
            it.decide("m", defer("internal", None));
            it.run_to(1_000);
            it.world.road = OFFLINE;
            it.world.is_reading = false;
            it.world.cut(0);
            it.run_to(2_970);
            assert_eq!(told(&it, id), [1]);
            match order {
                "timer first" => {
                    // Its hello arrives at 3,000, when the timer is due and fires before.
                    it.world.road = Road::Open;
                    it.reconnect(0);
                    it.run_to(3_000);
                }
                "welcome first" => {
                    it.world.road = Road::Open;
                    it.reconnect(0);
                    it.run_to(2_999);
                    it.world.now = it.world.now + MILLI;
                    it.settle();
                    it.run_to(3_000);
                }
                _ => {
                    it.run_to(3_000);
                    assert_eq!((it.world.writes(Way::Up, "m").len(), told(&it, id)), (1, vec![1]), "at 3,000");
                    it.jump(600 * SECOND);
                    it.world.road = Road::Open;
                    it.reconnect(0);
                }
            }
            it.run_for(SECOND);
            assert_eq!(it.world.client().client.status(), Status::Attached);
            it.world.is_reading = true;
            it.run_for(SECOND);
            assert_eq!((hands(&it, "m"), told(&it, id)), (2, vec![1]), "{order}: timer and welcome are one retry");
            assert_eq!(it.world.writes(Way::Up, "m").len(), 1, "{order}: the receiver has it");

            // The link comes up 30 times and dies before anything is written on it, and then 30 times before it is up.
            for attach in 3..33 {
                it.world.cut(0);
                it.settle();
                it.reconnect(0);
                it.until(|it| it.world.attaches(0).len() == attach);
            }
            it.world.road = OFFLINE;
            it.world.cut(0);
            let behind = it.send_up(0, "behind", "behind");
            for _ in 0..30 {
                it.world.road = Road::Open;
                it.reconnect(0);
                // The hello is on its way to the server, or the welcome to the client.
                it.run_for(25 * MILLI);
                it.world.road = OFFLINE;
                it.world.cut(0);
                it.settle();
            }
            assert_eq!(told(&it, id), [1], "{order}: attempts are what they were");
            assert_eq!(it.world.writes(Way::Up, "behind").len(), 0);
            it.world.road = Road::Open;
            it.reconnect(0);
            it.run_for(SECOND);
            it.decide("m", accept());
            it.decide("behind", accept());
            it.rest();
            let expected = [(id, Outcome::Delivered), (behind, Outcome::Delivered)];
            assert_eq!(it.world.outcomes_up(0), expected);
            assert_eq!((it.world.writes(Way::Up, "m").len(), it.world.writes(Way::Up, "behind").len()), (1, 1));
            let stats = it.world.clients[0].client.stats();
            assert_eq!((stats.link.lost, stats.link.rewritten), (0, 0), "{order}");
            let withdrawn = it.world.times(Way::Up, |frame| matches!(frame, Frame::Void(_)));
            assert_eq!(withdrawn, [], "{order}: no attempt was burned, and so none was the last");
            it
        });
    }
}

// N13, the house's way: the receiver has the message, and its application may take it again while nobody is attached.
#[test]
fn n13_a_retry_goes_on_at_the_receiver_while_the_link_is_down_and_its_sender_hears_of_the_end_at_the_welcome() {
    play(|| {
        let (mut it, id) = handed_at_zero(Outgoing::from(payload("m")));
        it.decide("m", defer("internal", None));
        it.run_to(1_000);
        it.world.road = OFFLINE;
        it.world.cut(0);
        it.run_to(2_999);
        assert_eq!(hands(&it, "m"), 1);
        it.run_to(3_000);
        assert_eq!((hands(&it, "m"), it.world.writes(Way::Up, "m").len()), (2, 1));
        it.decide("m", accept());
        it.run_to(20_000);
        assert_eq!(it.world.outcomes_up(0), []);
        it.world.road = Road::Open;
        it.reconnect(0);
        it.run_for(SECOND);
        assert_eq!(it.world.outcomes_up(0), [(id, Outcome::Delivered)]);
        assert_eq!(it.world.writes(Way::Up, "m").len(), 1);
        it
    });
}

/// A message that was handed over to the server's application at the script's time 0.
fn handed_at_zero(message: Outgoing) -> (Ensemble, MessageId) {
    handed_at_zero_with(manual(), message)
}

fn handed_at_zero_with(config: server::Config, message: Outgoing) -> (Ensemble, MessageId) {
    let mut it = Ensemble::attached_with(config, patient());
    let id = it.try_send_up(0, message).expect("room in the outbox");
    it.run_for(10 * MILLI);
    it.begin();
    assert_eq!(hands(&it, "m"), 1);
    (it, id)
}

/// How often the message with this text was handed over.
fn hands(it: &Ensemble, text: &str) -> u32 {
    let count = it.world.taken_texts().into_iter().filter(|taken| *taken == text).count();
    u32::try_from(count).expect("a few")
}

/// The attempts of a message that were told to have failed for now, in order.
fn told(it: &Ensemble, id: MessageId) -> Vec<u32> {
    let told = it.world.retries_up(0).into_iter().filter(|(of, _, _)| *of == id);
    told.map(|(_, attempt, _)| attempt).collect()
}

/// What was handed over of lane s1, in order.
fn handed_in_lane(it: &Ensemble) -> Vec<&str> {
    it.world.taken_texts().into_iter().filter(|text| *text != "X").collect()
}

/// Sends numbers in a lane as long as there is room, and counts on a refusal for each that finds none.
fn send_some(it: &mut Ensemble, lane: &str, numbers: core::ops::Range<u32>) -> Vec<MessageId> {
    let mut sent = Vec::new();
    for number in numbers {
        match it.try_send_up(0, in_lane(lane, &number.to_string())) {
            Ok(id) => sent.push(id),
            Err(error) => assert_eq!(error, ApiMisuse::QueueFull),
        }
    }
    it.settle();
    sent
}

/// How many messages the client has written on a wire.
fn messages_on(it: &Ensemble, wire: harness::net::WireId) -> usize {
    let texts = it.world.texts_on(wire, Way::Up).into_iter();
    texts.map(|text| frames_of(text).iter().filter(|frame| matches!(frame, Frame::Message(_))).count()).sum()
}
