//! The law that every machine keeps: the same inputs give the same outputs, time never runs backwards, nothing waits without
//! a timer, and a drained machine has nothing to do before its timer.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::rng::Rng;
use reattach_core::server::Config;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

// D1
#[test]
fn the_same_inputs_give_the_same_outputs_to_the_byte() {
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(1), trace(2));
}

// D1
#[test]
fn a_clone_goes_on_as_its_original_does() {
    let mut original = LoneClient::attached(client::Config::default());
    original.client.send(payload("1").into(), original.now).expect("room");
    let mut copy = original.clone();
    for code in [CloseCode::ABNORMAL, CloseCode::RESTART, CloseCode::INTERNAL] {
        for lone in [&mut original, &mut copy] {
            lone.closed(code);
        }
        assert_eq!(original.wait(40 * SECOND), copy.wait(40 * SECOND));
        assert_eq!(original.opened(), copy.opened());
        assert_eq!(original.client, copy.client);
    }
}

#[test]
fn a_clock_that_runs_backwards_stands_still_for_a_client() {
    let behind = Instant::from_secs(1);
    let states = every_waiting_state();
    for (name, lone) in states {
        let mut steady = lone.client.clone();
        let mut jumping = lone.client.clone();
        for (client, now) in [(&mut steady, lone.now), (&mut jumping, behind)] {
            _ = client.send(payload("1").into(), now);
            client.handle_timeout(now);
            let transport = lone.transport;
            client.handle_input(client::Input::Progress { transport, read: 5, written: 5 }, now);
            client.handle_input(client::Input::Closed { transport, code: CloseCode::ABNORMAL }, now);
            _ = client.take(now);
        }
        assert_eq!(steady, jumping, "{name}");
        assert_eq!(drain(&mut steady), drain(&mut jumping), "{name}");
        assert_eq!(steady.poll_timeout(), jumping.poll_timeout(), "{name}");
    }
}

#[test]
fn a_clock_that_runs_backwards_stands_still_for_a_server() {
    let script = |lone: &mut LoneServer, behind: Option<Instant>| {
        let mut outputs = Vec::new();
        let transport = lone.greet(hello(1));
        lone.wait(3 * SECOND);
        let now = lone.now;
        lone.now = behind.unwrap_or(now);
        outputs.extend(lone.hear_message(transport, 1, "1"));
        _ = lone.server.take(&hello(1).cid, lone.now);
        _ = lone.server.send(&hello(1).cid, payload("2").into(), lone.now);
        outputs.extend(lone.drain());
        outputs.extend(lone.closed(transport));
        lone.greet(Hello { attempt: attempt(2), ..hello(1) });
        lone.now = now;
        outputs.extend(lone.wait(100 * SECOND));
        outputs
    };
    let mut steady = LoneServer::new(Config::default());
    let mut jumping = LoneServer::new(Config::default());
    assert_eq!(script(&mut steady, None), script(&mut jumping, Some(Instant::ZERO)));
    assert_eq!(steady.server, jumping.server);
}

#[test]
fn whatever_a_server_is_asked_to_do_it_has_seen_the_time() {
    type Ask = fn(&mut Server, Instant);
    let asks: [(&str, Ask); 5] = [
        ("drain", |server, now| server.drain(SECOND, (SECOND, SECOND), now)),
        ("revoke", |server, now| _ = server.revoke(&hello(1).cid, now)),
        ("revoke all", |server, now| _ = server.revoke_all(&Principal::Connection(hello(1).cid), now)),
        ("take", |server, now| _ = server.take(&hello(1).cid, now)),
        ("disconnect", |server, now| _ = server.disconnect(&hello(1).cid, now)),
    ];
    for (name, ask) in asks {
        let mut lone = LoneServer::new(Config::default());
        let now = lone.now + 100 * SECOND;

        ask(&mut lone.server, now);
        lone.accept(None);

        let due = lone.server.poll_timeout();
        assert_eq!(due, Some(now + Config::default().hello_timeout), "{name}");
    }
}

#[test]
fn a_clock_that_jumps_about_never_panics_and_loses_no_timer() {
    let mut rng = Rng::new(3);
    let mut lone = LoneClient::new(patient());
    for step in 0..2_000 {
        lone.now = Instant::from_millis(rng.below(100_000_000));
        match step % 7 {
            0 => _ = lone.opened(),
            1 => _ = lone.welcomed(),
            2 => _ = lone.client.send(payload("1").into(), lone.now),
            3 => _ = lone.hear(r#"{"t":"ping","n":1}"#),
            4 => _ = lone.progress(10, 1 << 40),
            5 => _ = lone.closed(CloseCode::ABNORMAL),
            _ => lone.client.handle_timeout(lone.now),
        }
        lone.drain();
        assert!(lone.client.poll_timeout().is_some(), "step {step}");
    }
    lone.client.handle_timeout(Instant::from_micros(u64::MAX));
    lone.drain();
}

#[test]
fn a_machine_survives_the_end_of_time() {
    let end = Instant::from_micros(u64::MAX);
    let mut lone = LoneClient::attached(steady());
    lone.now = end;
    lone.client.send(payload("1").into(), end).expect("room");
    lone.drain();
    lone.client.handle_timeout(end);
    lone.drain();
    lone.closed(CloseCode::ABNORMAL);
    let mut lone = LoneServer::new(Config::default());
    lone.now = end;
    let transport = lone.greet(hello(1));
    lone.closed(transport);
    lone.server.handle_timeout(end);
    lone.drain();
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    for (name, lone) in every_waiting_state() {
        let mut client = lone.client.clone();
        client.handle_timeout(lone.now);
        assert_eq!(client, lone.client, "{name}");
        assert_eq!(drain(&mut client), [], "{name}");
    }
    let mut lone = LoneServer::new(Config::default());
    lone.greet(hello(1));
    let before = lone.server.clone();
    lone.server.handle_timeout(lone.now);
    assert_eq!(lone.server, before);
}

// L3, S001-03
#[test]
fn whoever_waits_has_a_timer_and_whoever_does_not_has_none() {
    for (name, lone) in every_waiting_state() {
        assert!(lone.client.poll_timeout().is_some(), "{name}");
    }
    for (name, mut lone) in every_idle_state() {
        assert_eq!(lone.client.poll_timeout(), None, "{name}");
        assert_eq!(lone.wait(3_600 * SECOND), [], "{name}");
    }
    let mut lone = LoneServer::new(Config::default());
    assert_eq!(lone.server.poll_timeout(), None, "nobody is there");
    let (transport, _) = lone.accept(None);
    assert_eq!(lone.server.poll_timeout(), Some(lone.now + 10 * SECOND), "a hello is waited for");
    lone.hear(transport, &hello_text(hello(1)));
    assert!(lone.server.poll_timeout().is_some(), "life is waited for");
    lone.closed(transport);
    assert_eq!(lone.server.poll_timeout(), Some(lone.now + 60 * SECOND), "a reattach is waited for");
    let mut config = Config::default();
    config.authenticate = true;
    let mut lone = LoneServer::new(config);
    lone.greet(hello(1));
    assert_eq!(lone.server.poll_timeout(), Some(lone.now + 10 * SECOND), "the application is waited for");
}

// Law 3: everything that a timer wanted is done once its outputs are drained.
#[test]
fn a_drained_machine_has_no_timer_in_the_past() {
    for (name, mut lone) in every_waiting_state() {
        for _ in 0..200 {
            let Some(at) = lone.client.poll_timeout() else { break };
            lone.now = lone.now.max(at);
            lone.client.handle_timeout(lone.now);
            lone.drain();
            assert!(lone.client.poll_timeout().is_none_or(|next| next > lone.now), "{name} at {:?}", lone.now);
        }
    }
}

#[test]
fn nothing_comes_out_of_a_drained_machine_until_something_happens() {
    let mut world = World::attached();
    world.send_up("1");
    world.send_down("2");
    world.run_for(5 * SECOND);
    // The application has just asked for messages.
    assert_eq!(world.server.poll_output(), None);
    let (client, server) = (world.clients[0].client.clone(), world.server.clone());
    for _ in 0..3 {
        assert_eq!(world.clients[0].client.poll_output(), None);
        assert_eq!(world.server.poll_output(), None);
    }
    assert_eq!((&world.clients[0].client, &world.server), (&client, &server));
}

// S003-53, S004-095
#[test]
fn what_is_not_polled_is_not_lost() {
    let mut client = Client::new(steady(), secrets(1), 0, Instant::ZERO);
    let transport = TransportId(1);
    client.handle_input(client::Input::Opened { transport, token: None }, Instant::ZERO);
    client.handle_input(client::Input::Received { transport, incoming: Incoming::Text("nonsense") }, Instant::ZERO);
    let outputs = drain(&mut client);
    let kinds: Vec<_> = outputs
        .iter()
        .map(|output| match output {
            Output::Open { .. } => "open",
            Output::Write { .. } => "write",
            Output::Close { .. } => "close",
            Output::Event(_) => "event",
        })
        .collect();
    assert_eq!(kinds, ["open", "write", "event", "close", "event"]);
}

// Section 7: senders coalesce under load and never delay a lone frame.
#[test]
fn a_lone_message_is_written_at_once_and_many_share_a_text() {
    let mut lone = LoneClient::attached(steady());
    lone.client.send(payload("lone").into(), lone.now).expect("room");
    assert_eq!(lone.drain().len(), 1);
    for _ in 0..50 {
        lone.client.send(payload("many").into(), lone.now).expect("room");
    }
    let outputs = lone.drain();
    let [Output::Write { text, .. }] = &outputs[..] else { panic!("one text: {outputs:?}") };
    assert_eq!(text.lines().count(), 50);
}

// S003-56: the world checks all of this after every step of every test; here it runs for a simulated day.
#[test]
fn a_day_of_coming_and_going_keeps_the_law() {
    let mut world = World::with_server(Config::default());
    for number in 1..=3 {
        world.add_client(patient(), secrets(number));
    }
    let mut rng = Rng::new(11);
    for hour in 0..24 {
        for index in 0..3 {
            _ = world.try_send_up(index, &hour.to_string());
            if rng.below(3) == 0 && world.live_wire(index).is_some() {
                world.stall(index);
            }
        }
        world.road = if rng.below(6) == 0 { Road::Silent } else { Road::Open };
        world.run_for(3_600 * SECOND);
    }
    world.road = Road::Open;
    world.run_for(600 * SECOND);
    for index in 0..3 {
        assert_eq!(world.outcomes_up(index).len(), 24);
    }
}

/// Everything that a run with random faults wrote and told.
fn trace(seed: u64) -> Vec<String> {
    let mut rng = Rng::new(seed);
    let mut world = World::new();
    world.add_client(client::Config::default(), secrets(1));
    world.add_client(client::Config::default(), secrets(2));
    for number in 0..60 {
        let index = usize::try_from(rng.below(2)).expect("0 or 1");
        match rng.below(6) {
            0 => _ = world.try_send_up(index, &number.to_string()),
            1 => {
                let cid = world.clients[index].client.connection_id();
                _ = world.try_send_down(&cid, &number.to_string());
            }
            2 => {
                if let Some(wire) = world.live_wire(index) {
                    world.net.cut(wire, 1, SECOND, world.now);
                }
            }
            3 => {
                if let Some(wire) = world.live_wire(index) {
                    world.net.stall(wire, if rng.below(2) == 0 { Way::Up } else { Way::Down });
                }
            }
            _ => world.run_for(Duration::from_millis(rng.below(20_000))),
        }
    }
    world.run_for(100 * SECOND);
    let mut lines: Vec<_> = world.texts.iter().map(|text| format!("{text:?}")).collect();
    lines.extend(world.clients.iter().map(|side| format!("{:?} {:?} {:?}", side.events, side.taken, side.opens)));
    lines.push(format!("{:?} {:?} {:?}", world.peer_events, world.registry_events, world.taken));
    lines
}

/// A client in each state in which it waits for somebody.
fn every_waiting_state() -> Vec<(&'static str, LoneClient)> {
    let opening = LoneClient::new(steady());
    let mut greeting = opening.clone();
    greeting.opened();
    let mut attached = LoneClient::attached(steady());
    attached.wait(SECOND);
    attached.hear(r#"{"t":"pong","n":1}"#);
    let mut pinging = attached.clone();
    pinging.wait(20 * SECOND);
    let mut stuck = attached.clone();
    stuck.is_draining = false;
    stuck.client.send(payload("1").into(), stuck.now).expect("room");
    stuck.drain();
    let mut stuck_ping = attached.clone();
    stuck_ping.is_draining = false;
    stuck_ping.wait(20 * SECOND);
    let mut owing = attached.clone();
    owing.hear("{\"t\":\"msg\",\"seq\":1,\"d\":1}\n{\"t\":\"msg\",\"seq\":2,\"d\":2}");
    let mut waiting = attached.clone();
    waiting.closed(CloseCode::ABNORMAL);
    let mut closing = attached.clone();
    closing.client.send(payload("1").into(), closing.now).expect("room");
    closing.drain();
    closing.client.close(20 * SECOND, closing.now);
    vec![
        ("opening", opening),
        ("greeting", greeting),
        ("attached", attached),
        ("attached, a ping is out", pinging),
        ("attached, a message does not leave", stuck),
        ("attached, a ping does not leave", stuck_ping),
        ("attached, a report is owed", owing),
        ("waiting", waiting),
        ("closing", closing),
    ]
}

/// A client in each state in which it waits for nobody.
fn every_idle_state() -> Vec<(&'static str, LoneClient)> {
    let mut settled = LoneClient::attached(steady());
    settled.wait(10 * SECOND);
    let mut failed = settled.clone();
    failed.closed(CloseCode::WEBSOCKET_ERROR);
    assert!(matches!(failed.client.status(), Status::Failed(_)));
    let mut config = steady();
    config.on_superseded = OnSuperseded::Stop;
    let mut superseded = LoneClient::attached(config);
    superseded.closed(CloseCode::SUPERSEDED);
    let mut over = settled;
    over.client.disconnect(over.now);
    over.drain();
    vec![("failed", failed), ("superseded", superseded), ("over", over)]
}

fn drain(client: &mut Client) -> Vec<Output> {
    core::iter::from_fn(|| client.poll_output()).collect()
}
