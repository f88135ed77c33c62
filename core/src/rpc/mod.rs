//! Requests: JSON-RPC 2.0 over the reliable messages of a connection, both ways at once.
//!
//! [`Rpc`] is a machine like the others, and knows nothing of connections: whoever owns both hands it the messages of the lanes
//! in [`Channel`], the outcomes of what it had sent, and the time, and does what comes out.
//!
//! Every request has exactly one end, [`Event::Finished`]: its result, or why there is none, with what is known of whether it
//! was done. It survives any number of dropped transports. It ends early where no response can come any more: its message was
//! not delivered, or the epoch is over in which the other side had it.
//!
//! Requests and notifications are handed to the application in the order in which they were sent, and answered in any. They are
//! taken from the connection only while [`Rpc::has_room`]; responses always are, so that who serves a request may ask its sender
//! something, whatever else waits.
//!
//! ```
//! use reattach_core::id::MessageIds;
//! use reattach_core::rpc::{self, Call, Channel, Event, Output, Rpc};
//! use reattach_core::time::Instant;
//! use reattach_core::wire::Payload;
//!
//! let now = Instant::ZERO;
//! let mut client = Rpc::new(rpc::Config::default(), &[1; 16], now);
//! let id = client.request(Call::new("sum")?.with_params(Payload::from_json("[2,3]")?)?, now)?;
//! let Some(Output::Send { channel: Channel::Calls, payload, .. }) = client.poll_output() else { panic!("it is sent") };
//! client.handle_sent(Ok(MessageIds::new(&[1; 16]).mint()), now); // the connection took it, under this name
//!
//! let mut server = Rpc::new(rpc::Config::default(), &[2; 16], now);
//! server.handle_message(Channel::Calls, payload.into(), now);
//! let asked = server.take().expect("a request came").id.expect("it wants an answer");
//! server.respond(asked, Ok(Payload::from_json("5")?), now)?;
//! let Some(Output::Send { channel: Channel::Responses, payload, .. }) = server.poll_output() else { panic!("it is sent") };
//!
//! client.handle_message(Channel::Responses, payload.into(), now);
//! let finished = Event::Finished { id, result: Ok(Payload::from_json("5")?) };
//! assert_eq!(client.poll_output(), Some(Output::Event(finished)));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod arrivals;
mod call;
mod config;
mod error;
mod event;
mod id;
mod pending;
mod queue;
mod serving;
mod text;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::ApiMisuse;
use crate::id::MessageId;
use crate::outcome::NotDelivered;
use crate::outcome::Outcome;
use crate::outcome::Unknown;
use crate::rpc::id::RequestIds;
use crate::rpc::pending::Delivered;
use crate::rpc::pending::Leftover;
use crate::rpc::pending::Pending;
use crate::rpc::queue::Queue;
use crate::rpc::queue::Unsent;
use crate::rpc::serving::Serving;
use crate::rpc::text::Item;
use crate::rpc::text::Text;
use crate::time::Clock;
use crate::time::Instant;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;

pub use self::call::Call;
pub use self::config::Config;
pub use self::error::ErrorObject;
pub use self::error::Failure;
pub use self::error::MAX_DEPTH;
pub use self::error::MAX_METHOD;
pub use self::error::RequestError;
pub use self::error::RpcMisuse;
pub use self::event::Channel;
pub use self::event::Event;
pub use self::event::IncomingCall;
pub use self::event::Output;
pub use self::event::Stats;
pub use self::id::IncomingId;
pub use self::id::RequestId;

/// The requests of one connection, both ways.
///
/// *Getters* take `&self`. `handle_*` take in what happened outside. *Commands* ([`request`](Self::request),
/// [`request_batch`](Self::request_batch), [`notify`](Self::notify), [`cancel`](Self::cancel), [`take`](Self::take),
/// [`respond`](Self::respond), [`progress`](Self::progress), [`abort_all`](Self::abort_all)) fail only for the caller's own
/// faults. `poll_*` say what is to be done, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rpc {
    clock: Clock,
    config: Config,
    ids: RequestIds,
    pending: Pending,
    serving: Serving,
    queue: Queue,
    /// Answers that were sent and have no outcome.
    answers: BTreeMap<MessageId, Unsent>,
    /// How the connection ended.
    ended: Option<Arc<str>>,
    stats: Stats,
}

impl Rpc {
    /// Without any request. `nonce` is unique to this life of the machine: it names requests.
    #[must_use]
    pub fn new(config: Config, nonce: &[u8; 16], now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            ids: RequestIds::new(nonce),
            pending: Pending::default(),
            serving: Serving::default(),
            queue: Queue::new(config.max_open + config.max_batch, config.max_bytes),
            answers: BTreeMap::new(),
            ended: None,
            stats: Stats::default(),
            config,
        }
    }

    /// Begins a request. Its time runs from now, sent or not.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::TooManyPending`], [`RpcMisuse::QueueFull`], [`RpcMisuse::Ended`].
    pub fn request(&mut self, call: Call, now: Instant) -> Result<RequestId, RpcMisuse> {
        self.check_room(1)?;
        self.check_unsent()?;
        let now = self.clock.advance(now);
        let mut text = String::new();
        let within = self.timeout_of(&call);
        let id = self.begin(call, &mut text, now);
        let payload = Payload::of_known_parts(&text);
        self.queue.push(Unsent::calls(alloc::vec![id], 0, Some(within), payload));
        Ok(id)
    }

    /// Begins several requests, and sends notifications, in one message. The other side answers them in one, when it has done all.
    /// A call is a notification where the flag beside it is false. Returns the names of the requests, in order.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::BatchSize`], [`RpcMisuse::TooManyPending`], [`RpcMisuse::QueueFull`], [`RpcMisuse::Ended`].
    pub fn request_batch(&mut self, calls: Vec<(Call, bool)>, now: Instant) -> Result<Vec<RequestId>, RpcMisuse> {
        let limit = self.config.max_batch;
        if calls.is_empty() || calls.len() > limit {
            return Err(RpcMisuse::BatchSize { limit });
        }
        self.check_room(calls.iter().filter(|(_, is_request)| *is_request).count())?;
        self.check_unsent()?;
        let now = self.clock.advance(now);
        let (mut texts, mut requests) = (Vec::new(), Vec::new());
        let longest = calls.iter().filter(|(_, is_request)| *is_request).map(|(call, _)| self.timeout_of(call)).max();
        for (call, is_request) in calls {
            let mut text = String::new();
            if is_request {
                requests.push(self.begin(call, &mut text, now));
            } else {
                text::write_notification(&mut text, &call.method, call.params.as_ref().map(Payload::as_str));
            }
            texts.push(text);
        }
        let (payload, ids) = (text::batch(&texts), requests.clone());
        // What notifies of something is not worth less once nobody waits for the requests beside it.
        let notifications = texts.len() - ids.len();
        self.queue.push(Unsent::calls(requests, notifications, longest.filter(|_| notifications == 0), payload));
        Ok(ids)
    }

    /// Sends a notification, which nobody answers.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::QueueFull`], [`RpcMisuse::Ended`].
    pub fn notify(&mut self, call: &Call, now: Instant) -> Result<(), RpcMisuse> {
        self.check_room(0)?;
        self.check_unsent()?;
        self.clock.advance(now);
        let mut text = String::new();
        text::write_notification(&mut text, &call.method, call.params.as_ref().map(Payload::as_str));
        let payload = Payload::of_known_parts(&text);
        self.queue.push(Unsent::calls(Vec::new(), 1, None, payload));
        Ok(())
    }

    /// Withdraws a request. It ends at once, as cancelled; where the other side has it, that is told.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::NotWaiting`] for one that has ended, or never was.
    pub fn cancel(&mut self, id: RequestId, now: Instant) -> Result<(), RpcMisuse> {
        self.clock.advance(now);
        if !self.pending.contains(id) {
            return Err(RpcMisuse::NotWaiting);
        }
        self.fail(id, Failure::Cancelled);
        Ok(())
    }

    /// Withdraws every request of this side. Returns which.
    pub fn abort_all(&mut self, now: Instant) -> Vec<RequestId> {
        self.clock.advance(now);
        let ids = self.pending.ids();
        for id in &ids {
            self.fail(*id, Failure::Cancelled);
        }
        ids
    }

    /// The next thing that the other side wants.
    pub fn take(&mut self) -> Option<IncomingCall> {
        self.serving.take()
    }

    /// Answers a request of the other side. A result that no message can carry is answered as an internal error.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::NotWaiting`] where nobody waits for it any more: see [`Event::Abandoned`].
    pub fn respond(
        &mut self,
        asked: IncomingId,
        result: Result<Payload, ErrorObject>,
        now: Instant,
    ) -> Result<(), RpcMisuse> {
        self.clock.advance(now);
        let carried = result.as_ref().map_or_else(|error| error.data.as_ref(), Some);
        let is_too_deep = carried.is_some_and(|value| call::check_depth(value).is_err());
        let result = if is_too_deep { Err(too_deep()) } else { result };
        let write = |id: &str| text::response(Some(id), result.as_ref());
        let answer = self.serving.answer(asked, write).ok_or(RpcMisuse::NotWaiting)?;
        if let Some(payload) = answer {
            self.queue.push(Unsent::response(payload));
        }
        Ok(())
    }

    /// Tells how far a request of the other side has come, where there is room to say so. Its sender goes on waiting for it.
    /// Steps come in order, and each once or not at all: where this side has stopped trying, what may have come is not said again.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::NotWaiting`], [`RpcMisuse::TooDeep`].
    pub fn progress(&mut self, asked: IncomingId, value: &Payload, now: Instant) -> Result<(), RpcMisuse> {
        self.clock.advance(now);
        let id = self.serving.id(asked).ok_or(RpcMisuse::NotWaiting)?;
        call::check_depth(value)?;
        let progress = Unsent::progress(text::progress(id, value));
        self.say(progress);
        Ok(())
    }

    /// Takes in a message of one of the two lanes. Requests and notifications count only where they belong: the other lane is never
    /// held up.
    pub fn handle_message(&mut self, channel: Channel, payload: UncheckedPayload, now: Instant) {
        let now = self.clock.advance(now);
        let Some(payload) = text::check(payload) else {
            return self.complain(ErrorObject::PARSE_ERROR, None, "it is no JSON");
        };
        match text::read(&payload, self.config.max_batch) {
            Text::One(item) => self.on_item(channel, item, None, now),
            Text::Batch(items) => {
                let batch = self.serving.begin_batch();
                for item in items {
                    self.on_item(channel, item, Some(batch), now);
                }
                // It is complete already where there is no request in it, and so nobody waits.
                if let Some(payload) = self.serving.end_batch(batch) {
                    self.say(Unsent::response(payload));
                }
            }
            Text::BadBatch(problem) => self.complain(ErrorObject::INVALID_REQUEST, None, problem),
            Text::Unreadable => self.complain(ErrorObject::PARSE_ERROR, None, "it is no JSON"),
        }
    }

    /// What became of an [`Output::Send`].
    pub fn handle_sent(&mut self, sent: Result<MessageId, ApiMisuse>, now: Instant) {
        self.clock.advance(now);
        let Some(unsent) = self.queue.take_handed_out() else { return };
        match sent {
            Ok(message) if unsent.channel == Channel::Calls => {
                self.pending.sent(message, unsent.requests, unsent.notifications);
            }
            Ok(message) => _ = self.answers.insert(message, unsent),
            Err(ApiMisuse::QueueFull) => self.queue.put_back(unsent),
            Err(misuse) if unsent.channel == Channel::Calls => {
                if unsent.notifications > 0 {
                    self.queue.tell(Event::NotNotified { misuse });
                }
                for id in unsent.requests {
                    self.fail(id, Failure::NotSent(misuse));
                }
            }
            // This side has stopped trying, and may go on: whoever waits may still be there.
            Err(ApiMisuse::Ended) if self.ended.is_none() => self.queue.put_back(unsent),
            // Whoever waits for it is told that there is an answer, and that it cannot be sent.
            Err(ApiMisuse::TooLarge { .. }) => self.refuse(&unsent.payload),
            Err(_) => {}
        }
    }

    /// There may be room again for what could not be sent.
    pub fn handle_room(&mut self) {
        self.queue.unblock();
    }

    /// A message has its outcome. One that this machine did not send changes nothing.
    pub fn handle_outcome(&mut self, message: &MessageId, outcome: &Outcome, now: Instant) {
        self.clock.advance(now);
        if let Some(answer) = self.answers.remove(message) {
            // This side has only stopped trying. Who has it by now drops it when it comes again. Any other end is the message's own:
            // what was lost as often as it may be does not become better by being said again.
            let is_said_again = match outcome {
                Outcome::NotDelivered { reason: NotDelivered::Unreachable } => true,
                Outcome::Unknown { reason: Unknown::Unreachable } => answer.is_idempotent,
                // The other side has come back with a smaller limit.
                Outcome::NotDelivered { reason: NotDelivered::TooLarge } => {
                    self.refuse(&answer.payload);
                    false
                }
                Outcome::Delivered
                | Outcome::Rejected { .. }
                | Outcome::NotDelivered { .. }
                | Outcome::Unknown { .. } => false,
            };
            if is_said_again {
                self.queue.say_again(answer);
            }
        }
        for id in self.pending.decided(message) {
            let failure = match outcome {
                Outcome::Delivered => match self.pending.delivered(id) {
                    Delivered::Well => continue,
                    Delivered::InVain => {
                        self.say(Unsent::response(text::cancel(id)));
                        continue;
                    }
                    Delivered::TooEarly => Failure::EpochEnded,
                },
                Outcome::Rejected { code, .. } => Failure::Rejected { code: code.clone() },
                Outcome::NotDelivered { reason } => Failure::NotDelivered(*reason),
                Outcome::Unknown { reason } => {
                    self.fail(id, Failure::Unknown(*reason));
                    // The other side may be working on it.
                    self.say(Unsent::response(text::cancel(id)));
                    continue;
                }
            };
            self.fail(id, failure);
        }
    }

    /// The epoch of the connection is over and another one has begun. `is_open` says of a message whether it still waits for its
    /// outcome in the connection.
    pub fn handle_epoch_ended(&mut self, is_open: impl Fn(&MessageId) -> bool, now: Instant) {
        self.clock.advance(now);
        for id in self.pending.end_epoch(is_open) {
            self.fail(id, Failure::EpochEnded);
        }
        self.queue.drop_answers();
        self.answers.clear();
        self.abandon();
    }

    /// The connection has ended. Nothing more can be asked; what the other side notified of can still be taken.
    pub fn handle_ended(&mut self, cause: &str, now: Instant) {
        self.clock.advance(now);
        if self.ended.is_some() {
            return;
        }
        let cause = Arc::<str>::from(cause);
        self.ended = Some(Arc::clone(&cause));
        for id in self.pending.ids() {
            self.fail(id, Failure::Ended { cause: Arc::clone(&cause) });
        }
        self.queue.clear();
        self.answers.clear();
        self.abandon();
    }

    /// Lets time pass. Call it when [`Rpc::poll_timeout`] is due; calling it earlier or later does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.advance(now);
        while let Some((id, failure)) = self.pending.overdue(now) {
            self.stats.timeouts += 1;
            self.fail(id, failure);
        }
    }

    /// The next thing to do. Poll until there is none, then wait.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.queue.poll()
    }

    /// When to call [`Rpc::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.poll_timeout()
    }

    /// How many answers wait to be sent.
    #[must_use]
    pub fn unsent_responses(&self) -> usize {
        self.queue.answers()
    }

    /// Whether requests and notifications may be taken from the connection. Responses always may.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let Config { max_open, max_bytes, .. } = self.config;
        let open = self.serving.len();
        open < max_open && self.serving.bytes() < max_bytes && self.queue.has_room_for_answers(max_open - open)
    }

    /// Whether [`Rpc::take`] has something.
    #[must_use]
    pub fn has_incoming(&self) -> bool {
        self.serving.has_incoming()
    }

    /// How many requests of this side wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many requests of the other side have no answer yet.
    #[must_use]
    pub fn serving(&self) -> usize {
        self.serving.open()
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn check_room(&self, requests: usize) -> Result<(), RpcMisuse> {
        let limit = self.config.max_pending;
        if self.ended.is_some() {
            Err(RpcMisuse::Ended)
        } else if self.pending.len() + requests > limit {
            Err(RpcMisuse::TooManyPending { limit })
        } else {
            Ok(())
        }
    }

    fn check_unsent(&self) -> Result<(), RpcMisuse> {
        if self.queue.has_room_for_calls(self.config.max_pending) { Ok(()) } else { Err(RpcMisuse::QueueFull) }
    }

    fn timeout_of(&self, call: &Call) -> core::time::Duration {
        let default = if call.is_long { self.config.long_timeout } else { self.config.timeout };
        call.timeout.unwrap_or(default)
    }

    fn begin(&mut self, call: Call, text: &mut String, now: Instant) -> RequestId {
        let (id, timeout) = (self.ids.mint(), self.timeout_of(&call));
        text::write_request(text, id, &call.method, call.params.as_ref());
        self.pending.begin(id, call.method, timeout, call.idle, now);
        self.stats.requests += 1;
        id
    }

    /// A request of this side ends without a result.
    fn fail(&mut self, id: RequestId, failure: Failure) {
        let Some((method, leftover)) = self.pending.end(id) else { return };
        self.stats.failures += 1;
        match leftover {
            Leftover::Queued => self.queue.forget(id),
            Leftover::Sent(message) => self.queue.withdraw(message),
            // Whoever has answered, or is gone, need not be told that nobody waits.
            Leftover::Served
                if matches!(failure, Failure::Cancelled | Failure::TimedOut { .. } | Failure::Idle { .. }) =>
            {
                self.say(Unsent::response(text::cancel(id)));
            }
            Leftover::Served | Leftover::Nothing => {}
        }
        self.queue.tell(Event::Finished { id, result: Err(RequestError { id, method, failure }) });
    }

    /// An answer is too large to be sent. Whoever waits for it is told that, where it is less to say.
    fn refuse(&mut self, answer: &Payload) {
        if let Some(payload) = too_large(answer).filter(|refusal| refusal.len() < answer.len()) {
            self.queue.push(Unsent::response(payload));
        }
    }

    /// Says something that nobody waits for, where there is room.
    fn say(&mut self, unsent: Unsent) {
        if self.ended.is_none() && !self.queue.say(unsent) {
            self.stats.unsaid += 1;
        }
    }

    fn abandon(&mut self) {
        for asked in self.serving.abandon() {
            self.queue.tell(Event::Abandoned { id: asked });
        }
    }
}

fn too_deep() -> ErrorObject {
    ErrorObject::new(ErrorObject::INTERNAL_ERROR, "the result is nested too deep to be sent")
}

/// The same answers without what makes them large.
fn too_large(answer: &Payload) -> Option<Payload> {
    let error = ErrorObject::new(ErrorObject::INTERNAL_ERROR, "the result is too large to be sent");
    let refusal = |item: Item<'_>| match item {
        Item::Response { id, .. } => Some(text::response(Some(id), Err(&error))),
        Item::Request { .. }
        | Item::Notification { .. }
        | Item::Complaint(_)
        | Item::Stray(_)
        | Item::Invalid { .. } => None,
    };
    match text::read(answer, usize::MAX) {
        Text::One(item) => refusal(item).map(|text| Payload::of_known_parts(&text)),
        Text::Batch(items) => {
            let texts = items.into_iter().filter_map(refusal).collect::<Vec<_>>();
            (!texts.is_empty()).then(|| text::batch(&texts))
        }
        Text::BadBatch(_) | Text::Unreadable => None,
    }
}
