//! How an application tests what it does while the network is gone: on the bare client machine, in virtual time, without a
//! socket and without a clock.
//!
//! The application here is a shop that orders things and shows people a banner and lines. It and its tests use nothing but
//! `reattach-core`, so that they can be copied as they stand.

use std::collections::BTreeMap;
use std::iter;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Input;
use reattach_core::client::Light;
use reattach_core::client::Output;
use reattach_core::client::Secrets;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;

const SECOND: Duration = Duration::from_secs(1);

// S002-41, S003-25
#[test]
fn the_banner_counts_down_to_each_retry_and_offers_one_by_hand_when_they_are_used_up() {
    let mut now = Instant::ZERO;
    let mut shop = Shop::new(now);
    shop.order(Payload::new("tea").unwrap().into(), now);
    for seconds in [1, 2, 4] {
        let transport = opened(&shop.turn());
        assert_eq!(shop.banner(now), "Connecting ...");
        shop.client.handle_input(Input::OpenFailed { transport, error: OpenError::Unreachable }, now);
        assert_eq!(shop.turn(), []);
        assert_eq!(shop.banner(now), format!("Offline. Next try in {seconds} s."));
        assert_eq!(shop.client.poll_timeout(), Some(now + seconds * SECOND));
        now = now + seconds * SECOND;
        shop.client.handle_timeout(now);
    }
    assert_eq!(shop.lines, [""; 0], "it still hopes");

    let transport = opened(&shop.turn());
    shop.client.handle_input(Input::OpenFailed { transport, error: OpenError::Unreachable }, now);
    assert_eq!(shop.turn(), []);

    assert_eq!(shop.lines, ["\"tea\": not delivered: the peer could not be reached"]);
    assert_eq!(shop.banner(now), "Offline. Try again?");
    assert_eq!(shop.client.poll_timeout(), None);
    shop.client.reconnect(now).unwrap();
    opened(&shop.turn());
}

#[test]
fn an_order_that_is_not_to_wait_fails_when_the_breaker_opens_and_the_others_wait_on() {
    let now = Instant::ZERO;
    let mut shop = Shop::new(now);
    shop.order(Payload::new("tea").unwrap().into(), now);
    shop.order(Outgoing::from(Payload::new("taxi").unwrap()).fail_fast(), now);
    for _ in 0..2 {
        let transport = opened(&shop.turn());
        assert_eq!(shop.lines, [""; 0]);
        shop.client.handle_input(Input::OpenFailed { transport, error: OpenError::Unreachable }, now);
        shop.client.handle_timeout(shop.client.poll_timeout().unwrap());
    }
    shop.turn();
    assert_eq!(shop.lines, ["\"taxi\": not delivered: the peer could not be reached at the time"]);

    shop.order(Outgoing::from(Payload::new("bus").unwrap()).fail_fast(), now);
    shop.turn();

    assert_eq!(shop.lines[1..], ["\"bus\": not delivered: the peer could not be reached at the time"]);
    assert_eq!(shop.client.view().pending, 1, "the tea");
}

#[test]
fn a_welcome_takes_the_banner_away_and_an_ack_shows_the_order_as_delivered() {
    let now = Instant::ZERO;
    let mut shop = Shop::new(now);
    shop.order(Payload::new("tea").unwrap().into(), now);
    let transport = opened(&shop.turn());
    shop.client.handle_input(Input::Opened { transport, token: None }, now);
    assert_eq!(shop.turn().len(), 1, "the hello");

    // The test plays the server by hand.
    let welcome = format!(
        r#"{{"t":"welcome","cid":"{}","epoch":"{}","resumed":false,"received":0,"settled":0,"window":256,"windowBytes":2097152,"maxPayload":4194304,"detachTtl":60000}}"#,
        shop.client.connection_id(),
        "01".repeat(16),
    );
    shop.client.handle_input(Input::Received { transport, incoming: Incoming::Text(&welcome) }, now);
    let outputs = shop.turn();
    let is_order = |output: &Output| matches!(output, Output::Write { text, .. } if text.contains(r#""d":"tea""#));
    assert!(outputs.iter().any(is_order), "{outputs:?}");
    assert_eq!((shop.banner(now).as_str(), shop.lines.len()), ("", 0), "written is not delivered");
    let ack = Incoming::Text(r#"{"t":"ack","received":1,"settled":1}"#);
    shop.client.handle_input(Input::Received { transport, incoming: ack }, now);
    shop.turn();

    assert_eq!(shop.lines, ["\"tea\": delivered"]);
}

// S000-35
#[test]
fn an_order_whose_socket_dies_before_the_ack_is_delivered_once_after_the_reattach() {
    let mut market = Market::new();
    market.run();
    market.shop.order(Payload::new("tea").unwrap().into(), market.now);
    market.loses_answers = true;
    market.run();
    assert_eq!((market.taken.len(), market.shop.lines.len()), (1, 0), "the server has it and the shop does not know");

    market.cut();
    assert_eq!(market.shop.banner(market.now), "Offline. Next try in 1 s.");
    market.now = market.now + SECOND;
    market.loses_answers = false;
    market.run();

    assert_eq!(market.shop.banner(market.now), "");
    assert_eq!(market.shop.lines, ["\"tea\": delivered"]);
    assert_eq!(market.taken, ["tea"]);
}

/// The application.
struct Shop {
    client: Client,
    orders: BTreeMap<MessageId, String>,
    lines: Vec<String>,
}

impl Shop {
    fn new(now: Instant) -> Self {
        let mut config = client::Config::default();
        config.reconnect.attempts = Some(3);
        config.reconnect.breaker.failures = 2;
        // So that a test can say when.
        config.reconnect.backoff.jitter = false;
        let key = ConnectionKey::from_bytes([1; 16]);
        let secrets = Secrets { key, spare: None, instance: InstanceId::from_bytes([2; 16]) };
        Self { client: Client::new(config, secrets, 0, now), orders: BTreeMap::new(), lines: Vec::new() }
    }

    fn order(&mut self, order: Outgoing, now: Instant) {
        let name = order.payload.as_str().to_owned();
        match self.client.send(order, now) {
            Ok(id) => _ = self.orders.insert(id, name),
            Err(error) => self.lines.push(format!("{name}: not sent: {error}")),
        }
    }

    fn banner(&self, now: Instant) -> String {
        let view = self.client.view();
        match (view.light, view.retry_at) {
            (Light::Green, _) => String::new(),
            (Light::Yellow, Some(at)) => format!("Offline. Next try in {} s.", (at - now).as_secs()),
            (Light::Yellow, None) => "Connecting ...".to_owned(),
            (Light::Red | Light::Grey, _) => "Offline. Try again?".to_owned(),
        }
    }

    /// Drains the machine: shows what happened, and returns what is to be done outside.
    fn turn(&mut self) -> Vec<Output> {
        let mut outside = Vec::new();
        while let Some(output) = self.client.poll_output() {
            match output {
                // What is no outcome is in the banner.
                Output::Event(event) => {
                    if let Some((id, outcome)) = event.outcome() {
                        self.show(id, outcome);
                    }
                }
                output @ (Output::Open { .. } | Output::Write { .. } | Output::Close { .. }) => outside.push(output),
            }
        }
        outside
    }

    fn show(&mut self, id: MessageId, outcome: &Outcome) {
        let order = self.orders.remove(&id).expect("each order has one outcome");
        self.lines.push(format!("{order}: {outcome}"));
    }
}

/// The transport that the machine asks for, and nothing else.
fn opened(outputs: &[Output]) -> TransportId {
    match outputs {
        [Output::Open { transport }] => *transport,
        other => panic!("no transport is asked for but {other:?}"),
    }
}

/// A shop and its server in one memory. What either writes is there at once, or never.
struct Market {
    shop: Shop,
    server: Server,
    now: Instant,
    /// The shop's newest transport, by the name that both use.
    transport: TransportId,
    /// Whether what the server writes is lost.
    loses_answers: bool,
    taken: Vec<String>,
}

impl Market {
    fn new() -> Self {
        let now = Instant::ZERO;
        let server = Server::new(server::Config::default(), now);
        let transport = TransportId(0);
        Self { shop: Shop::new(now), server, now, transport, loses_answers: false, taken: Vec::new() }
    }

    /// Lets both go on until neither has anything to say. No progress is told: in a few seconds nobody asks for it.
    fn run(&mut self) {
        let now = self.now;
        self.shop.client.handle_timeout(now);
        self.server.handle_timeout(now);
        loop {
            let outputs = self.shop.turn();
            let answers: Vec<_> = iter::from_fn(|| self.server.poll_output()).collect();
            if outputs.is_empty() && answers.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Open { transport } => {
                        self.transport = transport;
                        let mint = Mint { epoch: Epoch::from_bytes([3; 16]), fence: Fence::from_bytes([4; 16]) };
                        self.server.handle_input(server::Input::Accepted { transport, address: None, mint }, now);
                        self.shop.client.handle_input(Input::Opened { transport, token: None }, now);
                    }
                    Output::Write { transport, text } => {
                        let incoming = Incoming::Text(&text);
                        self.server.handle_input(server::Input::Received { transport, incoming }, now);
                    }
                    Output::Close { transport, code } => {
                        self.server.handle_input(server::Input::Closed { transport, code }, now);
                    }
                    Output::Event(event) => unreachable!("the shop keeps {event:?} to itself"),
                }
            }
            let cid = self.shop.client.connection_id();
            while let Some(delivery) = self.server.take(&cid, now) {
                self.taken.push(delivery.payload().parse().expect("an order is a name"));
            }
            for answer in answers {
                match answer {
                    server::Output::Write { transport, text } if !self.loses_answers => {
                        let incoming = Incoming::Text(&text);
                        self.shop.client.handle_input(Input::Received { transport, incoming }, now);
                    }
                    server::Output::Close { transport, code } => {
                        self.shop.client.handle_input(Input::Closed { transport, code }, now);
                    }
                    server::Output::Write { .. } | server::Output::Peer { .. } | server::Output::Registry(_) => {}
                    server::Output::Authenticate { .. } => unreachable!("the configuration asks for none"),
                }
            }
        }
    }

    /// The socket dies, and both sides hear of it.
    fn cut(&mut self) {
        let (transport, code) = (self.transport, CloseCode::ABNORMAL);
        self.shop.client.handle_input(Input::Closed { transport, code }, self.now);
        self.server.handle_input(server::Input::Closed { transport, code }, self.now);
        self.run();
    }
}
