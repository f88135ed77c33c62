//! Nothing grows without a bound, and each bound has its answer: outbox, window, sizes, malformed frames, undrained writes.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::hello;
use harness::frames::numbered_hello;
use harness::net::Way;
use harness::pair::NOW;
use harness::pair::Pair;
use harness::world::Road;
use harness::world::World;
use harness::world::frames_of;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::error::ProtocolError;
use reattach_core::id::MessageId;
use reattach_core::link::Outgoing;
use reattach_core::link::Quota;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::Config;
use reattach_core::server::PeerEvent;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::Payload;

const SECOND: Duration = Duration::from_secs(1);

// S004-071, S003-20, N12
#[test]
fn a_hundred_messages_are_queued_and_the_next_is_refused() {
    let mut world = World::new();
    world.road = Road::Silent;
    world.add_client(steady(), secrets(1));
    for number in 0..100 {
        world.send_up(&number.to_string());
    }
    assert_eq!(world.try_send_up(0, "100"), Err(ApiMisuse::QueueFull));
    assert!(!world.client().client.has_room(&reattach_core::id::Lane::DEFAULT, 1));
    assert!(ApiMisuse::QueueFull.is_retryable());
    world.road = Road::Open;
    world.run_for(30 * SECOND);
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
    assert!(world.client().client.has_room(&reattach_core::id::Lane::DEFAULT, 1));
}

// N12, S004-072, S004-077, S004-128
#[test]
fn a_full_outbox_stays_within_its_cap_when_everything_fails_at_once() {
    let mut world = World::attached();
    world.is_reading = false;
    let mut sent = Vec::new();
    for number in 0..150 {
        match world.try_send_up(0, &number.to_string()) {
            Ok(id) => sent.push(id),
            Err(error) => assert_eq!(error, ApiMisuse::QueueFull),
        }
    }
    assert_eq!(sent.len(), 100);
    world.run_for(SECOND);
    for _ in 0..5 {
        let written = world.texts.len();
        world.cut(0);
        world.run_for(20 * SECOND);
        let messages = messages_in(world.texts[written..].iter().map(|(_, _, _, text)| text.as_str()));
        assert!(messages <= 100, "{messages} writes after one welcome");
        let stats = world.client().client.stats();
        assert_eq!(stats.queued + stats.written, 100);
    }
    world.is_reading = true;
    world.run_for(20 * SECOND);
    let delivered: Vec<_> = sent.into_iter().map(|id| (id, Outcome::Delivered)).collect();
    assert_eq!(world.outcomes_up(0), delivered);
}

// S003-57
#[test]
fn a_thousand_sends_in_one_tick_are_taken_in_order_or_refused_aloud() {
    let mut world = World::attached();
    let accepted: Vec<_> = (0..1_000).filter(|number| world.try_send_up(0, &number.to_string()).is_ok()).collect();
    assert_eq!(accepted, (0..100).collect::<Vec<_>>());
    world.run_for(SECOND);
    assert_eq!(world.taken_texts().len(), 100);
    assert!(world.try_send_up(0, "room again").is_ok());
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

#[test]
fn the_bytes_in_the_outbox_are_bounded() {
    let mut world = World::new();
    world.road = Road::Silent;
    world.add_client(steady(), secrets(1));
    let text = "x".repeat(100_000);
    let taken = (0..100).take_while(|_| world.try_send_up(0, &text).is_ok()).count();
    assert_eq!(taken, 11, "one lane gets half of 2 MiB, and what goes beyond it by a part");
    assert!(world.client().client.stats().outbox_bytes <= 2 * 1024 * 1024);
    assert_eq!(world.try_send_up(0, &text), Err(ApiMisuse::QueueFull));
}

#[test]
fn one_large_message_goes_beside_the_bytes_and_a_second_waits() {
    let mut world = World::attached();
    world.is_reading = false;
    let (small, large) = ("x".repeat(100_000), "y".repeat(1_500_000));
    for _ in 0..5 {
        world.send_up(&small);
    }
    world.send_up(&large);
    assert_eq!(world.try_send_up(0, &large), Err(ApiMisuse::QueueFull));
    assert!(world.try_send_up(0, &small).is_ok());
    world.run_for(SECOND);
    world.is_reading = true;
    world.run_for(SECOND);
    assert!(world.try_send_up(0, &large).is_ok(), "the first one is settled");
    world.run_for(SECOND);
    assert_eq!(world.taken.len(), 8);
}

// S002-77, S002-78
#[test]
fn a_payload_of_the_largest_size_is_delivered_and_one_byte_more_is_refused_at_once() {
    let mut world = World::attached();
    let limit = 4 * 1024 * 1024;
    let largest = "x".repeat(limit - 2);
    let before = world.client().client.stats();
    let refused = world.try_send_up(0, &format!("{largest}x"));
    assert_eq!(refused, Err(ApiMisuse::TooLarge { len: limit as u64 + 1, limit: limit as u64 }));
    assert_eq!(world.client().client.stats(), before);
    let id = world.send_up(&largest);
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn what_the_peer_would_refuse_for_its_size_ends_at_the_attach() {
    let mut config = Config::default();
    config.connection.link.max_payload = 100;
    let mut world = World::with_server(config);
    world.road = Road::Silent;
    world.add_client(steady(), secrets(1));
    let (small, large) = (world.send_up("small"), world.send_up(&"x".repeat(200)));
    world.road = Road::Open;
    world.run_for(20 * SECOND);
    let reason = NotDelivered::TooLarge;
    let mut outcomes = world.outcomes_up(0);
    outcomes.sort_by_key(|(id, _)| *id);
    assert_eq!(outcomes, [(small, Outcome::Delivered), (large, Outcome::NotDelivered { reason })]);
    assert_eq!(world.try_send_up(0, &"x".repeat(200)), Err(ApiMisuse::TooLarge { len: 202, limit: 100 }));
}

#[test]
fn a_sender_never_writes_beyond_the_window() {
    let mut config = Config::default();
    config.connection.link.window = Quota { count: 8, bytes: 1_000 };
    let mut world = World::attached_with(config, steady());
    world.is_reading = false;
    for number in 0..60 {
        world.send_up(&format!("{number} {}", "x".repeat(40 * (number % 5))));
    }
    let cid = world.cid();
    for taken in 0..60 {
        world.run_for(SECOND);
        let written = payloads(&world);
        assert!(written.len() - taken <= 8, "{} in the window of 8", written.len() - taken);
        assert!(written[taken..].iter().sum::<usize>() <= 1_000);
        assert!(written.len() > taken, "there is always room for one");
        assert!(world.take_from(&cid));
    }
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0).len(), 60);
}

#[test]
fn a_window_of_nothing_is_brought_to_one() {
    let mut config = Config::default();
    config.connection.link.window.count = 0;
    let mut world = World::with_server(config);
    world.add_client(patient(), secrets(1));
    let id = world.send_up("x");
    world.run_for(600 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

#[test]
fn a_peer_that_writes_beyond_the_window_is_cut_off_and_nothing_is_lost() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    for number in 1..=256 {
        assert!(closes(&lone.hear_message(transport, number, "1")).is_empty(), "{number}");
    }
    let outputs = lone.hear_message(transport, 257, "1");
    assert_eq!(closes(&outputs), [CloseCode::PROTOCOL]);
    assert!(broke(&outputs, ProtocolError::WindowExceeded));
    let taken = (0..300).filter(|_| lone.server.take(&hello(1).cid, lone.now).is_some()).count();
    assert_eq!(taken, 256);
}

// S002-46
#[test]
fn a_peer_that_breaks_the_numbering_is_cut_off() {
    let (gap, seen, received, settled) = (
        r#"{"t":"msg","seq":999,"d":1}"#,
        r#"{"t":"ack","received":0,"seen":1}"#,
        r#"{"t":"ack","received":1}"#,
        r#"{"t":"pong","n":1,"received":1,"settled":1}"#,
    );
    for said in [gap, seen, received, settled, r#"{"t":"ping","n":1,"seen":5}"#] {
        let mut lone = LoneServer::new(Config::default());
        let transport = lone.greet(hello(1));
        assert_eq!(closes(&lone.hear(transport, said)), [CloseCode::PROTOCOL], "{said}");
        let mut lone = LoneClient::attached(steady());
        let outputs = lone.hear(said);
        assert!(matches!(outputs[..], [Output::Event(Event::PeerBrokeProtocol { .. }), ..]), "{said}: {outputs:?}");
        assert!(matches!(lone.client.status(), Status::Detached { .. }), "{said}");
    }
}

#[test]
fn a_payload_or_a_frame_above_the_limit_is_cut_off() {
    let mut config = Config::default();
    config.connection.link.max_payload = 1_000;
    let mut lone = LoneServer::new(config);
    let transport = lone.greet(hello(1));
    let outputs = lone.hear_message(transport, 1, &format!("\"{}\"", "x".repeat(999)));
    assert_eq!(closes(&outputs), [CloseCode::TOO_LARGE]);
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    let outputs = lone.hear(transport, &format!("{{\"t\":\"zzz\",\"d\":\"{}\"}}", "x".repeat(5_000_000)));
    assert_eq!(closes(&outputs), [CloseCode::TOO_LARGE]);
}

// S001-06, S001-07, S003-38, S001-47
#[test]
fn eight_malformed_frames_in_a_minute_are_skipped_and_the_ninth_closes() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    for number in 1..=8 {
        let outputs = lone.hear(transport, &format!("nonsense\n{{\"t\":\"msg\",\"seq\":{number},\"d\":1}}"));
        assert!(closes(&outputs).is_empty(), "{number}");
        assert!(lone.server.take(&hello(1).cid, lone.now).is_some(), "what stands beside it is not lost");
    }
    let outputs = lone.hear(transport, "nonsense");
    assert_eq!(closes(&outputs), [CloseCode::PROTOCOL]);
    let mut lone = LoneClient::attached(steady());
    for _ in 0..8 {
        assert!(matches!(lone.hear("{")[..], [Output::Event(Event::FrameSkipped { .. })]));
    }
    assert!(matches!(lone.hear("{")[..], [Output::Event(Event::PeerBrokeProtocol { .. }), ..]));
    assert_eq!(lone.client.stats().malformed, 9);
}

#[test]
fn the_malformed_budget_starts_over_after_a_minute() {
    let mut lone = LoneServer::new(Config::default());
    let transport = lone.greet(hello(1));
    for _ in 0..10 {
        for _ in 0..8 {
            assert!(closes(&lone.hear(transport, "nonsense")).is_empty());
        }
        for _ in 0..7 {
            lone.wait(10 * SECOND);
            lone.server.handle_input(server::Input::Progress { transport, read: 0, written: 1 << 40 }, lone.now);
            lone.hear(transport, r#"{"t":"ack","received":0}"#);
        }
    }
}

// S001-37, rule 7
#[test]
fn undrained_messages_are_bounded_by_the_write_budget() {
    let mut config = steady();
    config.connection.flow.write_budget = 10_000;
    let mut lone = LoneClient::attached(config);
    lone.is_draining = false;
    let before = lone.written();
    let text = "x".repeat(1_000);
    (0..50).for_each(|_| _ = lone.client.send(payload(&text).into(), lone.now).expect("room"));
    lone.drain();
    let held = lone.written() - before;
    assert!(held >= 10_000, "the budget is used: {held}");
    assert!(held <= 10_000 + 1_100, "one message may go beyond it: {held}");
}

#[test]
fn undrained_messages_never_exceed_the_default_budget_by_more_than_a_batch() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    let before = lone.written();
    for _ in 0..100 {
        _ = lone.client.send(payload(&"x".repeat(10_000)).into(), lone.now);
        lone.drain();
    }
    let held = lone.written() - before;
    assert!((256 * 1024..320 * 1024).contains(&held), "{held}");
    assert!(lone.client.stats().queued > 60, "the rest stays in the outbox, where it can be counted and moved");
    let written = lone.written();
    lone.progress(0, written);
    assert!(lone.written() > written, "room makes it go on");
}

#[test]
fn without_any_budget_a_message_at_a_time_is_written() {
    let mut config = patient();
    config.connection.flow.write_budget = 0;
    let mut world = World::attached_with(Config::default(), config);
    world.send_up("x");
    world.run_for(600 * SECOND);
    assert_eq!(world.outcomes_up(0).len(), 1);
}

#[test]
fn acks_pongs_and_pings_go_ahead_of_messages_that_wait_for_the_network() {
    let mut lone = LoneClient::attached(steady());
    lone.is_draining = false;
    for _ in 0..100 {
        _ = lone.client.send(payload(&"x".repeat(10_000)).into(), lone.now);
    }
    lone.drain();
    assert!(lone.client.stats().queued > 0);
    let pong = frames_in(&lone.hear(r#"{"t":"ping","n":5}"#));
    assert!(pong.iter().any(|frame| frame.starts_with(r#"{"t":"pong","n":5"#)), "{pong:?}");
    lone.hear(r#"{"t":"msg","seq":1,"d":1}"#);
    assert!(lone.client.take(lone.now).is_some());
    let ack = frames_in(&lone.drain());
    assert!(ack.iter().any(|frame| frame.starts_with(r#"{"t":"ack""#)), "{ack:?}");
    let ping = frames_in(&lone.wait(21 * SECOND));
    assert!(ping.iter().any(|frame| frame.starts_with(r#"{"t":"ping""#)), "{ping:?}");
    assert!(!pong.iter().chain(&ack).chain(&ping).any(|frame| frame.starts_with(r#"{"t":"msg""#)));
}

#[test]
fn a_peer_that_pings_and_never_reads_does_not_fill_the_memory() {
    let mut config = steady();
    config.connection.flow.write_budget = 10_000;
    let mut lone = LoneClient::attached(config);
    lone.is_draining = false;
    for number in 1..10_000 {
        lone.hear(&format!("{{\"t\":\"ping\",\"n\":{number}}}"));
    }
    assert!(lone.written() <= 2 * 10_000 + 1_000, "{}", lone.written());
}

#[test]
fn what_clients_leave_behind_is_bounded() {
    let mut config = Config::default();
    config.max_connections = 2;
    let mut lone = LoneServer::new(config);
    let mut cids = Vec::new();
    for number in 0..500_u64 {
        let h = numbered_hello(number);
        cids.push(h.cid);
        let t = lone.greet(h);
        let big = format!("\"{}\"", "x".repeat(1_000_000));
        let _ = lone.hear_message(t, 1, &big);
        lone.hear(t, r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
        lone.closed(t);
    }
    let now = lone.now;
    let kept: usize =
        cids.iter().filter_map(|cid| lone.server.take(cid, now)).map(|d| d.payload().as_str().len()).sum();
    assert!(kept < 70_000_000, "a server of at most 2 connections held {kept} bytes of peers that are gone");
}

#[test]
fn of_many_clients_that_have_left_the_last_thousand_can_still_be_read() {
    let mut lone = LoneServer::new(Config::default());
    let cids: Vec<_> = (0..1_001)
        .map(|number| {
            let hello = numbered_hello(number);
            let cid = hello.cid;
            let transport = lone.greet(hello);
            _ = lone.hear_message(transport, 1, "1");
            lone.hear(transport, r#"{"t":"bye","code":1000,"end":true,"received":0,"settled":0,"final":true}"#);
            lone.closed(transport);
            lone.now = lone.now + SECOND / 1_000;
            cid
        })
        .collect();
    let now = lone.now;
    let kept: Vec<_> = cids.iter().map(|cid| lone.server.take(cid, now).is_some()).collect();
    assert!(
        !kept[0] && kept[1..].iter().all(|is_kept| *is_kept),
        "{}",
        kept.iter().filter(|is_kept| **is_kept).count()
    );
}

#[test]
fn an_id_of_the_applications_own_cannot_stand_in_the_outbox_twice() {
    let mut world = World::attached();
    world.is_reading = false;
    let id: MessageId = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
    let message = || Outgoing { id: Some(id), ..payload("named").into() };
    let now = world.now;
    assert_eq!(world.client().client.send(message(), now), Ok(id));
    assert_eq!(world.client().client.send(message(), now), Err(ApiMisuse::IdInUse));
    world.run_for(SECOND);
    let now = world.now;
    assert_eq!(world.client().client.send(message(), now), Err(ApiMisuse::IdInUse), "it is written and not settled");
    world.is_reading = true;
    world.run_for(SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    let now = world.now;
    assert_eq!(world.client().client.send(message(), now), Ok(id));
}

#[test]
fn a_payload_of_the_deepest_nesting_arrives_whatever_the_envelope() {
    let nested = |depth| Payload::from_json(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let deepest = (1..=MAX_DEPTH + 1).rev().find_map(|depth| nested(depth).ok()).expect("some depth is taken");
    let id: MessageId = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
    let mut world = World::attached();
    let now = world.now;
    let client = &mut world.client().client;
    let plain = client.send(deepest.clone().into(), now).expect("room");
    let named = client.send(Outgoing { id: Some(id), ..deepest.into() }, now).expect("room");
    world.run_for(120 * SECOND);
    assert_eq!(world.outcomes_up(0), [(plain, Outcome::Delivered), (named, Outcome::Delivered)]);
    assert_eq!(world.attaches(0), [false]);
}

#[test]
fn a_payload_that_send_takes_can_be_read_by_the_peer() {
    let mut pair = Pair::new(None);
    pair.attach();
    let payload = Payload::from_json(&("[".repeat(64) + &"]".repeat(64))).expect("it is JSON");
    let id = "01234567-89ab-4def-8123-456789abcdef".parse().ok();
    pair.client.send(Outgoing { id, ..payload.into() }, NOW).expect("room");
    for text in pair.up() {
        for line in text.split('\n') {
            assert_eq!(wire::decode(line).err(), None, "the server skips it, and takes the next one for a gap");
        }
    }
}

/// The lengths of the payloads that the first client has written, each once, in order.
fn payloads(world: &World) -> Vec<usize> {
    let mut lens = Vec::new();
    for (_, frame) in world.frames(Way::Up) {
        if let Frame::Message(message) = frame
            && message.seq.get() > lens.len() as u64
        {
            lens.push(message.payload.len());
        }
    }
    lens
}

fn messages_in<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.flat_map(frames_of).filter(|frame| matches!(frame, Frame::Message(_))).count()
}

fn frames_in(outputs: &[Output]) -> Vec<String> {
    let texts =
        outputs.iter().filter_map(|output| if let Output::Write { text, .. } = output { Some(text) } else { None });
    texts.flat_map(|text| text.lines().map(str::to_owned)).collect()
}

fn closes(outputs: &[server::Output]) -> Vec<CloseCode> {
    let code =
        |output: &server::Output| if let server::Output::Close { code, .. } = output { Some(*code) } else { None };
    outputs.iter().filter_map(code).collect()
}

fn broke(outputs: &[server::Output], error: ProtocolError) -> bool {
    let event = PeerEvent::PeerBrokeProtocol { error };
    outputs.iter().any(|output| matches!(output, server::Output::Peer { event: told, .. } if *told == event))
}

// The list of exceptions is bounded, so that each report fits into a frame: what is withdrawn beyond it waits for its turn.
#[test]
fn more_messages_than_a_report_can_list_are_withdrawn_one_list_after_another() {
    let mut config = Config::default();
    config.connection.link.window = Quota { count: 16_384, bytes: 64 << 20 };
    let mut sender = steady();
    sender.connection.link.outbox = Quota { count: 16_384, bytes: 64 << 20 };
    let mut world = World::attached_with(config, sender);
    world.is_reading = false;
    for number in 0..7_000 {
        let now = world.now;
        let message = Outgoing::from(payload(&format!("{number}"))).within(2 * SECOND);
        world.client().client.send(message, now).expect("there is room");
    }
    world.run_for(10 * SECOND);
    let outcomes = world.outcomes_up(0);
    assert_eq!(outcomes.len(), 7_000);
    let expired = Outcome::NotDelivered { reason: NotDelivered::Deadline };
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == expired));
    let of_server = world.texts.iter().filter(|(_, _, way, _)| *way == Way::Down);
    let longest = of_server.map(|(_, _, _, text)| text.len()).max();
    assert!(longest.is_some_and(|longest| longest < 64 * 1024), "{longest:?}");
    assert_eq!(world.attaches(0), [false]);
    world.is_reading = true;
    world.send_up("after it");
    world.run_for(SECOND);
    assert_eq!(world.taken_texts(), ["after it"]);
}
