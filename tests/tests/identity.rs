//! Who may speak for a connection: the key, the instance, the principal, and nobody else.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::alone::epoch;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::report;
use harness::frames::token;
use harness::frames::welcome;
use harness::net::Way;
use harness::net::WireId;
use harness::world::World;
use harness::world::key;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection::Connection;
use reattach_core::id::ConnectionId;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::GiveUp;
use reattach_core::server;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;

// S004-001, S004-003, S004-004, S004-114
#[test]
fn a_client_says_the_same_id_on_every_transport_and_the_server_keeps_it() {
    let mut world = World::attached();
    let cid = world.cid();
    for _ in 0..5 {
        world.cut(0);
        world.run_for(Duration::from_secs(40));
    }
    let hellos = world.hellos();
    assert_eq!(hellos.len(), 6);
    assert!(hellos.iter().all(|hello| (hello.cid, hello.key) == (cid, key(1))));
    assert!(hellos.iter().all(|hello| hello.instance == hellos[0].instance));
    assert!(hellos.windows(2).all(|pair| pair[0].attempt < pair[1].attempt), "no hello is a copy of an earlier one");
    assert_eq!(world.server.registry().connections(), 1);
    assert_eq!(world.attaches(0), [false, true, true, true, true, true]);
}

// S004-024, S004-025
#[test]
fn the_id_is_known_before_anything_is_connected() {
    let mut world = World::new();
    world.add_client(steady(), secrets(7));
    assert_eq!(world.cid(), key(7).connection_id());
}

// S004-152
#[test]
fn an_id_that_a_server_makes_up_is_never_taken_over() {
    let mut lone = LoneClient::new(steady());
    let own = lone.client.connection_id();
    lone.opened();
    lone.receive(&Frame::Welcome(Box::new(welcome(key(9).connection_id(), epoch(2)))));
    lone.wait(Duration::from_secs(5));
    let said = format!("{:?}", lone.opened());
    assert!(said.contains(&own.to_string()) && !said.contains(&key(9).connection_id().to_string()), "{said}");
    assert_eq!(lone.client.connection_id(), own);
}

#[test]
fn a_wrong_key_is_refused_alike_whether_or_not_the_connection_exists() {
    let mut world = World::attached();
    let victim = state_of(&world);
    let of_existing = Hello { key: key(9), ..hello(1) };
    let of_missing = Hello { key: key(9), ..hello(2) };
    let refused = [of_existing, of_missing].map(|hello| {
        let wire = greet(&mut world, hello);
        assert_eq!(world.refusal(wire), Some(Refusal::WrongKey));
        (world.texts_down(wire).concat(), world.closed_by_server(wire))
    });
    assert_eq!(refused[0], refused[1]);
    assert_eq!(refused[0].1, Some(CloseCode::UNAUTHENTICATED));
    assert_eq!(state_of(&world), victim, "the victim notices nothing");
    assert_eq!(world.server.registry().connections(), 1);
}

// S004-016, S004-018, S004-019, S004-030, S004-115
#[test]
fn a_malformed_id_is_refused_with_a_code_and_never_replaced() {
    let mut world = World::new();
    let good = hello_text(hello(1));
    let cid = hello(1).cid.to_string();
    let dashes = format!("cid-{}", "-".repeat(36));
    let digits = format!("cid-{}", "0".repeat(36));
    let bad_cids = [
        "abc123",
        "",
        "conn-1719400000000-x1",
        "cid-not-a-uuid",
        &cid[4..],
        &dashes,
        &digits,
        &format!("{cid}0"),
        &format!(" {cid}"),
        &format!("{cid}\\n"),
        &format!("{cid}:s1"),
        &cid.replace('-', "_"),
    ];
    let bad_nonces = ["", "12", &"g".repeat(32), &"0".repeat(33), &"0".repeat(31)];
    let bad_cids = bad_cids.iter().map(|bad| ("cid", good.replace(&cid, bad)));
    let (key, instance) = (key(1).reveal(), hello(1).instance.to_string());
    assert_eq!(key, instance, "the test's key and instance have the same bytes");
    let of = |name: &'static str, value: &str| {
        let value = value.to_owned();
        let before = format!("\"{name}\":\"{key}\"");
        (name, good.replace(&before, &format!("\"{name}\":\"{value}\"")))
    };
    let bad_keys = bad_nonces.iter().map(|bad| of("key", bad));
    let bad_instances = bad_nonces.iter().map(|bad| of("instance", bad));
    for (name, text) in bad_cids.chain(bad_keys).chain(bad_instances).collect::<Vec<_>>() {
        assert_ne!(text, good);
        let wire = say(&mut world, &text);
        assert_eq!(world.closed_by_server(wire), Some(CloseCode::MALFORMED_ID), "{text}");
        let Some(Refusal::MalformedId { key, error: _ }) = world.refusal(wire) else { panic!("{text}") };
        assert_eq!(key, name);
        assert!(world.texts_down(wire).concat().contains("\"t\":\"bye\""), "the client is told in band too");
    }
    assert_eq!(world.server.registry().connections(), 0);
    assert_eq!(world.server.registry().transports(), 0);
}

#[test]
fn a_bad_code_in_the_report_of_a_hello_is_no_malformed_identifier() {
    let good = hello_text(Hello { epoch: Some(epoch(1)), report: report(1, 1), ..hello(1) });
    let bad = good.replace("\"settled\":1", r#""settled":1,"except":[{"seq":1,"is":"rejected","code":"!"}]"#);
    assert_ne!(bad, good);
    for (text, code) in [
        (bad.as_str(), CloseCode::PROTOCOL),
        (r#"{"t":"msg","seq":1,"id":"none","d":1}"#, CloseCode::PROTOCOL),
        (&good.replace(&epoch(1).to_string(), "none"), CloseCode::MALFORMED_ID),
    ] {
        let mut lone = LoneServer::new(server::Config::default());
        let (transport, _) = lone.accept(None);
        let outputs = lone.hear(transport, text);
        // The one lets the client come back, the other tells it to stop for good.
        assert!(outputs.contains(&server::Output::Close { transport, code }), "{text}: {outputs:?}");
    }
}

// S004-019
#[test]
fn a_client_whose_id_is_refused_as_malformed_stops_and_says_so() {
    let mut world = World::attached();
    let bye = r#"{"t":"bye","code":4422,"reason":"the hello's \"cid\" is malformed"}"#;
    world.inject_down(0, bye);
    world.drive();
    assert!(matches!(world.client().client.status(), Status::Failed(GiveUp::Hopeless { .. })));
}

// S004-017, S004-155
#[test]
fn upper_case_names_the_same_connection() {
    let mut world = World::attached();
    let cid = hello(1).cid.to_string();
    let later = hello_text(Hello { attempt: attempt(2), ..hello(1) });
    let upper = later.replace(&cid, &cid.to_uppercase()).replace(&key(1).reveal(), &key(1).reveal().to_uppercase());
    let wire = say(&mut world, &upper);
    assert!(world.texts_down(wire).concat().contains("\"t\":\"welcome\""));
    let registered =
        |event: &&RegistryEvent| matches!(event, RegistryEvent::Registered { cid, .. } if *cid == hello(1).cid);
    assert_eq!(world.registry_events.iter().filter(registered).count(), 1);
}

#[test]
fn another_instance_is_challenged_first_and_the_one_that_lives_notices_nothing() {
    let mut world = World::attached();
    let victim = state_of(&world);
    let wire = greet(&mut world, of_instance(2));
    assert!(fence_of(&world, wire).is_some());
    assert_eq!(state_of(&world), victim, "the victim notices nothing");
    world.send_up("still here");
    world.drive();
    assert_eq!(world.taken_texts(), ["still here"]);
}

#[test]
fn another_instance_takes_over_with_the_fence_and_the_evicted_one_hears_superseded() {
    let mut world = World::attached();
    let old = world.wire(0);
    let wire = greet(&mut world, of_instance(2));
    let fence = fence_of(&world, wire);
    world.say(wire, &hello_text(Hello { fence, ..of_instance(2) }));
    world.drive();
    assert!(world.texts_down(wire).concat().contains("\"t\":\"welcome\""));
    assert_eq!(world.closed_by_server(old), Some(CloseCode::SUPERSEDED));
    assert!(world.texts_down(old).concat().contains("\"t\":\"bye\",\"code\":4409"));
    assert!(world.registry_events.contains(&RegistryEvent::TakenOver { cid: hello(1).cid }));
    assert!(world.clients[0].events.contains(&Event::Superseded));
}

#[test]
fn a_wrong_fence_or_another_hello_takes_nothing_over() {
    let mut world = World::attached();
    let live = world.wire(0);
    let wrong = Some(Fence::from_bytes([9; 16]));
    let challenged = greet(&mut world, of_instance(2));
    let elsewhere = fence_of(&world, challenged);
    let answers: [&dyn Fn(Option<Fence>) -> Hello; 6] = [
        &|_| Hello { fence: wrong, ..of_instance(2) },
        &|_| Hello { fence: elsewhere, ..of_instance(2) },
        &|_| Hello { fence: None, ..of_instance(2) },
        &|fence| Hello { fence, ..of_instance(3) },
        &|fence| Hello { fence, attempt: attempt(2), ..of_instance(2) },
        &|fence| Hello { fence, ..hello(2) },
    ];
    for answer in answers {
        let wire = greet(&mut world, of_instance(2));
        let answer = answer(fence_of(&world, wire));
        world.say(wire, &hello_text(answer));
        world.drive();
        assert_eq!(world.closed_by_server(wire), Some(CloseCode::PROTOCOL));
        assert_eq!(world.closed_by_server(live), None);
    }
    assert_eq!(world.server.registry().connections(), 1);
    assert_eq!(world.clients[0].client.status(), Status::Attached);
}

#[test]
fn a_fence_that_was_never_asked_for_is_worth_nothing() {
    let mut world = World::attached();
    let live = world.wire(0);
    let wire = greet(&mut world, Hello { fence: Some(Fence::from_bytes([7; 16])), ..of_instance(2) });
    assert!(fence_of(&world, wire).is_some(), "it is challenged as any other instance");
    assert_eq!(world.closed_by_server(live), None);
}

#[test]
fn a_delayed_hello_of_a_dead_instance_cannot_evict_a_live_one() {
    let mut world = World::attached();
    let (ghost, live) = (Hello { attempt: attempt(9), ..of_instance(8) }, world.wire(0));
    let wire = greet(&mut world, ghost);
    // The ghost's page is gone: nobody answers the challenge.
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.closed_by_server(wire), Some(CloseCode::HELLO_TIMEOUT));
    assert_eq!(world.closed_by_server(live), None);
    assert_eq!(world.attaches(0), [false]);
}

// Found by random runs: the answer of a program that had died since evicted the one that came after it.
#[test]
fn a_delayed_answer_to_a_challenge_cannot_evict_who_took_over_since() {
    let mut world = World::attached();
    let ghost = greet(&mut world, of_instance(8));
    let delayed = Hello { fence: fence_of(&world, ghost), ..of_instance(8) };
    let live = greet(&mut world, of_instance(2));
    let fence = fence_of(&world, live);
    world.say(live, &hello_text(Hello { fence, ..of_instance(2) }));
    world.drive();
    world.say(ghost, &hello_text(delayed));
    world.drive();
    assert_eq!(world.closed_by_server(ghost), Some(CloseCode::STALE), "it is told to try again, should it live");
    assert_eq!(world.closed_by_server(live), None);
    let again = greet(&mut world, of_instance(8));
    let fence = fence_of(&world, again);
    world.say(again, &hello_text(Hello { fence, ..of_instance(8) }));
    world.drive();
    assert_eq!(world.closed_by_server(live), Some(CloseCode::SUPERSEDED), "who answers now is alive");
}

#[test]
fn an_evicted_instance_that_comes_back_is_turned_away_with_the_same_answer() {
    let mut world = World::attached();
    add_clone(&mut world, 2, None);
    assert!(world.clients[0].events.contains(&Event::Superseded));
    let live = world.wire(1);
    for number in 2..5 {
        let wire = greet(&mut world, Hello { attempt: attempt(number), ..hello(1) });
        assert_eq!(world.refusal(wire), Some(Refusal::Superseded));
        assert_eq!(world.closed_by_server(wire), Some(CloseCode::SUPERSEDED));
    }
    assert_eq!(world.closed_by_server(live), None);
}

#[test]
fn a_ninth_clone_still_takes_over_and_the_last_eight_are_remembered() {
    let mut world = World::attached();
    for instance in 2..=10 {
        add_clone(&mut world, instance, None);
    }
    for instance in 2..=9 {
        let wire = greet(&mut world, Hello { attempt: attempt(9), ..of_instance(instance) });
        assert_eq!(world.refusal(wire), Some(Refusal::Superseded), "instance {instance}");
    }
    let wire = greet(&mut world, Hello { attempt: attempt(9), ..of_instance(1) });
    assert!(fence_of(&world, wire).is_some(), "a forgotten one is challenged like a stranger");
    assert_eq!(world.clients[9].client.status(), Status::Attached);
}

// S004-086
#[test]
fn a_delayed_hello_of_the_same_instance_cannot_evict_its_successor() {
    let mut world = World::attached();
    world.cut(0);
    world.run_for(Duration::from_secs(5));
    let live = world.wire(0);
    assert_eq!(world.hellos().last().map(|hello| hello.attempt), Some(attempt(2)));
    for stale in [attempt(1), attempt(2)] {
        let wire = greet(&mut world, Hello { attempt: stale, ..hello(1) });
        assert_eq!(world.refusal(wire), Some(Refusal::Stale));
        assert_eq!(world.closed_by_server(wire), Some(CloseCode::STALE));
    }
    assert_eq!(world.closed_by_server(live), None);
}

// S004-028, S004-138, N07
#[test]
fn another_principal_is_refused_and_the_victim_notices_nothing() {
    let mut world = authenticating(&[("a", "alice"), ("b", "bob")]);
    attach_as(&mut world, "a");
    let victim = state_of(&world);
    let thief = Hello { token: Some(token("b")), attempt: attempt(2), ..hello(1) };
    let upper = hello_text(thief.clone()).replace(&thief.cid.to_string(), &thief.cid.to_string().to_uppercase());
    for text in [hello_text(thief), upper] {
        let wire = say(&mut world, &text);
        assert_eq!(world.refusal(wire), Some(Refusal::Forbidden));
        assert_eq!(world.closed_by_server(wire), Some(CloseCode::FORBIDDEN));
    }
    assert_eq!(state_of(&world), victim, "the victim notices nothing");
    world.send_down("for alice");
    world.drive();
    assert_eq!(world.clients[0].taken, ["for alice"]);
    assert_eq!(world.attaches(0), [false]);
}

#[test]
fn authentication_runs_on_every_attach() {
    let mut world = authenticating(&[("a", "alice")]);
    attach_as(&mut world, "a");
    for count in 2..6 {
        world.cut(0);
        world.run_for(Duration::from_secs(40));
        assert_eq!(world.authentications, count);
    }
    world.accounts.clear();
    world.cut(0);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.refusals().last().map(|(_, refusal)| *refusal), Some(Refusal::Unauthenticated));
    assert!(matches!(world.client().client.status(), Status::Failed(GiveUp::Unauthorized { .. })));
}

#[test]
fn a_token_that_was_refreshed_in_time_lets_the_client_in_again() {
    let mut world = authenticating(&[("a", "alice")]);
    attach_as(&mut world, "a");
    world.accounts.remove("a");
    world.accounts.insert("a2".into(), "alice".into());
    world.cut(0);
    world.run_until(Duration::from_secs(10), |world| world.refusals().len() == 1);
    world.clients[0].token = Some(token("a2"));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.attaches(0), [false, true]);
}

#[test]
fn refused_credentials_and_a_wrong_key_look_the_same() {
    let mut world = authenticating(&[("a", "alice")]);
    let wrong_key = greet(&mut world, Hello { key: key(9), token: Some(token("a")), ..hello(1) });
    let wrong_token = greet(&mut world, Hello { token: Some(token("b")), ..hello(1) });
    let no_token = greet(&mut world, hello(1));
    let seen =
        [wrong_key, wrong_token, no_token].map(|wire| (world.texts_down(wire).concat(), world.closed_by_server(wire)));
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(world.authentications, 2, "a wrong key does not even reach the application");
}

#[test]
fn a_principal_may_take_its_own_connection_over_from_another_instance() {
    let mut world = authenticating(&[("a", "alice")]);
    attach_as(&mut world, "a");
    let wire = greet(&mut world, Hello { token: Some(token("a")), ..of_instance(2) });
    let fence = fence_of(&world, wire);
    world.say(wire, &hello_text(Hello { token: Some(token("a")), fence, ..of_instance(2) }));
    world.drive();
    assert!(world.texts_down(wire).concat().contains("\"t\":\"welcome\""));
}

#[test]
fn without_authentication_each_connection_is_its_own_principal() {
    let world = World::attached();
    let principal = world.server.peer(&world.cid()).expect("a peer").principal().to_string();
    assert_eq!(principal, world.cid().to_string());
}

// X1
#[test]
fn secrets_do_not_show_in_debug_output() {
    let mut world = authenticating(&[("a-secret-token", "alice")]);
    attach_as(&mut world, "a-secret-token");
    let shown = format!("{:?} {:?} {:?}", world.server, world.clients[0].client, world.hellos());
    let bytes = format!("{:?}", key(1).as_bytes());
    assert!(!shown.contains("a-secret-token"));
    assert!(!shown.contains(&bytes));
    assert!(!shown.contains(&format!("Key({}", key(1).reveal())));
}

// S004-137, N06
#[test]
fn two_clones_of_one_identity_part_after_one_eviction() {
    let mut world = World::attached();
    world.stall(0);
    let written = world.send_up("written by the first");
    world.pump();
    add_clone(&mut world, 2, Some(150));
    world.run_for(Duration::from_secs(120));
    let cids = [0, 1].map(|index: usize| world.clients[index].client.connection_id());
    assert_ne!(cids[0], cids[1]);
    assert_eq!(cids[1], key(1).connection_id(), "the one that came last has it");
    assert!(world.clients.iter().all(|side| side.client.status() == Status::Attached));
    let reason = Unknown::Superseded;
    assert_eq!(world.outcomes_up(0), [(written, Outcome::Unknown { reason })]);
}

/// What the server holds of the first client's connection.
fn state_of(world: &World) -> Connection {
    world.server.peer(&world.cid()).expect("the connection is registered").connection().clone()
}

/// The hello of another instance of the first client's identity.
fn of_instance(number: u8) -> Hello {
    Hello { instance: InstanceId::from_bytes([number; 16]), ..hello(1) }
}

/// A stranger comes and says hello.
fn greet(world: &mut World, hello: Hello) -> WireId {
    say(world, &hello_text(hello))
}

/// A stranger comes and says something.
fn say(world: &mut World, text: &str) -> WireId {
    let wire = world.stranger();
    world.say(wire, text);
    world.drive();
    wire
}

/// Another live client with the first one's key.
fn add_clone(world: &mut World, instance: u8, spare: Option<u8>) -> ConnectionId {
    let spare = spare.map(key);
    world.add_client(steady(), Secrets { key: key(1), spare, instance: InstanceId::from_bytes([instance; 16]) });
    world.drive();
    key(1).connection_id()
}

/// The fence that the server asked for on a wire.
fn fence_of(world: &World, wire: WireId) -> Option<Fence> {
    let frames = world.frames(Way::Down).into_iter().filter(|(id, _)| *id == wire);
    frames
        .filter_map(|(_, frame)| if let Frame::Challenge(challenge) = frame { Some(challenge.fence) } else { None })
        .last()
}

/// A world whose application knows these tokens of these principals.
fn authenticating(accounts: &[(&str, &str)]) -> World {
    let mut config = server::Config::default();
    config.authenticate = true;
    let mut world = World::with_server(config);
    world.accounts = accounts.iter().map(|(token, name)| ((*token).into(), (*name).into())).collect();
    world
}

fn attach_as(world: &mut World, credentials: &str) {
    let index = world.add_client(steady(), secrets(1));
    world.clients[index].token = Some(token(credentials));
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.clients[index].client.status(), Status::Attached);
}
