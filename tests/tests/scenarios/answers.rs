//! Answers of people, and a server that goes away with work outstanding.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::House;
use harness::ensemble::Ledger;
use harness::ensemble::play;
use harness::ensemble::question;
use harness::ensemble::request;
use harness::ensemble::session;
use harness::net::Way;
use harness::world::Road;
use harness::world::patient;
use reattach_core::connection::Currency;
use reattach_core::hub::Ended;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::messages::Choice;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::permission::Verdict;
use reattach_core::reconnect::OpenError;
use reattach_core::rpc::Call;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::RequestId;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::wire::Payload;

const ALLOW: Choice = Choice::Allow { updated_input: None };
const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

// N02, S000-24, S004-140, S000-22: the path eats what came back first. The link asks after 5 s, and no answer is sent again.
#[test]
fn n02_an_answer_whose_confirmation_is_lost_once_is_confirmed_when_the_link_asks() {
    play(|| {
        let mut it = asked(&["p1"]);
        it.answer(0, "p1", ALLOW);
        it.run_to(10);
        let late = lose_what_comes(&mut it);
        it.run_to(4_999);
        assert!(matches!(it.users[0].dialog("p1"), Some(Status::Sending { .. })), "it is listed");
        it.run_to(5_999);
        expect_allowed_once(&it);
        assert_eq!(it.users[0].retries, 0, "the link was before the retry at 6,000");
        it.run_to(9_000);
        let told = it.world.clients[0].events.len();
        hear_late(&mut it, &late);
        assert_eq!(it.world.clients[0].events.len(), told, "what comes late is ignored");
        expect_allowed_once(&it);
        it
    });
}

// N02, S000-24, S004-140, S000-22: the path eats whatever comes until the answer was sent again.
#[test]
fn n02_an_answer_that_is_sent_again_is_a_duplicate_to_the_server_and_counts_once() {
    play(|| {
        let mut it = asked(&["p1"]);
        it.answer(0, "p1", ALLOW);
        it.run_to(10);
        let late = lose_what_comes(&mut it);
        while it.millis() < 6_050 {
            let before = it.users[0].retries;
            it.run_for(5 * MILLI);
            lose_what_comes(&mut it);
            assert_eq!(it.users[0].retries, u32::from(it.millis() >= 6_000), "one retry, at 6,000: {before}");
            assert!(it.users[0].dialog("p1").is_some(), "it is listed");
        }
        let desk = &it.house.desks[&it.world.cid()];
        assert_eq!(desk.rpc.stats().served, 3, "the server has seen the answer twice, beside the watching");
        assert_eq!(it.verdicts("p1").len(), 1, "and acted once");
        it.run_to(9_000);
        // Nothing else has come through yet: what comes late is the confirmation, and it is one.
        hear_late(&mut it, &late);
        expect_allowed_once(&it);
        it.rest();
        expect_allowed_once(&it);
        it
    });
}

/// The path eats what is on its way to the client. Returns it.
fn lose_what_comes(it: &mut Ensemble) -> Vec<String> {
    let wire = it.world.wire(0);
    let lost = it.world.net.in_flight(wire, Way::Down);
    it.world.net.drop_texts(wire, Way::Down, |_| true);
    lost
}

/// What was lost comes after all.
fn hear_late(it: &mut Ensemble, late: &[String]) {
    assert!(late.concat().contains("ack"), "the ack was lost: {late:?}");
    late.iter().for_each(|text| it.world.inject_down(0, text));
    it.run_for(100 * MILLI);
    assert_eq!(it.world.attaches(0), [false]);
}

/// The agent was told once that it may, and the dialog went once.
fn expect_allowed_once(it: &Ensemble) {
    assert!(matches!(it.verdicts("p1")[..], [Verdict::Allow { .. }]), "{:?}", it.verdicts("p1"));
    assert_eq!(it.users[0].removed, [(question("p1"), Removed::Confirmed(ALLOW))]);
    assert_eq!(it.house.hub.broker().status(&session("s1")), (0, 0));
}

// N15, the server goes on from its very state: S002-70, S004-149, S004-150, S004-142
#[test]
fn n15_a_server_that_goes_on_from_its_last_state_continues_as_if_nothing_had_been() {
    play(|| {
        let mut it = outstanding();
        let m1 = it.send_up(0, "s1", "m1");
        it.run_for(50 * MILLI);
        let copy = Copy::of(&it);
        answer_offline(&mut it);
        copy.restore(&mut it, Currency::Current);
        come_back(&mut it);
        // The script expects another epoch, for its servers cannot know that a copy is the last. Ours may be told.
        assert_eq!(it.world.attaches(0), [false, true]);
        assert_eq!(outcome_of(&it, m1), Outcome::Delivered);
        expect_p1_applied_once_and_p2_shown_once(&mut it);
        it
    });
}

// N15, the server goes on from a copy of its state: S002-70, S004-149, S004-150, S004-142
#[test]
fn n15_a_server_that_goes_on_from_a_copy_applies_nothing_twice_and_claims_nothing_that_it_does_not_know() {
    for is_m1_in_it in [true, false] {
        play(|| {
            let mut it = outstanding();
            let mut copy = Copy::of(&it);
            let m1 = it.send_up(0, "s1", "m1");
            it.run_for(50 * MILLI);
            if is_m1_in_it {
                copy = Copy::of(&it);
            }
            answer_offline(&mut it);
            copy.restore(&mut it, Currency::Stale);
            come_back(&mut it);
            assert_eq!(it.world.attaches(0), [false, false], "nothing of the epoch goes on");
            let honest = Outcome::Unknown { reason: Unknown::ReceiptNotFinal };
            let expected = if is_m1_in_it { Outcome::Delivered } else { honest };
            assert_eq!(outcome_of(&it, m1), expected);
            // In another epoch nobody has watched s1 yet when the answer comes, so that it is refused and sent again after a second.
            assert_eq!(it.verdicts("p1"), []);
            it.run_for(SECOND);
            assert_eq!(it.users[0].retries, 1);
            expect_p1_applied_once_and_p2_shown_once(&mut it);
            it
        });
    }
}

/// The answer that was given offline counts once, p2 is there once and can be answered, and m1 did not run again.
fn expect_p1_applied_once_and_p2_shown_once(it: &mut Ensemble) {
    assert_eq!(it.verdicts("p1").len(), 1);
    assert_eq!(it.users[0].removed, [(question("p1"), Removed::Confirmed(ALLOW))]);
    assert_eq!(it.users[0].dialog("p2"), Some(&Status::Pending));
    assert_eq!(it.users[0].shown, [question("p1"), question("p2")], "each was shown once");
    let m1_ran = it.world.taken_texts().into_iter().filter(|text| *text == "m1").count();
    assert_eq!((m1_ran, it.world.writes(Way::Up, "m1").len()), (1, 1));
    it.append(&session("s1"), "after");
    it.answer(0, "p2", Choice::Deny);
    it.rest();
    assert_eq!(it.verdicts("p2").len(), 1);
    assert_eq!(it.users[0].seen_in(&session("s1")), ["after"]);
}

// N15, the server has lost everything: S002-70, S004-149, S004-150, S004-142
#[test]
fn n15_a_server_without_its_state_leaves_nothing_in_silence() {
    play(|| {
        let mut it = outstanding();
        let m1 = it.send_up(0, "s1", "m1");
        it.run_for(50 * MILLI);
        answer_offline(&mut it);
        lose_the_server(&mut it);
        come_back(&mut it);
        assert_eq!(it.world.attaches(0), [false, false]);
        let unknown = Outcome::Unknown { reason: Unknown::NoReceipt };
        assert_eq!(outcome_of(&it, m1), unknown);
        assert_eq!(it.world.writes(Way::Up, "m1").len(), 1, "it is not sent again by itself");
        let mut removed = it.users[0].removed.clone();
        removed.sort_by_key(|(id, _)| id.clone());
        let forgotten = ["p1", "p2"].map(|name| (question(name), Removed::Forgotten));
        assert_eq!(removed, forgotten, "the answer to p1 is told to be in vain, and p2 is no longer there");
        assert_eq!(it.users[0].ended, [(session("s1"), Ended::UnknownSession)], "the session is not known");

        // A message to a session that is not known is refused; its client opens the session again and sends it again, once.
        let m2 = chat(&mut it, "m2");
        let error = it.users[0].result(m2).expect("it is answered").clone().expect_err("it is refused");
        assert_eq!(error.to_string(), format!("request {m2} (chat) failed: unknown session (404)"));
        it.create_session("s1", 0);
        it.watch(0, &session("s1"));
        let again = chat(&mut it, "m2");
        assert!(it.users[0].result(again).expect("it is answered").is_ok());
        assert_eq!(it.users[0].seen_in(&session("s1")), ["m2"]);
        it
    });
}

// N15, a variant: the answer was applied and its confirmation is lost with the server. S000-24, S004-142
#[test]
fn n15_an_answer_that_was_applied_before_the_restart_counts_once_or_is_told_to_be_in_vain() {
    for currency in [Some(Currency::Current), Some(Currency::Stale), None] {
        play(|| {
            let mut it = outstanding();
            it.answer(0, "p1", ALLOW);
            it.run_for(50 * MILLI);
            assert_eq!(it.verdicts("p1").len(), 1);
            let copy = Copy::of(&it);
            go_away(&mut it);
            it.run_for(SECOND);
            match currency {
                Some(currency) => copy.restore(&mut it, currency),
                None => lose_the_server(&mut it),
            }
            come_back(&mut it);
            it.rest();
            let of_p1 = it.users[0].removed.iter().filter(|(id, _)| *id == question("p1")).map(|(_, why)| why);
            let confirmed = [&Removed::Confirmed(ALLOW)];
            let expected = if currency.is_some() { confirmed } else { [&Removed::Forgotten] };
            assert_eq!(of_p1.collect::<Vec<_>>(), expected, "{currency:?}");
            assert_eq!(it.verdicts("p1").len(), usize::from(currency.is_some()), "{currency:?}");
            it
        });
    }
}

/// The one outcome of a message.
fn outcome_of(it: &Ensemble, id: MessageId) -> Outcome {
    let outcomes: Vec<_> = it.world.outcomes_up(0).into_iter().filter(|(of, _)| *of == id).collect();
    let [(_, outcome)] = &outcomes[..] else { panic!("{id} has the outcomes {outcomes:?}") };
    outcome.clone()
}

/// Sends something to session s1 as a request, which the server's application does if it knows the session.
fn chat(it: &mut Ensemble, text: &str) -> RequestId {
    let params = Payload::new(&("s1", text)).expect("JSON");
    let id = it.request(0, Call::new("chat").and_then(|call| call.with_params(params)).expect("a good call"));
    it.run_for(100 * MILLI);
    let (cid, now) = (it.world.cid(), it.world.now);
    let call = it.house.desks.get_mut(&cid).and_then(|desk| desk.calls.pop()).expect("it has come");
    let is_known = it.house.hub.sessions().log(&session("s1")).is_some();
    if is_known {
        it.append(&session("s1"), text);
    }
    let unknown = || ErrorObject::new(404, "unknown session");
    let result = if is_known { Ok(Payload::new(&true).expect("JSON")) } else { Err(unknown()) };
    it.house.respond(cid, call.id.expect("it is a request"), result, now).expect("the client waits");
    it.run_for(100 * MILLI);
    id
}

/// What a server has on its disk.
struct Copy {
    server: Server,
    house: House,
    ledger: Ledger,
}

impl Copy {
    fn of(it: &Ensemble) -> Self {
        Self { server: it.world.server.clone(), house: it.house.clone(), ledger: it.ledger.clone() }
    }

    /// Another life of the server goes on from it.
    fn restore(self, it: &mut Ensemble, currency: Currency) {
        let now = it.world.now;
        it.house = self.house;
        let connections: Vec<_> = self.server.connections().copied().collect();
        connections.into_iter().for_each(|cid| it.house.hub.handle_detached(cid, now));
        it.ledger.on_server_replaced(Some(&self.ledger));
        let server = self.server.restored(InstanceId::from_bytes([60; 16]), currency, now);
        it.world.replace_server(server);
        it.settle();
    }
}

/// p1 and p2 are shown to C1, and nothing comes through to it any more.
fn outstanding() -> Ensemble {
    let mut it = asked(&["p1", "p2"]);
    let wire = it.world.wire(0);
    it.world.net.stall(wire, Way::Down);
    it
}

/// C1 loses its transport with what was on its way, an ack of m1 included, and answers p1 meanwhile.
fn answer_offline(it: &mut Ensemble) {
    assert!(it.ledger.applied().contains(&"m1"), "the server has run m1");
    assert_eq!(it.world.outcomes_up(0).len(), 1, "the watching; nobody knows of m1 yet");
    go_away(it);
    it.answer(0, "p1", ALLOW);
    it.run_for(SECOND);
    assert_eq!(it.verdicts("p1"), []);
}

/// C1 loses its transport with what was on its way.
fn go_away(it: &mut Ensemble) {
    it.world.road = Road::Failing(OpenError::Unreachable);
    lose_what_comes(it);
    it.world.net.unstall_all();
    it.world.cut(0);
    it.settle();
}

/// Another life of the server begins with nothing.
fn lose_the_server(it: &mut Ensemble) {
    let (config, now) = (it.world.server_config(), it.world.now);
    it.house = House::new(now);
    it.ledger.on_server_replaced(None);
    it.world.replace_server(Server::new(config, now));
    it.settle();
}

fn come_back(it: &mut Ensemble) {
    it.world.road = Road::Open;
    it.reconnect(0);
    it.run_for(SECOND);
}

/// C1 is attached and watches s1, whose agent has asked these. The script begins.
fn asked(names: &[&str]) -> Ensemble {
    let mut it = Ensemble::attached_with(server::Config::default(), patient());
    let s1 = it.create_session("s1", 0);
    it.watch(0, &s1);
    it.run_for(100 * MILLI);
    names.iter().for_each(|name| it.ask(&s1, request(name)));
    it.run_for(100 * MILLI);
    assert_eq!(it.users[0].shown.len(), names.len());
    it.begin();
    it
}
