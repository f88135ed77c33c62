//! Messages that are worth nothing when they are late: now or never, the newest of a key, and never in anybody's way.

use reattach_core::link::Outgoing;
use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::hello;
use harness::net::Way;
use harness::world::World;
use harness::world::payload;
use harness::world::steady;
use reattach_core::client::Output;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Name;
use reattach_core::link::Delivery;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::Config;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_ephemeral_message_arrives_without_a_number_and_an_outcome() {
    let mut world = World::attached();
    up(&mut world, "cursor", "7:3").expect("it is attached");
    down(&mut world, "typing", "yes").expect("it is attached");
    world.run_for(SECOND);
    assert_eq!(arrived_up(&world), ["cursor=7:3"]);
    assert_eq!(arrived_down(&world), ["typing=yes"]);
    assert_eq!((world.outcomes_up(0), world.outcomes_down()), (vec![], vec![]));
    assert_eq!(world.client().client.stats().link.written, 0);
}

#[test]
fn nothing_ephemeral_is_queued_while_detached() {
    let mut world = World::attached();
    world.cut(0);
    assert_eq!(up(&mut world, "cursor", "1"), Err(ApiMisuse::NotAttached));
    assert_eq!(down(&mut world, "cursor", "1"), Err(ApiMisuse::NotAttached));
    assert!(ApiMisuse::NotAttached.is_retryable());
    world.run_for(60 * SECOND);
    assert_eq!(arrived_up(&world), [""; 0]);
    up(&mut world, "cursor", "2").expect("it is attached again");
    world.run_for(SECOND);
    assert_eq!(arrived_up(&world), ["cursor=2"]);
}

#[test]
fn what_is_ephemeral_is_lost_with_the_transport_and_what_is_reliable_is_not() {
    let mut world = World::attached();
    up(&mut world, "cursor", "1").expect("it is attached");
    let id = world.send_up("reliable");
    world.pump();
    world.cut(0);
    world.run_for(10 * SECOND);
    assert_eq!(arrived_up(&world), [""; 0]);
    assert_eq!(world.taken_texts(), ["reliable"]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn what_waited_for_a_transport_that_broke_is_not_written_on_the_next() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    for _ in 0..60 {
        _ = lone.client.send(payload(&"x".repeat(10_000)).into(), lone.now);
    }
    lone.drain();
    lone.client.send_ephemeral(name("cursor"), payload("late"), lone.now).expect("it is attached");
    assert_eq!(lone.drain(), [], "there is no room");
    lone.closed(CloseCode::ABNORMAL);
    lone.is_draining = true;
    lone.wait(SECOND);
    lone.opened();
    let outputs = [lone.welcomed(), lone.wait(SECOND)].concat();
    let texts: String = outputs
        .iter()
        .filter_map(|output| if let Output::Write { text, .. } = output { Some(&**text) } else { None })
        .collect();
    assert!(texts.contains("xxx") && !texts.contains("cursor"));
}

#[test]
fn while_the_network_is_slow_the_newest_of_a_key_replaces_the_others() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    for _ in 0..60 {
        _ = lone.client.send(payload(&"x".repeat(10_000)).into(), lone.now);
    }
    lone.drain();
    for number in 0..5 {
        for key in ["a", "b"] {
            lone.client
                .send_ephemeral(name(key), payload(&format!("{key}{number}")), lone.now)
                .expect("it is attached");
        }
        assert_eq!(lone.drain(), [], "there is no room");
    }
    let written = lone.written();
    let outputs = lone.progress(0, written);
    let Some(Output::Write { text, .. }) = outputs.first() else { panic!("room makes it go on") };
    let ephemerals: Vec<_> = text.lines().filter(|line| line.contains("\"key\"")).collect();
    assert_eq!(ephemerals, [r#"{"t":"msg","key":"a","d":"a4"}"#, r#"{"t":"msg","key":"b","d":"b4"}"#]);
    assert_eq!(lone.client.stats().link.ephemerals_dropped, 8);
}

#[test]
fn while_the_application_is_slow_the_newest_of_a_key_replaces_the_others() {
    let mut world = World::attached();
    world.is_reading = false;
    for number in 0..10 {
        up(&mut world, "cursor", &number.to_string()).expect("it is attached");
        up(&mut world, &format!("key {number}"), "once").expect("it is attached");
        world.run_for(SECOND / 10);
    }
    world.is_reading = true;
    world.run_for(SECOND);
    let arrived = arrived_up(&world);
    assert_eq!(arrived.len(), 11);
    assert!(arrived.contains(&"cursor=9".to_owned()));
}

#[test]
fn what_waits_is_bounded_in_keys_and_in_bytes() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    for number in 0..1_000 {
        let outputs = lone.hear(transport, &format!("{{\"t\":\"msg\",\"key\":\"k{number}\",\"d\":{number}}}"));
        assert_eq!(outputs, []);
    }
    let waiting = drain(&mut lone);
    assert_eq!(waiting.len(), 64);
    assert_eq!(waiting[63], "k999=999", "the newest stay");
    for number in 0..100 {
        let text = "x".repeat(50_000);
        lone.hear(transport, &format!("{{\"t\":\"msg\",\"key\":\"k{number}\",\"d\":\"{text}\"}}"));
    }
    assert_eq!(drain(&mut lone).len(), 5, "256 KiB of them");
}

#[test]
fn an_ephemeral_message_that_is_too_large_is_refused() {
    let mut config = steady();
    config.connection.link.max_payload = 100;
    let mut lone = LoneClient::attached(config);
    let refused = lone.client.send_ephemeral(name("k"), payload(&"x".repeat(99)), lone.now);
    assert_eq!(refused, Err(ApiMisuse::TooLarge { len: 101, limit: 100 }));
    let transport = lone.transport;
    let outputs = lone.hear(&format!("{{\"t\":\"msg\",\"key\":\"k\",\"d\":\"{}\"}}", "x".repeat(99)));
    assert!(outputs.contains(&Output::Close { transport, code: CloseCode::TOO_LARGE }));
}

#[test]
fn neither_kind_of_message_starves_the_other() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    for number in 1..=20 {
        lone.hear(transport, &format!("{{\"t\":\"msg\",\"key\":\"k{number}\",\"d\":0}}"));
        lone.hear_message(transport, number, "1");
    }
    let kinds: Vec<_> = core::iter::from_fn(|| lone.server.take(&hello(1).cid, lone.now))
        .map(|delivery| matches!(delivery, Delivery::Ephemeral { .. }))
        .collect();
    assert_eq!(kinds.len(), 40);
    assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]), "they take turns: {kinds:?}");
}

#[test]
fn a_flood_of_ephemeral_messages_does_not_disturb_reliable_ones() {
    let mut world = World::attached();
    for round in 0..50 {
        for number in 0..20 {
            _ = up(&mut world, &format!("k{number}"), &round.to_string());
            _ = down(&mut world, "same", &format!("{round} {number}"));
        }
        world.send_up(&round.to_string());
        world.send_down(&round.to_string());
        if round % 5 == 4 && world.live_wire(0).is_some() {
            world.cut(0);
        }
        world.run_for(SECOND);
    }
    world.run_for(60 * SECOND);
    let expected: Vec<_> = (0..50).map(|round| round.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
    assert_eq!(world.clients[0].taken, expected);
    assert_eq!(world.attaches(0).iter().filter(|resumed| !**resumed).count(), 1);
}

#[test]
fn a_bad_key_is_a_malformed_frame() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    let long = "k".repeat(129);
    for frame in [
        r#"{"t":"msg","key":"","d":1}"#.to_owned(),
        format!(r#"{{"t":"msg","key":"{long}","d":1}}"#),
        r#"{"t":"msg","key":7,"d":1}"#.to_owned(),
        r#"{"t":"msg","key":"k"}"#.to_owned(),
        r#"{"t":"msg","key":"k","seq":1,"d":1}"#.to_owned(),
    ] {
        let outputs = lone.hear(transport, &frame);
        assert!(format!("{outputs:?}").contains("FrameSkipped"), "{frame}: {outputs:?}");
    }
    assert_eq!(drain(&mut lone), [""; 0]);
}

// A count that stands still says that nobody loses anything.
#[test]
fn what_is_dropped_once_nothing_more_is_handed_over_is_counted() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    let dropped =
        |lone: &LoneServer| lone.server.peer(&hello(1).cid).expect("it is registered").stats().link.ephemerals_dropped;
    for key in ["a", "b", "c"] {
        lone.hear(transport, &format!("{{\"t\":\"msg\",\"key\":\"{key}\",\"d\":0}}"));
    }
    // What was sent and is not settled keeps the connection while the server drains.
    lone.server.send(&hello(1).cid, payload("unsettled").into(), lone.now).expect("there is room");
    lone.drain();
    assert_eq!(dropped(&lone), 0);
    lone.server.drain(10 * SECOND, (SECOND, SECOND), lone.now);
    assert_eq!(dropped(&lone), 3, "what waited to be taken");
    lone.hear(transport, "{\"t\":\"msg\",\"key\":\"late\",\"d\":0}");
    assert_eq!(dropped(&lone), 4, "what comes later");
}

#[test]
fn an_ephemeral_message_to_nobody_is_an_error() {
    let mut world = World::attached();
    let refused = world.server.send_ephemeral(&hello(9).cid, name("k"), payload("1"), world.now);
    assert_eq!(refused, Err(ApiMisuse::UnknownConnection));
    let now = world.now;
    world.client().client.disconnect(now);
    assert_eq!(up(&mut world, "k", "1"), Err(ApiMisuse::Ended));
}

#[test]
fn a_key_of_any_characters_arrives_as_it_is() {
    let mut world = World::attached();
    let odd = "\"quoted\" \\ \n \u{1F600} {\"t\":\"bye\"}";
    up(&mut world, odd, "1").expect("it is attached");
    world.run_for(SECOND);
    assert_eq!(arrived_up(&world), [format!("{odd}=1")]);
    assert!(world.texts.iter().filter(|(_, _, way, _)| *way == Way::Up).all(|(_, _, _, text)| !text.contains("\n ")));
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

fn up(world: &mut World, key: &str, text: &str) -> Result<(), ApiMisuse> {
    let now = world.now;
    world.client().client.send_ephemeral(name(key), payload(text), now)
}

fn down(world: &mut World, key: &str, text: &str) -> Result<(), ApiMisuse> {
    let cid = world.cid();
    world.server.send_ephemeral(&cid, name(key), payload(text), world.now)
}

fn shown(delivery: &Delivery) -> Option<String> {
    let text = |payload: &reattach_core::wire::UncheckedPayload| {
        payload.parse::<String>().unwrap_or_else(|_| payload.as_str().to_owned())
    };
    match delivery {
        Delivery::Ephemeral { key, payload } => Some(format!("{key}={}", text(payload))),
        Delivery::Message(_) => None,
    }
}

fn arrived_up(world: &World) -> Vec<String> {
    world.deliveries.iter().filter_map(|(_, delivery)| shown(delivery)).collect()
}

fn arrived_down(world: &World) -> Vec<String> {
    world.clients[0].deliveries.iter().filter_map(shown).collect()
}

/// What the server's application takes of the first client's ephemeral messages.
fn drain(lone: &mut LoneServer) -> Vec<String> {
    let server: &mut server::Server = &mut lone.server;
    core::iter::from_fn(|| server.take(&hello(1).cid, lone.now)).filter_map(|delivery| shown(&delivery)).collect()
}

// Found by reading: the application takes until there is nothing, and this stayed behind.
#[test]
fn what_is_known_already_does_not_hide_what_is_ephemeral() {
    let mut world = World::attached();
    world.is_reading = false;
    let cid = world.cid();
    let named = || Outgoing::from(payload("m")).named("00000000-0000-4000-8000-000000000001".parse().expect("a UUID"));
    world.send_as(named());
    world.run_for(SECOND);
    assert!(world.take_from(&cid));
    world.run_for(SECOND);
    world.send_as(named());
    for key in ["a", "b"] {
        let now = world.now;
        world.client().client.send_ephemeral(name(key), payload("e"), now).expect("small");
    }
    world.run_for(SECOND);
    assert!(world.take_from(&cid) && world.take_from(&cid));
    assert!(!world.take_from(&cid));
    assert!(!world.server.peer(&cid).expect("it is registered").has_delivery());
}
