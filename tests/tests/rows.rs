//! Requirements that no other test shows by itself, one by one, in virtual time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::alone::epoch;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::welcome;
use harness::net::Way;
use harness::rpc::Side;
use harness::rpc::json;
use harness::world::Road;
use harness::world::World;
use harness::world::in_lane;
use harness::world::key;
use harness::world::patient;
use harness::world::payload;
use harness::world::reject;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::client::Light;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Epoch;
use reattach_core::id::MessageId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::SessionId;
use reattach_core::link::Outgoing;
use reattach_core::messages::AnyMessage;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::rpc::Event as RpcEvent;
use reattach_core::server;
use reattach_core::server::Config;
use reattach_core::server::Output;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::session;
use reattach_core::session::Kind;
use reattach_core::session::Sessions;
use reattach_core::session::WatchFrom;
use reattach_core::time::Instant;
use reattach_core::wire;
use reattach_core::wire::Frame;
use reattach_core::wire::Payload;
use reattach_tokio::core::outcome::SendFailed;
use serde::Deserialize;

const SECOND: Duration = Duration::from_secs(1);

// S000-14
#[test]
fn what_is_sent_while_not_connected_waits_and_is_written_once_it_is() {
    let mut world = World::with_server(Config::default());
    world.road = Road::Silent;
    world.add_client(patient(), secrets(1));
    let id = world.send_up("early");
    world.run_for(3 * SECOND);
    assert_eq!((world.outcomes_up(0), world.clients[0].client.stats().queued), (vec![], 1));
    assert_eq!(world.writes(Way::Up, "early"), []);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.writes(Way::Up, "early").len(), 1);
}

// S000-17
#[test]
fn a_message_is_kept_until_it_is_settled_or_has_failed_for_good() {
    let mut world = World::attached();
    world.is_reading = false;
    let kept = world.send_up("kept");
    world.run_for(SECOND);
    assert_eq!((world.clients[0].client.stats().written, world.outcomes_up(0)), (1, vec![]));
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 0);
    world.is_reading = false;
    let failed = world.send_up("withdrawn");
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 1);
    world.cancel(&failed).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.clients[0].client.stats().written, 0);
    let withdrawn = Outcome::NotDelivered { reason: NotDelivered::Cancelled };
    assert_eq!(world.outcomes_up(0), [(kept, Outcome::Delivered), (failed, withdrawn)]);
}

// S000-25
#[test]
fn a_network_that_goes_silent_a_server_that_starts_anew_and_a_cut_all_end_in_the_same_way() {
    let triggers: [fn(&mut World); 3] = [
        |world| world.stall(0),
        |world| {
            world.pump();
            let server = Server::new(Config::default(), world.now);
            world.replace_server(server);
        },
        |world| {
            world.pump();
            world.cut(0);
        },
    ];
    for (number, trigger) in triggers.into_iter().enumerate() {
        let mut world = World::attached_with(Config::default(), patient());
        let now = world.now;
        let answer = Outgoing::from(payload("answer")).idempotent();
        let id = world.client().client.send(answer, now).unwrap();
        trigger(&mut world);
        world.run_for(SECOND / 2);
        assert_eq!(world.outcomes_up(0), [], "trigger {number}: it is neither lost nor taken for delivered");
        world.run_for(120 * SECOND);
        assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)], "trigger {number}");
        assert_eq!(world.taken_texts(), ["answer"], "trigger {number}");
        assert_eq!(world.clients[0].client.status(), Status::Attached, "trigger {number}");
        let stats = world.clients[0].client.stats();
        assert_eq!((stats.queued, stats.written), (0, 0), "trigger {number}");
    }
}

// S001-21: the close codes are the protocol's own.
#[test]
fn a_connection_that_cannot_be_registered_is_refused_closed_and_heard_no_more() {
    let mut config = Config::default();
    config.authenticate = true;
    config.max_per_principal = 1;
    let mut lone = LoneServer::new(config);
    let enter = |lone: &mut LoneServer, number: u8| {
        let transport = lone.greet(hello(number));
        let admission = Some(Principal::Named(Name::new("ada").unwrap()).into());
        let input = server::Input::Authenticated { transport, admission };
        lone.server.handle_input(input, lone.now);
        (transport, lone.drain())
    };
    enter(&mut lone, 1);
    let (transport, outputs) = enter(&mut lone, 2);
    assert!(outputs.iter().any(|output| matches!(output, Output::Registry(RegistryEvent::Refused { .. }))));
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Close { transport: closed, .. } if *closed == transport))
    );
    assert_eq!(lone.server.registry().connections(), 1);
    assert_eq!(lone.hear(transport, r#"{"t":"msg","seq":1,"d":1}"#), []);
    assert_eq!(lone.hear(transport, &hello_text(hello(3))), []);
}

// S001-22, S004-032
#[test]
fn a_connection_is_registered_once_however_often_it_comes_back_and_again_after_it_expired() {
    let mut world = World::attached_with(Config::default(), patient());
    let cid = world.cid();
    for _ in 0..3 {
        world.cut(0);
        world.run_for(30 * SECOND);
    }
    let registered = |world: &World| {
        let is_it = |event: &&RegistryEvent| matches!(event, RegistryEvent::Registered { cid: of, .. } if *of == cid);
        world.registry_events.iter().filter(is_it).count()
    };
    assert_eq!((registered(&world), world.attaches(0)), (1, vec![false, true, true, true]));
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(61 * SECOND);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!((registered(&world), world.attaches(0).last()), (2, Some(&false)));
}

// S001-25, S004-091: whoever forgets a state or an event is told by the compiler.
#[test]
fn where_a_client_stands_is_a_word_and_not_a_number() {
    let word = |light| match light {
        Light::Green => "green",
        Light::Yellow => "yellow",
        Light::Red => "red",
        Light::Grey => "grey",
    };
    let mut lone = LoneClient::new(steady());
    assert_eq!(
        (lone.client.status(), word(lone.client.view().light)),
        (Status::Connecting { retry: 0, limit: Some(5) }, "yellow")
    );
    lone.opened();
    lone.welcomed();
    assert_eq!((lone.client.status(), word(lone.client.view().light)), (Status::Attached, "green"));
}

// S001-31
#[test]
fn a_notification_that_nobody_knows_leaves_a_request_waiting_with_its_deadline() {
    let mut side = Side::new(1);
    let id = side.delivered("m");
    let deadline = side.rpc.poll_timeout();
    side.receive(r#"{"jsonrpc":"2.0","method":"x/y"}"#);
    assert_eq!((side.events.len(), side.rpc.pending(), side.rpc.poll_timeout()), (0, 1, deadline));
    side.receive(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":5}}"#));
    assert_eq!(side.events, [RpcEvent::Finished { id, result: Ok(json("5")) }]);
}

#[derive(Deserialize)]
struct Vectors {
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    text: String,
}

// S001-34
#[test]
fn a_client_and_a_server_refuse_the_same_texts_for_the_same_reasons() {
    let vectors: Vectors = serde_json::from_str(include_str!("../vectors/frames.json")).unwrap();
    let mut refused = 0;
    for Refused { text } in vectors.refused {
        if text.contains('\n') || text.trim().is_empty() {
            continue;
        }
        refused += 1;
        let error = wire::decode(&text).unwrap_err();
        let mut client = LoneClient::attached(steady());
        assert_eq!(client.hear(&text), [client::Output::Event(Event::FrameSkipped { error })], "{text}");
        let mut server = LoneServer::new(Config::default());
        let transport = server.greet(hello(1));
        let (cid, event) = (hello(1).cid, PeerEvent::FrameSkipped { error });
        assert_eq!(server.hear(transport, &text), [Output::Peer { cid, event }], "{text}");
    }
    assert!(refused > 20, "only {refused}");
}

// S002-22
#[test]
fn of_what_is_sent_to_a_client_that_is_away_so_much_is_kept_in_order_and_the_rest_is_refused() {
    let mut config = Config::default();
    // One lane takes half of the places.
    config.connection.link.outbox.count = 10;
    let mut world = World::attached_with(config, patient());
    world.road = Road::Silent;
    world.cut(0);
    world.run_for(SECOND);
    let cid = world.cid();
    let sent: Vec<_> = (0..7).map(|number| world.try_send_down(&cid, &number.to_string())).collect();
    assert!(sent[..5].iter().all(Result::is_ok));
    assert_eq!(sent[5..], [Err(ApiMisuse::QueueFull), Err(ApiMisuse::QueueFull)]);
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    assert_eq!(world.clients[0].taken, ["0", "1", "2", "3", "4"]);
}

// S002-23, S002-30
#[test]
fn a_client_that_cannot_be_written_to_holds_no_other_up_and_gets_everything_when_it_is_back() {
    let mut world = World::with_server(Config::default());
    for number in 1..=3 {
        world.add_client(patient(), secrets(number));
    }
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.peer_events.clear();
    world.cut(1);
    let cids: Vec<_> = world.clients.iter().map(|side| side.client.connection_id()).collect();
    for cid in &cids {
        world.try_send_down(cid, "p1").unwrap();
    }
    world.run_for(SECOND);
    let taken = |world: &World| world.clients.iter().map(|side| side.taken.len()).collect::<Vec<_>>();
    assert_eq!(taken(&world), [1, 0, 1]);
    let is_attached = |event: &PeerEvent| matches!(event, PeerEvent::Attached { .. } | PeerEvent::Detached { .. });
    let moved: Vec<_> = world.peer_events.iter().filter(|(_, event)| is_attached(event)).map(|(cid, _)| *cid).collect();
    assert_eq!(moved, [cids[1]], "the others stay where they are");
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    assert_eq!(taken(&world), [1, 1, 1]);
}

// S002-07, S002-65
#[test]
fn a_thousand_numbered_messages_arrive_in_order_through_many_reconnects() {
    let mut world = World::attached_with(Config::default(), patient());
    for round in 0..25 {
        for number in round * 40..(round + 1) * 40 {
            world.send_up(&number.to_string());
            world.send_down(&number.to_string());
        }
        world.pump();
        world.cut_keeping(0, round % 5);
        world.run_for(40 * SECOND);
    }
    let expected: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
    assert_eq!(world.clients[0].taken, expected);
    assert!(world.attaches(0).len() > 25);
}

// S003-36
#[test]
fn messages_between_heartbeats_all_arrive_and_the_heart_beats_on() {
    let mut world = World::attached();
    world.texts.clear();
    for number in 0..20 {
        world.send_down(&number.to_string());
        world.run_for(45 * SECOND);
    }
    assert_eq!(world.clients[0].taken, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    let pings = world.frames(Way::Up).iter().filter(|(_, frame)| matches!(frame, Frame::Ping(_))).count();
    assert!(pings > 10, "{pings}");
    assert_eq!(world.attaches(0), [false]);
}

// S003-05, S003-47
#[test]
fn a_chat_request_reaches_whoever_serves_it_once_with_what_it_holds() {
    let mut world = World::attached();
    let text = r#"{"id":"m1","type":"chat_request","payload":{"sessionId":"s1","message":"hi"},"timestamp":"2026-11-21T19:00:00.000Z"}"#;
    let asked = AnyMessage::read(&Payload::from_json(text).unwrap()).unwrap();
    assert!(matches!(&asked, AnyMessage::Chat(_)), "{asked:?}");
    let now = world.now;
    world.client().client.send(asked.write().unwrap().into(), now).unwrap();
    world.pump();
    world.cut(0);
    world.run_for(60 * SECOND);
    let written = world.texts.iter().filter(|(_, _, way, text)| *way == Way::Up && text.contains("chat_request"));
    assert_eq!(written.count(), 2, "the first was lost with its transport");
    let [(_, taken)] = &world.deliveries[..] else { panic!("once: {:?}", world.deliveries) };
    assert_eq!(AnyMessage::read(&Payload::from_json(taken.payload().as_str()).unwrap()), Ok(asked));
}

// S004-088, S004-089, S004-092: the type has the name under which a program that depends on one runtime's crate finds it.
#[test]
fn a_failed_send_is_told_with_its_type_and_the_id_that_send_gave() {
    let of = |event: &Event| if let Event::SendFailed(failed) = event { Some(failed.clone()) } else { None };
    let mut lone = LoneClient::new(steady());
    let now = lone.now;
    let sent: MessageId = lone.client.send(payload("x").into(), now).unwrap();
    lone.client.cancel(&sent, now).unwrap();
    let outputs = lone.drain();
    let told =
        outputs.iter().find_map(|output| if let client::Output::Event(event) = output { of(event) } else { None });
    let reason = NotDelivered::Cancelled;
    let failed = SendFailed { id: sent, failure: Failure::ForGood(Outcome::NotDelivered { reason }) };
    assert_eq!(told, Some(failed));
}

// S004-152
#[test]
fn an_id_that_a_server_makes_up_is_never_taken_over() {
    let mut lone = LoneClient::new(steady());
    let own = lone.client.connection_id();
    lone.opened();
    lone.receive(&Frame::Welcome(Box::new(welcome(key(9).connection_id(), epoch(2)))));
    lone.wait(5 * SECOND);
    let said = format!("{:?}", lone.opened());
    assert!(said.contains(&own.to_string()) && !said.contains(&key(9).connection_id().to_string()), "{said}");
    assert_eq!(lone.client.connection_id(), own);
}

// S004-159
#[test]
fn events_keep_coming_down_while_everything_that_goes_up_is_refused() {
    let mut world = World::attached_manual();
    for number in 0..20 {
        let text = number.to_string();
        world.send_as(in_lane(&format!("lane {number}"), &text));
        world.send_down(&text);
        world.run_for(SECOND);
        world.decide(&text, reject("no")).unwrap();
    }
    world.run_for(SECOND);
    let outcomes = world.outcomes_up(0);
    assert!(outcomes.len() == 20 && outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Rejected { .. })));
    assert_eq!((world.clients[0].taken.len(), world.attaches(0)), (20, vec![false]));
}

// S003-46, S004-038
#[test]
fn the_end_of_a_connection_leaves_a_session_alone_that_another_one_owns_and_watches() {
    let mut sessions = Sessions::new(session::Config::default(), Instant::ZERO);
    let (principal, id) = (Principal::Named(Name::new("ada").unwrap()), SessionId::new("s").unwrap());
    let [first, second] = [1, 2].map(|number| key(number).connection_id());
    sessions.create(id.clone(), principal.clone(), Epoch::from_bytes([7; 16])).unwrap();
    for connection in [first, second] {
        sessions.handle_attached(connection, &principal);
        _ = sessions.watch(connection, &id, WatchFrom::Start, Name::new("w").unwrap()).unwrap();
        sessions.own(connection, &id).unwrap();
    }
    assert_eq!(sessions.observers(&id), 2);
    sessions.handle_gone(first);
    assert_eq!(sessions.ownership(&id).unwrap().owner(), Some(second));
    assert_eq!(sessions.observers(&id), 1);
    sessions.append(&id, Kind::Application, &Payload::new("e").unwrap(), Instant::ZERO).unwrap();
    let mut came = Vec::new();
    while let Some(pulled) = sessions.pull(second, |_, _| true) {
        came.push(pulled.payload.as_str().to_owned());
    }
    assert!(came.iter().any(|text| text.contains("\"e\"")), "{came:?}");
}
