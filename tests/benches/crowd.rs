//! A server with ten thousand connections, almost all of them idle: what one message costs must not depend on how many do
//! nothing.

use std::hint::black_box;

use criterion::Criterion;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionId;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::Input;
use reattach_core::server::Output;
use reattach_core::server::PeerEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::Ack;
use reattach_core::wire::Frame;
use reattach_core::wire::Message;
use reattach_core::wire::Payload;
use reattach_core::wire::Report;

use crate::SIZES;
use crate::json;
use crate::pair::mint;
use crate::pair::secrets;
use crate::registry::hello;

const PEERS: u64 = 10_000;
/// The one that is not idle.
const ONE: u64 = PEERS / 2;
const NOW: Instant = Instant::from_secs(1_000);

/// Asks for the timer, and has one connection send and receive.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut crowd = Crowd::new();
    let payload = Payload::from_json(&json(SIZES[0])).expect("it is JSON");
    let mut group = criterion.benchmark_group("10,000 idle peers");
    group.bench_function("poll_timeout", |bencher| {
        bencher.iter(|| black_box(&crowd.server).poll_timeout());
    });
    group.bench_function("a message to one, settled", |bencher| {
        bencher.iter(|| crowd.send(&payload));
    });
    group.bench_function("a message from one, taken", |bencher| {
        bencher.iter(|| crowd.receive(&payload));
    });
    group.finish();
}

struct Crowd {
    server: Server,
    one: ConnectionId,
    /// The bytes that were written on each transport.
    written: Vec<u64>,
    /// The newest numbers: to the one, and from it.
    numbers: (Seq, Seq),
    text: String,
}

impl Crowd {
    fn new() -> Self {
        let one = secrets(ONE).key.connection_id();
        let server = Server::new(server::Config::default(), NOW);
        let (text, numbers) = (String::new(), (Seq::ZERO, Seq::ZERO));
        let mut crowd = Self { server, one, written: Vec::new(), numbers, text };
        for number in 0..PEERS {
            let transport = TransportId(number);
            crowd.written.push(0);
            let input = Input::Accepted { transport, address: None, mint: mint(number) };
            crowd.server.handle_input(input, NOW);
            crowd.hear(transport, &hello(number));
            // Each asks at once how far it is to its client.
            crowd.hear(transport, r#"{"t":"pong","n":1}"#);
        }
        assert_eq!(crowd.server.registry().connections() as u64, PEERS);
        crowd
    }

    /// A text comes, and what follows from it is done.
    fn hear(&mut self, transport: TransportId, text: &str) -> usize {
        self.server.handle_input(Input::Received { transport, incoming: Incoming::Text(text) }, NOW);
        self.drain()
    }

    /// Does what the server wants. Returns how many messages were settled.
    fn drain(&mut self) -> usize {
        let mut settled = 0;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Write { transport, text } => {
                    let written = &mut self.written[transport.0 as usize];
                    *written += text.len() as u64;
                    let written = *written;
                    self.server.handle_input(Input::Progress { transport, read: 0, written }, NOW);
                }
                Output::Peer { event: PeerEvent::Delivered { .. }, .. } => settled += 1,
                Output::Peer { .. } | Output::Registry(_) => {}
                output @ (Output::Close { .. } | Output::Authenticate { .. }) => {
                    unreachable!("nobody is refused: {output:?}")
                }
            }
        }
        settled
    }

    fn send(&mut self, payload: &Payload) {
        self.server.send(&self.one, payload.clone().into(), NOW).expect("there is room");
        self.drain();
        let (seq, _) = &mut self.numbers;
        *seq = seq.next();
        let report = Report { received: *seq, settled: *seq, ..Report::default() };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        Frame::Ack(Ack { report, seen: ReportNo::ZERO }).encode(&mut text);
        assert_eq!(self.hear(TransportId(ONE), &text), 1);
        self.text = text;
    }

    fn receive(&mut self, payload: &Payload) {
        let (_, seq) = &mut self.numbers;
        *seq = seq.next();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        Frame::Message(Message::plain(*seq, payload.as_str())).encode(&mut text);
        self.hear(TransportId(ONE), &text);
        assert!(self.server.take(&self.one, NOW).is_some());
        self.drain();
        self.text = text;
    }
}
