//! From an open transport to a welcome: deadlines, what is believed and what is not, and transports that are dead.

use std::time::Duration;

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::alone::epoch;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::report;
use harness::frames::report_no;
use harness::frames::text;
use harness::frames::welcome;
use harness::net::Arrival;
use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::key;
use harness::world::payload;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::error::ProtocolError;
use reattach_core::id::TransportId;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Welcome;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_transport_that_says_no_hello_is_closed_after_ten_seconds() {
    let mut world = World::new();
    let wire = world.stranger();
    let waited = world.run_until(30 * SECOND, |world| world.closed_by_server(wire).is_some());
    assert_eq!(world.closed_by_server(wire), Some(CloseCode::HELLO_TIMEOUT));
    assert_eq!(world.refusal(wire), Some(Refusal::Timeout));
    assert!((9 * SECOND..=10 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(world.server.registry().transports(), 0);
}

#[test]
fn a_challenge_does_not_extend_the_deadline() {
    let mut lone = LoneServer::new(server::Config::default());
    lone.greet(hello(1));
    let (transport, _) = lone.accept(None);
    lone.wait(9 * SECOND);
    let challenger = Hello { instance: hello(2).instance, ..hello(1) };
    assert!(matches!(&lone.hear(transport, &hello_text(challenger))[..], [server::Output::Write { .. }]));
    let outputs = lone.wait(SECOND);
    let code = CloseCode::HELLO_TIMEOUT;
    assert!(outputs.contains(&server::Output::Close { transport, code }));
}

#[test]
fn an_answer_of_the_application_that_comes_too_late_attaches_nothing() {
    let mut config = server::Config::default();
    config.authenticate = true;
    let mut lone = LoneServer::new(config);
    let transport = lone.greet(hello(1));
    lone.wait(10 * SECOND);
    let before = lone.server.clone();
    let admission = Some(reattach_core::id::Principal::Connection(hello(1).cid).into());
    lone.server.handle_input(server::Input::Authenticated { transport, admission }, lone.now);
    assert_eq!(lone.drain(), []);
    assert_eq!(lone.server, before);
}

// S003-04, S003-26
#[test]
fn an_attempt_that_does_not_open_in_ten_seconds_is_given_up() {
    let mut lone = LoneClient::new(steady());
    let first = lone.transport;
    assert_eq!(lone.wait(10 * SECOND - Duration::from_micros(1)), []);
    let outputs = lone.wait(Duration::from_micros(1));
    let ended = Ended::ConnectTimeout;
    assert_eq!(outputs, [close(first, CloseCode::NORMAL), Output::Event(Event::TryFailed { ended })]);
    assert_eq!(lone.wait(SECOND), [Output::Open { transport: TransportId(2) }]);
}

// N19 step 2, S004-086
#[test]
fn a_late_answer_to_an_old_attempt_is_ignored() {
    let mut lone = LoneClient::new(steady());
    let first = lone.transport;
    lone.wait(11 * SECOND);
    assert_ne!(lone.transport, first);
    let before = lone.client.clone();
    lone.client.handle_input(client::Input::Opened { transport: first, token: None }, lone.now);
    let error = OpenError::Unreachable;
    lone.client.handle_input(client::Input::OpenFailed { transport: first, error }, lone.now);
    assert_eq!(lone.client, before);
    assert_eq!(lone.drain(), []);
}

#[test]
fn a_server_that_does_not_welcome_in_ten_seconds_is_left() {
    let mut lone = LoneClient::new(steady());
    lone.opened();
    let transport = lone.transport;
    assert_eq!(lone.wait(10 * SECOND - Duration::from_micros(1)), []);
    let outputs = lone.wait(Duration::from_micros(1));
    let ended = Ended::HelloTimeout;
    assert_eq!(outputs, [close(transport, CloseCode::HELLO_TIMEOUT), Output::Event(Event::TryFailed { ended })]);
}

// S004-008, S004-026, S004-027
#[test]
fn nothing_but_the_hello_is_written_before_the_welcome() {
    let mut lone = LoneClient::new(steady());
    let now = lone.now;
    let id = lone.client.send(payload("early").into(), now).expect("room");
    let outputs = lone.opened();
    assert!(matches!(&outputs[..], [Output::Write { text, .. }] if text.starts_with(r#"{"t":"hello""#)));
    lone.client.send(payload("also early").into(), now).expect("room");
    assert_eq!(lone.wait(9 * SECOND), []);
    assert!(matches!(lone.client.status(), Status::Connecting { .. }));
    let outputs = lone.welcomed();
    assert_eq!(outputs[0], Output::Event(Event::Attached { resumed: false }));
    assert!(written(&outputs).contains("early") && written(&outputs).contains("also early"));
    assert!(!outputs.contains(&Output::Event(Event::Delivered { id })));
}

#[test]
fn the_first_text_on_a_transport_must_be_one_hello() {
    let hello = hello_text(hello(1));
    let oversize = format!("{{\"t\":\"hello\",\"token\":\"{}\"}}", "x".repeat(200_000));
    let cases = [
        (r#"{"t":"msg","seq":1,"d":1}"#, CloseCode::PROTOCOL),
        (r#"{"t":"ack","received":0}"#, CloseCode::PROTOCOL),
        (r#"{"t":"zzz"}"#, CloseCode::PROTOCOL),
        ("nonsense", CloseCode::PROTOCOL),
        ("", CloseCode::PROTOCOL),
        ("[]", CloseCode::PROTOCOL),
        (&format!("{hello}\n{{\"t\":\"ping\",\"n\":1}}"), CloseCode::PROTOCOL),
        (&oversize, CloseCode::TOO_LARGE),
    ];
    let mut world = World::new();
    for (said, code) in cases {
        let wire = world.stranger();
        world.say(wire, said);
        world.drive();
        assert_eq!(world.closed_by_server(wire), Some(code), "{said:.60}");
    }
    assert_eq!(world.server.registry().connections(), 0);
    assert_eq!(world.server.registry().transports(), 0);
}

#[test]
fn a_binary_message_is_refused_wherever_it_comes() {
    let mut lone = LoneServer::new(server::Config::default());
    let (silent, _) = lone.accept(None);
    let attached = lone.greet(hello(1));
    for transport in [silent, attached] {
        lone.server.handle_input(server::Input::Received { transport, incoming: Incoming::Binary }, lone.now);
        assert!(lone.drain().contains(&server::Output::Close { transport, code: CloseCode::UNSUPPORTED }));
    }
    let mut lone = LoneClient::attached(steady());
    let transport = lone.transport;
    lone.client.handle_input(client::Input::Received { transport, incoming: Incoming::Binary }, lone.now);
    let outputs = lone.drain();
    assert!(outputs.contains(&close(transport, CloseCode::UNSUPPORTED)));
    assert!(outputs.contains(&Output::Event(Event::PeerBrokeProtocol { error: ProtocolError::Binary })));
}

// S004-008
#[test]
fn a_welcome_that_contradicts_the_hello_is_not_believed() {
    let cid = key(1).connection_id();
    let fresh = |change: &dyn Fn(&mut Welcome)| {
        let mut welcome = welcome(cid, epoch(2));
        change(&mut welcome);
        welcome
    };
    let first: [(&str, Welcome); 4] = [
        ("cid", fresh(&|welcome| welcome.cid = key(2).connection_id())),
        ("epoch", fresh(&|welcome| welcome.resumed = true)),
        ("received", fresh(&|welcome| welcome.report = report(1, 0))),
        ("received", fresh(&|welcome| welcome.report.no = report_no(1))),
    ];
    for (key, welcome) in first {
        let mut lone = LoneClient::new(steady());
        lone.opened();
        expect_disbelief(&mut lone, welcome, key);
    }
    let again: [(&str, Welcome); 5] = [
        ("epoch", fresh(&|welcome| welcome.resumed = true)),
        ("epoch", fresh(&|welcome| welcome.epoch = epoch(1))),
        ("received", resumed(&fresh(&|welcome| welcome.report = report(2, 0)))),
        ("received", resumed(&fresh(&|welcome| welcome.report = report(2, 2)))),
        ("seen", resumed(&fresh(&|welcome| welcome.seen = report_no(1)))),
    ];
    for (key, welcome) in again {
        let mut lone = LoneClient::attached(steady());
        let now = lone.now;
        lone.client.send(payload("written").into(), now).expect("room");
        lone.drain();
        lone.closed(CloseCode::ABNORMAL);
        lone.wait(SECOND);
        lone.opened();
        expect_disbelief(&mut lone, welcome, key);
        assert_eq!(lone.client.stats().written, 1, "what was written is not given up for it");
    }
}

#[test]
fn other_frames_have_no_place_before_the_welcome() {
    let frames = [
        r#"{"t":"msg","seq":1,"d":1}"#,
        r#"{"t":"msg","key":"k","d":1}"#,
        r#"{"t":"ack","received":0}"#,
        r#"{"t":"ping","n":1}"#,
        r#"{"t":"pong","n":1}"#,
        "{\"t\":\"challenge\",\"fence\":\"00000000000000000000000000000000\"}\n\
         {\"t\":\"challenge\",\"fence\":\"00000000000000000000000000000000\"}",
        &hello_text(hello(1)),
        "nonsense",
    ];
    for said in frames {
        let mut lone = LoneClient::new(steady());
        lone.opened();
        let transport = lone.transport;
        let outputs = lone.hear(said);
        assert!(outputs.contains(&close(transport, CloseCode::PROTOCOL)), "{said}: {outputs:?}");
        assert!(matches!(lone.client.status(), Status::Detached { .. }));
        assert_eq!(lone.client.take(lone.now), None);
    }
}

#[test]
fn an_unknown_frame_before_the_welcome_is_ignored() {
    let mut lone = LoneClient::new(steady());
    lone.opened();
    assert_eq!(lone.hear(r#"{"t":"motd","text":"hi"}"#), []);
    assert_eq!(lone.welcomed()[0], Output::Event(Event::Attached { resumed: false }));
}

#[test]
fn handshake_frames_have_no_place_on_an_attached_transport() {
    let mut world = World::attached();
    let again = Hello { attempt: attempt(2), ..hello(1) };
    let welcome = Frame::Welcome(Box::new(welcome(key(1).connection_id(), epoch(9))));
    world.inject_up(0, &hello_text(again));
    world.drive();
    assert_eq!(broken(&world), [unexpected("hello")]);
    world.run_for(5 * SECOND);
    world.inject_down(0, &text(&welcome));
    world.drive();
    let error = |event: &Event| matches!(event, Event::PeerBrokeProtocol { error } if *error == unexpected("welcome"));
    assert!(world.clients[0].events.iter().any(error), "{:?}", world.clients[0].events);
    world.run_for(5 * SECOND);
    assert_eq!(world.attaches(0), [false, true, true], "the connection goes on each time");
}

// S004-145, S6
#[test]
fn inputs_of_a_dead_transport_change_nothing_at_a_client() {
    let mut lone = LoneClient::attached(steady());
    let dead = lone.transport;
    lone.closed(CloseCode::ABNORMAL);
    let waiting = lone.clone();
    lone.wait(SECOND);
    let opening = lone.clone();
    lone.opened();
    let greeting = lone.clone();
    lone.welcomed();
    lone.wait(SECOND);
    let attached = lone.clone();
    lone.client.disconnect(lone.now);
    lone.drain();
    for state in [waiting, opening, greeting, attached, lone] {
        for transport in [dead, TransportId(99)] {
            for input in client_inputs(transport) {
                let mut client = state.client.clone();
                client.handle_input(input.clone(), state.now);
                assert_eq!(client, state.client, "{input:?}");
                assert_eq!(client.poll_output(), None);
            }
        }
    }
}

// S004-145, S6
#[test]
fn inputs_of_a_dead_transport_change_nothing_at_the_server() {
    let mut lone = LoneServer::new(server::Config::default());
    let closed = lone.greet(hello(1));
    lone.closed(closed);
    let evicted = lone.greet(Hello { attempt: attempt(2), ..hello(1) });
    let live = lone.greet(Hello { attempt: attempt(3), ..hello(1) });
    let refused = lone.greet(Hello { key: key(9), ..hello(1) });
    let attached = lone.clone();
    lone.closed(live);
    let detached = lone.clone();
    lone.wait(61 * SECOND);
    for state in [attached, detached, lone] {
        for transport in [closed, evicted, refused, TransportId(99)] {
            for input in server_inputs(transport) {
                let mut server = state.server.clone();
                server.handle_input(input.clone(), state.now);
                assert_eq!(server, state.server, "{input:?}");
                assert_eq!(server.poll_output(), None);
            }
        }
    }
}

// S004-049, S004-050, S004-051
#[test]
fn a_late_close_of_the_transport_before_changes_nothing() {
    let mut lone = LoneServer::new(server::Config::default());
    let first = lone.greet(hello(1));
    lone.greet(Hello { attempt: attempt(2), ..hello(1) });
    let before = lone.server.clone();
    lone.closed(first);
    assert_eq!(lone.server, before);
    assert!(lone.server.registry().is_reachable(&hello(1).cid));
    lone.wait(40 * SECOND);
    assert_eq!(lone.server.registry().connections(), 1);
}

// S004-006, S004-053, S004-120
#[test]
fn a_reattach_does_not_wait_for_the_old_transport_to_die_and_ends_it_first() {
    let mut lone = LoneServer::new(server::Config::default());
    let old = lone.greet(hello(1));
    let (new, _) = lone.accept(None);
    let outputs = lone.hear(new, &hello_text(Hello { attempt: attempt(2), ..hello(1) }));
    let closed = outputs.iter().position(|output| *output == server_close(old, CloseCode::SUPERSEDED));
    let welcomed = outputs
        .iter()
        .position(|output| matches!(output, server::Output::Write { transport, .. } if *transport == new));
    assert!(closed.expect("the old one is closed") < welcomed.expect("the new one is welcomed"));
}

// S5
#[test]
fn frames_behind_one_that_ends_the_transport_are_ignored() {
    let message = r#"{"t":"msg","seq":1,"d":"late"}"#;
    let nonsense = ["nonsense"; 9].join("\n");
    let misplaced = r#"{"t":"challenge","fence":"00000000000000000000000000000000"}"#;
    for last in [r#"{"t":"bye","code":1001}"#, r#"{"t":"msg","seq":999,"d":1}"#, misplaced, &nonsense] {
        let said = format!("{last}\n{message}");
        let mut world = World::attached();
        world.inject_up(0, &said);
        world.drive();
        assert_eq!(world.taken_texts(), [""; 0], "{last}");
        let mut lone = LoneClient::attached(steady());
        lone.hear(&said);
        assert_eq!(lone.client.take(lone.now), None, "{last}");
        assert!(matches!(lone.client.status(), Status::Detached { .. }));
    }
}

// S000-20
// S5: the world checks every output of every test; here everything is made to overlap.
#[test]
fn no_output_names_a_dead_transport() {
    let mut world = World::attached();
    world.net.latency = Duration::from_millis(300);
    for round in 0..40 {
        for _ in 0..5 {
            _ = world.try_send_up(0, "up");
            let cid = world.cid();
            _ = world.try_send_down(&cid, "down");
        }
        world.run_for(Duration::from_millis(70 * (round % 7)));
        if let Some(wire) = world.live_wire(0) {
            match round % 4 {
                0 => world.net.cut(wire, 1, Duration::from_millis(250), world.now),
                1 => _ = world.clients[0].client.reconnect(world.now),
                2 => _ = world.server.detach(&world.cid(), CloseCode::GOING_AWAY, world.now),
                _ => world.net.put(wire, Way::Down, Arrival::Closed(CloseCode::INTERNAL), world.now),
            }
        }
    }
    world.run_for(60 * SECOND);
    assert!(world.outcomes_up(0).iter().all(|(_, outcome)| *outcome == Outcome::Delivered));
    assert_eq!(world.outcomes_up(0).len(), world.taken.len());
}

#[test]
fn a_transport_that_cannot_be_opened_is_tried_again() {
    let mut world = World::new();
    world.road = Road::Failing(OpenError::Unreachable);
    world.add_client(steady(), secrets(1));
    world.run_for(2 * SECOND);
    let ended = Ended::NotOpened(OpenError::Unreachable);
    assert!(world.clients[0].events.contains(&Event::TryFailed { ended }));
    world.road = Road::Open;
    world.run_for(10 * SECOND);
    assert_eq!(world.attaches(0), [false]);
}

fn close(transport: TransportId, code: CloseCode) -> Output {
    Output::Close { transport, code }
}

fn server_close(transport: TransportId, code: CloseCode) -> server::Output {
    server::Output::Close { transport, code }
}

fn unexpected(frame: &'static str) -> ProtocolError {
    ProtocolError::Unexpected { frame, place: "on an attached transport" }
}

/// All that is written in some outputs.
fn written(outputs: &[Output]) -> String {
    outputs
        .iter()
        .filter_map(|output| if let Output::Write { text, .. } = output { Some(&**text) } else { None })
        .collect()
}

fn resumed(welcome: &Welcome) -> Welcome {
    Welcome { epoch: epoch(1), resumed: true, ..welcome.clone() }
}

/// The welcome is a breach of the protocol: the transport is closed and another one will be tried.
fn expect_disbelief(lone: &mut LoneClient, welcome: Welcome, key: &'static str) {
    let transport = lone.transport;
    let outputs = lone.receive(&Frame::Welcome(Box::new(welcome.clone())));
    let error = ProtocolError::BadWelcome { key };
    assert!(outputs.contains(&Output::Event(Event::PeerBrokeProtocol { error })), "{welcome:?}: {outputs:?}");
    assert!(outputs.contains(&close(transport, CloseCode::PROTOCOL)));
    assert!(matches!(lone.client.status(), Status::Detached { .. }));
}

/// How clients broke the protocol, as the server saw it.
fn broken(world: &World) -> Vec<ProtocolError> {
    let broken =
        |event: &PeerEvent| if let PeerEvent::PeerBrokeProtocol { error } = event { Some(*error) } else { None };
    world.peer_events.iter().filter_map(|(_, event)| broken(event)).collect()
}

fn client_inputs(transport: TransportId) -> Vec<client::Input<'static>> {
    vec![
        client::Input::Opened { transport, token: None },
        client::Input::OpenFailed { transport, error: OpenError::WrongProtocol },
        client::Input::Received { transport, incoming: Incoming::Text(r#"{"t":"bye","code":4410,"end":true}"#) },
        client::Input::Received { transport, incoming: Incoming::Binary },
        client::Input::Progress { transport, read: 10, written: 10 },
        client::Input::Closed { transport, code: CloseCode::SUPERSEDED },
    ]
}

fn server_inputs(transport: TransportId) -> Vec<server::Input<'static>> {
    vec![
        server::Input::Received { transport, incoming: Incoming::Text(r#"{"t":"bye","code":1000,"end":true}"#) },
        server::Input::Received { transport, incoming: Incoming::Binary },
        server::Input::Progress { transport, read: 10, written: 10 },
        server::Input::Closed { transport, code: CloseCode::ABNORMAL },
        server::Input::Authenticated { transport, admission: None },
    ]
}
