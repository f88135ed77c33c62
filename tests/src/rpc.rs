//! One side's requests, with what came out of them.

use std::collections::VecDeque;

use reattach_core::id::MessageId;
use reattach_core::id::MessageIds;
use reattach_core::outcome::Outcome;
use reattach_core::rpc::Call;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Config;
use reattach_core::rpc::ErrorObject;
use reattach_core::rpc::Event;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingCall;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::Output;
use reattach_core::rpc::RequestError;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::Rpc;
use reattach_core::rpc::RpcMisuse;
use reattach_core::time::Instant;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

/// A machine with what came out of it.
#[derive(Debug)]
pub struct Side {
    /// The machine.
    pub rpc: Rpc,
    ids: MessageIds,
    /// The time.
    pub now: Instant,
    /// What was sent and has no outcome.
    pub sent: VecDeque<(Channel, Payload, MessageId)>,
    /// What was withdrawn.
    pub withdrawn: Vec<MessageId>,
    /// Whether what comes in [`Side::receive`] comes among the answers.
    pub comes_as_answer: bool,
    /// What was told.
    pub events: Vec<Event>,
}

impl Side {
    /// With the defaults.
    pub fn new(seed: u8) -> Self {
        Self::with(Config::default(), seed)
    }

    /// With limits of its own.
    pub fn with(config: Config, seed: u8) -> Self {
        Self {
            rpc: Rpc::new(config, &[seed; 16], Instant::ZERO),
            ids: MessageIds::new(&[seed; 16]),
            now: Instant::ZERO,
            sent: VecDeque::new(),
            withdrawn: Vec::new(),
            comes_as_answer: false,
            events: Vec::new(),
        }
    }

    /// Does what the machine wants; everything finds room.
    pub fn drain(&mut self) {
        while let Some(output) = self.rpc.poll_output() {
            match output {
                Output::Send { channel, payload, .. } => {
                    let id = self.ids.mint();
                    self.rpc.handle_sent(Ok(id), self.now);
                    self.sent.push_back((channel, payload, id));
                }
                Output::Withdraw(id) => self.withdrawn.push(id),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// Begins a request, and sends it.
    pub fn request(&mut self, method: &str) -> RequestId {
        let id = self.rpc.request(call(method), self.now).expect("there is room");
        self.drain();
        id
    }

    /// Begins a request that the other side's application has.
    pub fn delivered(&mut self, method: &str) -> RequestId {
        let id = self.request(method);
        self.decide(&Outcome::Delivered);
        id
    }

    /// The message that was sent last has an outcome.
    pub fn decide(&mut self, outcome: &Outcome) {
        let (_, _, message) = self.sent.pop_back().expect("a message was sent");
        self.rpc.handle_outcome(&message, outcome, self.now);
        self.drain();
    }

    /// A message comes.
    pub fn receive(&mut self, text: &str) {
        let channel = if self.comes_as_answer { Channel::Responses } else { Channel::Calls };
        self.rpc.handle_message(channel, UncheckedPayload::new(text), self.now);
        self.drain();
    }

    /// Time passes until so many seconds.
    pub fn at(&mut self, secs: u64) {
        self.now = Instant::from_secs(secs);
        self.rpc.handle_timeout(self.now);
        self.drain();
    }

    /// Takes the next thing that came.
    pub fn take(&mut self) -> IncomingCall {
        self.rpc.take().expect("something came")
    }

    /// Takes the next request.
    pub fn asked(&mut self) -> IncomingId {
        self.take().id.expect("it is a request")
    }

    /// Answers.
    pub fn respond(&mut self, asked: IncomingId, result: Result<Payload, ErrorObject>) -> Result<(), RpcMisuse> {
        let responded = self.rpc.respond(asked, result, self.now);
        self.drain();
        responded
    }

    /// What was sent and has no outcome.
    pub fn texts(&self) -> Vec<&str> {
        self.sent.iter().map(|(_, payload, _)| payload.as_str()).collect()
    }

    /// The requests that have failed, and how.
    pub fn failures(&self) -> Vec<(RequestId, &Failure)> {
        self.events
            .iter()
            .filter_map(finished)
            .filter_map(|(id, result)| result.as_ref().err().map(|error| (id, &error.failure)))
            .collect()
    }
}

/// The request that has ended, where an event tells that.
#[must_use]
pub fn finished(event: &Event) -> Option<(RequestId, &Result<Payload, RequestError>)> {
    if let Event::Finished { id, result } = event { Some((*id, result)) } else { None }
}

/// A call without parameters.
pub fn call(method: &str) -> Call {
    Call::new(method).expect("a good name")
}

/// JSON.
pub fn json(text: &str) -> Payload {
    Payload::from_json(text).expect("JSON")
}

/// Carries everything between two sides until nothing is left, and says that it was delivered.
pub fn carry(a: &mut Side, b: &mut Side) {
    loop {
        a.drain();
        b.drain();
        let (from, to) = if a.sent.is_empty() { (&mut *b, &mut *a) } else { (&mut *a, &mut *b) };
        let Some((channel, payload, id)) = from.sent.pop_front() else { return };
        to.rpc.handle_message(channel, payload.into(), to.now);
        from.rpc.handle_outcome(&id, &Outcome::Delivered, from.now);
    }
}

/// The defaults with a change.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}
