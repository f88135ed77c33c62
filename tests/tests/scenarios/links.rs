//! What links and connections do to sessions: late closes, dead transports, clones and thieves.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::ensemble::question;
use harness::ensemble::request;
use harness::ensemble::session;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::token;
use harness::net::Way;
use harness::world::Road;
use harness::world::key;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Config;
use reattach_core::client::Event;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::hub::Call;
use reattach_core::id::ConnectionId;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionResponse;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::OpenError;
use reattach_core::rpc::Failure;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::session;
use reattach_core::session::Detached;
use reattach_core::session::WatchFrom;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

// N03, S004-049, S004-052
#[test]
fn n03_a_stale_close_arms_no_phantom_expiry() {
    play(|| {
        let mut it = up_to_the_close_of_t2();
        it.run_to(61_500);
        assert_eq!(expired(&it), [], "the would-be expiry of the stale close");
        it.append(&session("s1"), "e3");
        // The hello arrives three trips after the client has asked for a transport.
        it.run_to(79_970);
        it.world.road = Road::Open;
        it.reconnect(0);
        it.run_to(80_100);
        assert_eq!(it.world.attaches(0), [false, true, true]);
        assert_eq!(it.users[0].seen_in(&session("s1")), ["e1", "e2", "e3"], "what was missed comes once");
        for millis in [90_000, 140_000] {
            it.run_to(millis);
            assert_eq!(expired(&it), [], "at {millis}");
            assert_eq!(owner(&it, "s1"), Some(it.world.cid()));
        }
        it
    });
}

// N03, its variant, S004-033, S004-036
#[test]
fn n03_without_a_return_the_connection_expires_exactly_sixty_seconds_after_its_last_transport_and_once() {
    play(|| {
        let mut it = up_to_the_close_of_t2();
        it.run_to(89_999);
        assert_eq!(expired(&it), []);
        assert_eq!(owner(&it, "s1"), Some(it.world.cid()));
        it.run_to(90_000);
        assert_eq!(expired(&it), [it.world.cid()]);
        let detached: Vec<_> = it
            .house
            .events
            .iter()
            .filter(|(_, event)| matches!(event, session::Event::Detached { why: Detached::OwnerGone, .. }))
            .map(|(at, _)| it.since(*at))
            .collect();
        assert_eq!((detached, owner(&it, "s1")), (vec![90_000], None));
        it.run_to(400_000);
        assert_eq!(expired(&it).len(), 1);
        it
    });
}

/// N03 up to its step 4: C1 has moved from T1 to T2 at 1,000, T1's close has come late at 1,500, T2's at 30,000.
fn up_to_the_close_of_t2() -> Ensemble {
    let mut it = owning(patient());
    let cid = it.world.cid();
    let t1 = it.world.wire(0);
    it.run_to(970);
    // What T1 still carries to the server comes late, its close included.
    it.world.net.stall(t1, Way::Up);
    it.reconnect(0);
    it.run_to(1_000);
    let t2 = it.world.wire(0);
    assert_eq!(it.world.closed_by_server(t1), Some(CloseCode::SUPERSEDED), "T1 is evicted by T2");
    it.run_to(1_500);
    let state = |it: &Ensemble| {
        let (server, registry) = (&it.world.server, it.world.server.registry());
        let of_peer = server.peer(&cid).map(|peer| (peer.id(), peer.is_attached(), peer.connection().clone()));
        let counts = (registry.connections(), registry.transports(), registry.is_reachable(&cid));
        (of_peer, counts, server.poll_timeout(), it.house.hub.clone())
    };
    let before = state(&it);
    let closed = server::Input::Closed { transport: t1.transport(), code: CloseCode::ABNORMAL };
    let now = it.world.now;
    it.world.server.handle_input(closed, now);
    it.settle();
    assert_eq!(state(&it), before, "a dead transport changes nothing");
    it.append(&session("s1"), "e1");
    it.run_to(30_000);
    assert_eq!(it.users[0].seen_in(&session("s1")), ["e1"]);
    assert_eq!(it.world.wire(0), t2);
    it.world.road = Road::Failing(OpenError::Unreachable);
    it.world.cut(0);
    it.settle();
    it.append(&session("s1"), "e2");
    it
}

// N04, S004-006, S004-158
#[test]
fn n04_a_stream_that_is_dead_and_not_closed_costs_nothing_once_its_client_returns() {
    play(|| {
        let mut it = owning(steady());
        let t1 = it.world.wire(0);
        it.world.stall(0);
        ["e1", "e2", "e3"].iter().for_each(|event| it.append(&session("s1"), event));
        it.run_to(20_000);
        assert_eq!(it.users[0].seen_in(&session("s1")), [""; 0]);
        it.reconnect(0);
        // Opened after 20 ms, welcomed after 40.
        it.run_to(20_045);
        assert_eq!(it.world.attaches(0), [false, true], "at once: nobody waits for T1 to be found dead");
        let sent = it.send_up(0, "s1", "m");
        it.run_to(20_060);
        assert_eq!(it.ledger.applied(), ["m"], "its handler ran, once");
        // The client watches anew where it is attached again: what it missed comes behind the answer to that, a trip later.
        it.run_to(20_065);
        assert_eq!(it.users[0].seen_in(&session("s1")), ["e1", "e2", "e3"]);
        it.append(&session("s1"), "reply");
        it.run_to(20_200);
        assert_eq!(it.users[0].seen_in(&session("s1")), ["e1", "e2", "e3", "reply"]);
        let t2 = it.world.wire(0);
        let is_on = |wire| it.world.texts_down(wire).concat().contains("reply");
        assert_eq!((t1 == t2, is_on(t1), is_on(t2)), (false, false, true));
        assert_eq!(it.world.outcomes_up(0).last(), Some(&(sent, Outcome::Delivered)));
        it
    });
}

// N04, its variant, S004-007, S003-33
#[test]
fn n04_where_nobody_returns_both_sides_find_the_stream_dead_within_fifty_seconds() {
    play(|| {
        let mut it = owning(steady());
        it.world.stall(0);
        ["e1", "e2", "e3"].iter().for_each(|event| it.append(&session("s1"), event));
        let stalled = Ended::Stalled;
        it.run_to(50_100);
        assert!(it.world.clients[0].events.contains(&Event::Detached { ended: stalled }), "the client has noticed");
        let of_peer = it.world.peer_events.iter().filter(|(_, event)| *event == PeerEvent::Detached { ended: stalled });
        assert_eq!(of_peer.count(), 1, "the server has noticed");
        it.run_to(60_000);
        assert_eq!(it.users[0].seen_in(&session("s1")), ["e1", "e2", "e3"]);
        it
    });
}

// N06, S004-137
#[test]
fn n06_two_duplicated_tabs_part_after_one_eviction_and_both_go_on() {
    for apart in [0, 5, 10, 25, 30, 1_000, 30_000] {
        play(|| {
            let mut it = two_tabs(apart, false, steady());
            assert!(evictions(&it) <= 2, "{} evictions", evictions(&it));
            let told: Vec<_> =
                (0..2).filter(|tab| it.world.clients[*tab].events.contains(&Event::Superseded)).collect();
            assert_eq!(told.len(), 1, "one of them was told");
            let ids = [0, 1].map(|tab: usize| it.world.clients[tab].client.connection_id());
            assert_ne!(ids[0], ids[1], "{apart} ms apart");
            for tab in 0..2 {
                assert_eq!(it.world.clients[tab].client.status(), Status::Attached);
                let outcomes = it.world.outcomes_up(tab);
                assert!(outcomes.len() >= 60, "no message of tab {tab} is without its outcome");
                assert!(unknown_of(&outcomes) <= usize::from(told == [tab]), "tab {tab} at {apart}: {outcomes:?}");
            }
            // Both still see what happens.
            it.append(&session("s1"), "to both");
            it.rest();
            assert!((0..2).all(|tab| it.users[tab].seen_in(&session("s1")).contains(&"to both")));
            it
        });
    }
}

// N06, S004-137: the evicted tab hears of it late, at its next hello.
#[test]
fn n06_a_tab_that_was_cut_off_when_it_was_evicted_disturbs_nobody_when_it_comes_back() {
    play(|| {
        let mut it = two_tabs(1_000, true, steady());
        it.run_for(60 * SECOND);
        assert_eq!((evictions(&it), it.world.attaches(1)), (1, vec![false]), "the other tab was never disturbed");
        assert!(it.world.clients[0].events.contains(&Event::Superseded));
        assert!((0..2).all(|tab| it.world.clients[tab].client.status() == Status::Attached));
        assert_eq!(unknown_of(&it.world.outcomes_up(1)), 0);
        let outcomes = it.world.outcomes_up(0);
        let unknown = unknown_of(&outcomes);
        assert!(0 < unknown && unknown < outcomes.len(), "what it wrote to nobody, and not what it sent after");
        let message = harness::world::in_lane("s1", "0 goes on");
        it.try_send_up(0, message).expect("room in the outbox");
        it.append(&session("s1"), "to both");
        it.rest();
        assert!(it.ledger.applied().contains(&"0 goes on"));
        assert!((0..2).all(|tab| it.users[tab].seen_in(&session("s1")).contains(&"to both")));
        it
    });
}

/// How many of these are unknown because their sender was evicted. The others are delivered.
fn unknown_of(outcomes: &[(MessageId, Outcome)]) -> usize {
    let evicted = Outcome::Unknown { reason: Unknown::Superseded };
    let others: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome != evicted).collect();
    assert!(others.iter().all(|(_, outcome)| outcome.is_delivered()), "{others:?}");
    outcomes.len() - others.len()
}

// N06, its other policy, S004-137
#[test]
fn n06_a_tab_that_is_told_to_stop_stops_and_the_other_notices_nothing() {
    for apart in [0, 10, 1_000] {
        play(|| {
            let mut config = steady();
            config.on_superseded = OnSuperseded::Stop;
            let it = two_tabs(apart, false, config);
            assert_eq!(evictions(&it), 1);
            let stopped = |tab: &usize| it.world.clients[*tab].client.status() == Status::Superseded;
            let losers: Vec<_> = (0..2).filter(stopped).collect();
            let [loser] = losers[..] else { panic!("{losers:?} have stopped") };
            let winner = 1 - loser;
            assert_eq!(it.world.attaches(winner), [false], "{apart} ms apart");
            assert!(it.world.outcomes_up(winner).iter().all(|(_, outcome)| outcome.is_delivered()));
            assert!(it.world.outcomes_up(winner).len() >= 60);
            assert!(it.world.clients[loser].opens.len() <= 2, "it does not fight");
            it
        });
    }
}

/// Two tabs of one identity, of which the second starts so many milliseconds later, and a minute in which each sends something
/// every second that it can. The first may be deaf and mute by then.
fn two_tabs(apart: u64, is_stalled: bool, config: Config) -> Ensemble {
    let mut server = server::Config::default();
    server.authenticate = true;
    let mut it = Ensemble::with_server(server);
    it.world.accounts.insert("a".into(), "alice".into());
    it.begin();
    for tab in 0..2 {
        let instance = InstanceId::from_bytes([tab + 1; 16]);
        let secrets = Secrets { key: key(1), spare: Some(key(50 + tab)), instance };
        let index = it.add_client(config.clone(), secrets);
        it.world.clients[index].token = Some(token("a"));
        it.run_to(apart);
        if is_stalled && tab == 0 {
            it.world.stall(0);
        }
    }
    it.run_for(SECOND / 10);
    it.create_session("s1", 1);
    (0..2).for_each(|tab| it.watch(tab, &session("s1")));
    for second in 0..60 {
        for tab in 0..2 {
            let message = harness::world::in_lane("s1", &format!("{tab} {second}"));
            _ = it.try_send_up(tab, message);
        }
        it.run_for(SECOND);
    }
    it
}

fn evictions(it: &Ensemble) -> usize {
    it.world.registry_events.iter().filter(|event| matches!(event, RegistryEvent::TakenOver { .. })).count()
}

// N07, S004-028, S004-017, S004-020
#[test]
fn n07_another_principal_gets_nothing_of_a_connection_and_its_sessions_in_any_way() {
    play(|| {
        let mut server = server::Config::default();
        server.authenticate = true;
        let mut it = Ensemble::with_server(server);
        for (credentials, name) in [("a", "alice"), ("b", "bob")] {
            it.world.accounts.insert(credentials.into(), name.into());
        }
        for (number, credentials) in [(1, "a"), (2, "b")] {
            let index = it.add_client(steady(), secrets(number));
            it.world.clients[index].token = Some(token(credentials));
        }
        it.run_for(SECOND / 10);
        let (alice, bob) = (it.world.cid(), it.world.clients[1].client.connection_id());
        let s1 = it.create_session("s1", 0);
        it.own(0, &s1);
        it.watch(0, &s1);
        it.run_for(SECOND);
        it.ask(&s1, request("p1"));
        it.run_for(SECOND);
        it.begin();
        let of_victim = |it: &Ensemble| it.world.server.peer(&alice).map(|peer| (peer.id(), peer.connection().clone()));
        let victim = of_victim(&it);

        // The hello, with the key that was stolen and with another, and its name in upper case.
        let stolen = Hello { token: Some(token("b")), attempt: harness::frames::attempt(9), ..hello(1) };
        let guessed = Hello { key: key(9), ..stolen.clone() };
        let without = Hello { token: None, ..stolen.clone() };
        for (said, refused) in
            [(stolen, Refusal::Forbidden), (guessed, Refusal::WrongKey), (without, Refusal::Unauthenticated)]
        {
            let lower = hello_text(said);
            let upper = lower.replace(&alice.to_string(), &alice.to_string().to_uppercase());
            assert_ne!(lower, upper);
            for text in [lower, upper] {
                let wire = it.world.stranger();
                it.world.say(wire, &text);
                it.run_for(SECOND / 10);
                assert_eq!(it.world.refusal(wire), Some(refused));
                assert!(it.world.texts_down(wire).iter().all(|text| !text.contains("welcome")));
            }
        }
        assert_eq!(of_victim(&it), victim, "the victim notices nothing");

        // A message on a connection of the thief's own that claims to be of the victim's.
        let wire = it.world.stranger();
        it.world.say(wire, &hello_text(Hello { token: Some(token("b")), ..hello(3) }));
        it.run_for(SECOND / 10);
        it.world.say(wire, &format!(r#"{{"t":"msg","cid":"{alice}","seq":1,"d":"forged"}}"#));
        it.run_for(SECOND / 10);
        assert_eq!(
            it.world.taken.last(),
            Some(&(hello(3).cid, "forged".to_owned())),
            "it is whose connection it came on"
        );

        // The session and its question, by the thief's own client.
        let generation = it.house.hub.sessions().ownership(&s1).expect("there is the session").generation();
        let (from, tag) = (WatchFrom::Start, Name::new("tag").expect("a short name"));
        let answer = PermissionResponse { request_id: question("p1"), choice: Choice::Allow { updated_input: None } };
        for call in [
            Call::Watch { session: s1.clone(), from, tag },
            Call::Own { session: s1.clone() },
            Call::Release { session: s1.clone(), generation },
            Call::Suspend { session: s1.clone(), generation },
            Call::Answer(answer),
            Call::Look { request_id: question("p1"), is_looking: true },
        ] {
            let id = it.request_hub(1, &call);
            it.run_for(SECOND / 10);
            let result = it.users[1].result(id).expect("it is answered");
            let failure = result.as_ref().expect_err("it is refused").failure.clone();
            assert!(matches!(failure, Failure::Refused(_)), "{}: {failure}", call.method());
        }
        assert_eq!(it.house.hub.broker().status(&s1), (1, 0), "nobody looks at it");
        assert_eq!(it.verdicts("p1"), []);
        assert_eq!(owner(&it, "s1"), Some(alice));

        it.append(&s1, "for alice");
        it.run_for(SECOND / 10);
        assert_eq!(it.users[0].seen_in(&s1), ["for alice"]);
        assert_eq!(it.world.attaches(0), [false], "T1 is the current one still");
        let wires = it.world.texts.iter().filter(|(_, wire, way, text)| {
            *way == Way::Down && *wire != it.world.wire(0) && (text.contains("for alice") || text.contains("toolName"))
        });
        assert_eq!(wires.count(), 0, "{bob} sees nothing of the session");
        it.answer(0, "p1", Choice::Deny);
        it.rest();
        assert_eq!(it.verdicts("p1").len(), 1);
        it
    });
}

/// C1 is attached, and owns and watches s1. The script begins.
fn owning(config: Config) -> Ensemble {
    let mut it = Ensemble::attached_with(server::Config::default(), config);
    let s1 = it.create_session("s1", 0);
    it.own(0, &s1);
    it.watch(0, &s1);
    it.run_for(SECOND / 10);
    it.begin();
    it
}

fn owner(it: &Ensemble, name: &str) -> Option<ConnectionId> {
    it.house.hub.sessions().ownership(&session(name)).and_then(session::Ownership::owner)
}

/// The connections that have expired, in order.
fn expired(it: &Ensemble) -> Vec<ConnectionId> {
    let events = it.world.registry_events.iter();
    events.filter_map(|event| if let RegistryEvent::Expired { cid } = event { Some(*cid) } else { None }).collect()
}
