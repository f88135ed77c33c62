//! What fuzzing found, one test each, in the shortest form that showed it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use harness::alone::LoneServer;
use harness::alone::epoch;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::report;
use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::link::Outgoing;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

const NOW: Instant = Instant::from_secs(1);
const KEY: ConnectionKey = ConnectionKey::from_bytes([1; 16]);

/// A client and a server, and a network that delivers at once what a test lets it.
struct Pair {
    client: Client,
    server: Server,
    transports: u64,
}

impl Pair {
    fn new(attempts: Option<u32>) -> Self {
        let mut config = client::Config::default();
        config.reconnect.attempts = attempts;
        let secrets = Secrets { key: KEY, spare: None, instance: InstanceId::from_bytes([2; 16]) };
        let client = Client::new(config, secrets, 0, NOW);
        let mut pair = Self { client, server: Server::new(server::Config::default(), NOW), transports: 0 };
        pair.up();
        pair
    }

    /// What the client writes.
    fn up(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.poll_output())
            .filter_map(|output| if let client::Output::Write { text, .. } = output { Some(text) } else { None })
            .collect()
    }

    /// What the server writes on the newest transport.
    fn down(&mut self) -> Vec<String> {
        let newest = TransportId(self.transports);
        std::iter::from_fn(|| self.server.poll_output())
            .filter_map(|output| {
                if let server::Output::Write { transport, text } = output { Some((transport, text)) } else { None }
            })
            .filter(|(transport, _)| *transport == newest)
            .map(|(_, text)| text)
            .collect()
    }

    fn client_hears(&mut self, text: &str) {
        let transport = TransportId(self.transports);
        self.client.handle_input(client::Input::Received { transport, incoming: Incoming::Text(text) }, NOW);
    }

    fn server_hears(&mut self, text: &str) {
        let transport = TransportId(self.transports);
        self.server.handle_input(server::Input::Received { transport, incoming: Incoming::Text(text) }, NOW);
    }

    /// The client's next transport opens and is attached. What the server writes besides arrives too.
    fn attach(&mut self) {
        self.transports += 1;
        let (transport, byte) = (TransportId(self.transports), u8::try_from(self.transports).unwrap());
        let mint = Mint { epoch: Epoch::from_bytes([byte; 16]), fence: Fence::from_bytes([byte; 16]) };
        self.server.handle_input(server::Input::Accepted { transport, address: None, mint }, NOW);
        self.client.handle_input(client::Input::Opened { transport, token: None }, NOW);
        let hello = self.up().pop().unwrap();
        self.server_hears(&hello);
        self.down().iter().for_each(|text| self.client_hears(text));
        assert_eq!(self.client.status(), Status::Attached);
    }
}

/// Everyday: the server's first message comes with its welcome, and the first ping goes out with the report on it.
#[test]
fn a_report_that_follows_a_ping_is_a_frame_of_its_own() {
    let mut pair = Pair::new(None);
    pair.attach();
    pair.server.send(&KEY.connection_id(), Payload::new("first").unwrap().into(), NOW).unwrap();
    pair.down().iter().for_each(|text| pair.client_hears(text));
    pair.client.handle_timeout(NOW); // the ping that measures the round trip is due at once
    for text in pair.up() {
        for line in text.split('\n') {
            assert!(wire::decode(line).is_ok(), "the client writes {line}");
        }
    }
}

#[test]
fn a_client_that_gave_up_before_its_first_word_arrived_takes_nothing_twice() {
    let mut pair = Pair::new(Some(0));
    pair.attach();
    pair.server.send(&KEY.connection_id(), Payload::new("once").unwrap().into(), NOW).unwrap();
    pair.down().iter().for_each(|text| pair.client_hears(text));
    assert!(pair.client.take(NOW).is_some());
    drop(pair.up()); // the report is lost with the transport
    let transport = TransportId(1);
    pair.client.handle_input(client::Input::Closed { transport, code: CloseCode::ABNORMAL }, NOW);
    pair.up();
    assert!(matches!(pair.client.status(), Status::Failed(_)));
    pair.client.reconnect(NOW).unwrap();
    pair.up();
    pair.attach();
    assert!(pair.client.take(NOW).is_none(), "it was handed over before");
}

#[test]
fn a_payload_that_send_takes_can_be_read_by_the_peer() {
    let mut pair = Pair::new(None);
    pair.attach();
    let payload = Payload::from_json(&("[".repeat(64) + &"]".repeat(64))).unwrap();
    let id = "01234567-89ab-4def-8123-456789abcdef".parse().ok();
    pair.client.send(Outgoing { id, ..payload.into() }, NOW).unwrap();
    for text in pair.up() {
        for line in text.split('\n') {
            assert_eq!(wire::decode(line).err(), None, "the server skips it, and takes the next one for a gap");
        }
    }
}

#[test]
fn messages_of_a_new_connection_can_be_taken_while_those_of_an_ended_one_are_kept() {
    let mut pair = Pair::new(None);
    let cid = KEY.connection_id();
    pair.attach();
    pair.client.send(Payload::new("old").unwrap().into(), NOW).unwrap();
    pair.client.disconnect(NOW);
    // The message is written behind nothing, so it is said by hand: the client was faster than this test.
    let bye = pair.up().pop().unwrap();
    let mut text = String::new();
    wire::Frame::Message(wire::Message::plain(Seq::ZERO.next(), "\"old\"")).encode(&mut text);
    pair.server_hears(&text);
    pair.server_hears(&bye);
    pair.down();
    let secrets = Secrets { key: KEY, spare: None, instance: InstanceId::from_bytes([3; 16]) };
    pair.client = Client::new(client::Config::default(), secrets, 0, NOW);
    pair.up();
    pair.transports = 1;
    let transport = TransportId(2);
    let mint = Mint { epoch: Epoch::from_bytes([2; 16]), fence: Fence::from_bytes([2; 16]) };
    pair.server.handle_input(server::Input::Accepted { transport, address: None, mint }, NOW);
    pair.client.handle_input(client::Input::Opened { transport: TransportId(1), token: None }, NOW);
    let hello = pair.up().pop().unwrap();
    pair.transports = 2;
    pair.server_hears(&hello);
    pair.server_hears(&text.replace("old", "new"));
    pair.down();
    assert!(pair.server.peer(&cid).unwrap().has_delivery());
    assert_eq!(pair.server.take(&cid, NOW).unwrap().payload().as_str(), "\"old\"");
    assert_eq!(pair.server.take(&cid, NOW).unwrap().payload().as_str(), "\"new\"");
}

#[test]
fn a_checked_payload_has_no_line_break() {
    let checked = UncheckedPayload::new("[1,\n2]").check().unwrap();
    assert!(!checked.as_str().contains(['\n', '\r']), "spliced into a frame it would end the frame");
    // And this one can come from a peer.
    let line = "{\"t\":\"msg\",\"seq\":1,\"d\":[1,\r2]}";
    let Ok(wire::Frame::Message(message)) = wire::decode(line) else { panic!() };
    let checked = UncheckedPayload::new(message.payload).check().unwrap();
    assert!(!checked.as_str().contains(['\n', '\r']));
}

#[test]
fn a_client_that_is_over_waits_for_nothing() {
    let mut pair = Pair::new(None);
    pair.attach();
    pair.client.disconnect(NOW);
    pair.up();
    assert_eq!(pair.client.poll_timeout(), None, "every timer stops");
}

#[test]
fn white_space_around_a_payload_is_no_part_of_it_whatever_the_order_of_the_keys() {
    let space = " ".repeat(100);
    for line in [
        format!("{{\"t\":\"msg\",\"seq\":1,\"d\":{space}1{space}}}"),
        format!("{{\"seq\":1,\"t\":\"msg\",\"d\":{space}1{space}}}"),
    ] {
        let read = wire::decode(&line);
        assert_eq!(read, Ok(wire::Frame::Message(wire::Message::plain(Seq::ZERO.next(), "1"))));
        // So it does not count against the limit of size either.
        let mut config = server::Config::default();
        config.connection.link.max_payload = 1;
        let mut lone = LoneServer::new(config);
        let transport = lone.greet(hello(1));
        lone.hear(transport, &line);
        assert!(lone.server.registry().is_reachable(&hello(1).cid), "the transport lives");
        let delivery = lone.server.take(&hello(1).cid, lone.now).unwrap();
        assert_eq!(delivery.payload().as_str(), "1");
    }
    assert!(wire::decode("{\"t\":\"msg\",\"seq\":1,\"d\": }").is_err(), "nothing is no payload");
    assert_eq!(Payload::from_json(&format!("{space}1{space}")).unwrap().len(), 1, "who sends it counts as who gets it");
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
