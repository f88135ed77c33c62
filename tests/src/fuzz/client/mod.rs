//! One client against everything at once: a network, a server that is honest, wrong or hostile, an application, and a clock
//! that jumps both ways.
//!
//! The first bytes choose a configuration with small caps and short timers; the rest is a sequence of operations. What the
//! server says is made from what the machine shows of itself (its epoch, its numbers), so that it is mostly right and deep
//! states are reached. After each operation every output is drained, as the law asks, and the machine is looked at.

mod decisions;
mod ledger;
mod outputs;
mod speech;

use std::time::Duration;

use reattach_core::client::Client;
use reattach_core::client::Config;
use reattach_core::client::Input;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Acceptance;
use reattach_core::link::Handle;
use reattach_core::link::Lanes;
use reattach_core::link::Outgoing;
use reattach_core::reconnect::Insecure;
use reattach_core::reconnect::OpenError;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;
use reattach_core::wire::Token;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::checks;
use crate::fuzz::shapes;

use self::ledger::Cause;
use self::ledger::Ledger;

/// The body of the target.
pub fn run(input: &[u8]) {
    let mut run = Run::new(Bytes::new(input));
    while !run.bytes.is_empty() {
        run.step();
        run.check();
    }
    run.finish();
}

/// The live transport.
#[derive(Debug)]
struct Wire {
    transport: TransportId,
    is_open: bool,
    produced: u64,
    written: u64,
    hello: Option<Hello>,
    pinged: u64,
    /// The client's last word on it.
    bye: Option<CloseCode>,
}

struct Run<'a> {
    bytes: Bytes<'a>,
    config: Config,
    client: Client,
    now: Instant,
    wire: Option<Wire>,
    /// How many transports were asked for.
    opened: u64,
    ledger: Ledger,
    /// What was sent, and what was handed over to be decided about.
    ids: Vec<MessageId>,
    handles: Vec<Handle>,
    minted: u8,
    /// Messages in the text that is being made.
    ahead: u64,
    /// Whether all bytes leave at once.
    is_fast: bool,
}

impl<'a> Run<'a> {
    fn new(mut bytes: Bytes<'a>) -> Self {
        let mut config = Config::default();
        config.connect_timeout = Duration::from_millis(100);
        config.hello_timeout = Duration::from_millis(150);
        config.reconnect.backoff.base = Duration::from_millis(10);
        config.reconnect.backoff.cap = Duration::from_millis(80);
        config.reconnect.backoff.jitter = bytes.pick(&[false, true]);
        config.reconnect.attempts = bytes.pick(&[None, Some(2), Some(0)]);
        config.reconnect.stable = Duration::from_millis(50);
        config.reconnect.restart_min = Duration::from_millis(20);
        config.reconnect.restart_max = Duration::from_millis(40);
        config.on_superseded = bytes.pick(&[OnSuperseded::NewIdentity, OnSuperseded::Stop]);
        config.connection = shapes::connection(&mut bytes);
        let now = Instant::from_secs(1_000);
        let has_spare = bytes.pick(&[true, false]);
        let spare = has_spare.then(|| ConnectionKey::from_bytes([2; 16]));
        let instance = InstanceId::from_bytes([7; 16]);
        let secrets = Secrets { key: ConnectionKey::from_bytes([1; 16]), spare, instance };
        let ledger = Ledger::new(config.on_superseded, has_spare);
        let is_fast = bytes.pick(&[true, false]);
        let client = Client::new(config.clone(), secrets, u64::from(bytes.byte()), now);
        let mut run = Self {
            bytes,
            config,
            client,
            now,
            wire: None,
            opened: 0,
            ledger,
            ids: Vec::new(),
            handles: Vec::new(),
            minted: 10,
            ahead: 0,
            is_fast,
        };
        run.drain();
        run.check();
        run
    }

    /// One operation, with what follows from it.
    fn step(&mut self) {
        let choice = self.bytes.byte();
        match choice % 64 {
            _ if choice >= 0xc0 => self.step_further(choice),
            0..=7 => self.opened(),
            8 => self.open_failed(),
            9..=14 => self.welcome(),
            15 => self.challenge(),
            16..=19 => self.say_one(Self::message),
            20..=22 => self.say_one(Self::ack),
            23..=24 => self.say_one(Self::pong),
            25 => self.say_one(Self::ping),
            26 => self.say_one(Self::ephemeral),
            27 => self.say_one(Self::bye),
            28..=30 => self.batch(),
            31 => self.raw(),
            32..=34 => self.progress(),
            35..=36 => self.closed(),
            37..=40 => self.wake(),
            41 => self.pass(),
            42 => self.input_of_a_dead_transport(),
            43..=50 => self.send(),
            51..=54 => self.take(),
            55..=56 => self.send_ephemeral(),
            57 => self.reconnect(),
            58 => self.provide_key(),
            59 => self.disconnect(),
            60 => self.close(),
            _ => self.wake_at(self.now),
        }
    }

    fn input(&mut self, cause: Cause, input: Input<'_>) {
        self.ledger.begin(cause);
        self.client.handle_input(input, self.now);
        self.drain();
    }

    /// The transport of which the machine believes that it lives; some other where there is none.
    fn transport(&self) -> TransportId {
        self.wire.as_ref().map_or(TransportId(0), |wire| wire.transport)
    }

    fn opened(&mut self) {
        let transport = self.transport();
        let token = if self.bytes.rarely(4) { Token::new("secret".into()) } else { None };
        if let Some(wire) = &mut self.wire {
            wire.is_open = true;
        }
        self.input(Cause::Opened, Input::Opened { transport, token });
    }

    fn open_failed(&mut self) {
        let transport = self.transport();
        let error = match self.bytes.below(5) {
            0 => OpenError::Unreachable,
            1 => OpenError::Insecure(Insecure::UnknownIssuer),
            2 => OpenError::WrongProtocol,
            3 => OpenError::NoCredentials,
            _ => OpenError::Refused { status: 400 + u16::from(self.bytes.byte()), retry_after: None },
        };
        self.wire.take_if(|wire| !wire.is_open);
        self.input(Cause::OpenFailed, Input::OpenFailed { transport, error });
    }

    fn receive(&mut self, text: &str) {
        let transport = self.transport();
        if self.bytes.rarely(4) {
            self.input(Cause::Nothing, Input::Progress { transport, read: text.len() as u64, written: 0 });
        }
        self.input(Cause::Received, Input::Received { transport, incoming: Incoming::Text(text) });
    }

    fn progress(&mut self) {
        let transport = self.transport();
        let produced = self.wire.as_ref().map_or(0, |wire| wire.produced);
        let (read, written) = (self.bytes.number(), self.bytes.near(produced));
        if let Some(wire) = &mut self.wire {
            wire.written = wire.written.max(written.min(wire.produced));
        }
        self.input(Cause::Nothing, Input::Progress { transport, read, written });
    }

    fn closed(&mut self) {
        let transport = self.transport();
        let code = shapes::code(&mut self.bytes);
        self.wire = None;
        self.input(Cause::Closed, Input::Closed { transport, code });
    }

    /// To the machine's own next deadline, or a little after it.
    fn wake(&mut self) {
        let late = Duration::from_millis(self.bytes.pick(&[0, 0, 1, 1_000]));
        if let Some(at) = self.client.poll_timeout() {
            self.wake_at(self.now.max(at + late));
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.now = at;
        self.ledger.begin(Cause::Time);
        // A retry may be due at once, a hello never: a few turns bring the deadline behind the present.
        for _ in 0..64 {
            self.client.handle_timeout(self.now);
            self.drain();
            if self.client.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("the deadline stays in the past: {:?}", self.client);
    }

    /// Time passes with nobody looking, or runs backwards for one operation.
    fn pass(&mut self) {
        let by = Duration::from_millis(self.bytes.number().min(100_000));
        if !self.bytes.rarely(3) {
            self.now = self.now + by;
            return;
        }
        self.wake_at(self.now);
        let mut other = self.client.clone();
        other.handle_timeout(self.now);
        self.client.handle_timeout(Instant::ZERO + by);
        assert_eq!(self.client, other, "an earlier time is taken for the latest one seen");
        self.drain();
    }

    fn input_of_a_dead_transport(&mut self) {
        // Only the time may have moved on.
        self.wake_at(self.now);
        let transport = TransportId(self.bytes.near(self.opened + 1));
        if self.wire.as_ref().is_some_and(|wire| wire.transport == transport) {
            return;
        }
        let text = self.bytes.text();
        let input = match self.bytes.below(5) {
            0 => Input::Opened { transport, token: None },
            1 => Input::OpenFailed { transport, error: OpenError::Unreachable },
            2 => Input::Received { transport, incoming: Incoming::Text(&text) },
            3 => Input::Progress { transport, read: 1, written: self.bytes.number() },
            _ => Input::Closed { transport, code: shapes::code(&mut self.bytes) },
        };
        let before = self.client.clone();
        self.client.handle_input(input, self.now);
        assert_eq!(self.client, before, "an input of a dead transport changes nothing");
    }

    fn send(&mut self) {
        self.ledger.begin(Cause::Nothing);
        let payload = shapes::payload(&mut self.bytes);
        let id = if self.bytes.rarely(4) { Some(shapes::id(&mut self.bytes)) } else { None };
        let len = payload.len() as u64;
        let outgoing = Outgoing { id, ..shapes::outgoing(&mut self.bytes, payload) };
        let has_room = self.client.has_room(&outgoing.lane, len);
        let before = self.client.stats();
        match self.client.send(outgoing, self.now) {
            Ok(sent) => {
                assert!(has_room && id.is_none_or(|id| id == sent), "what is taken has room, and its own name");
                self.ledger.on_sent(sent);
                self.ids.push(sent);
            }
            Err(error) => {
                assert!(!matches!(error, ApiMisuse::NotAttached | ApiMisuse::UnknownConnection), "{error}");
                assert!(error != ApiMisuse::IdInUse || id.is_some_and(|id| self.ledger.owes(&id)));
                assert!(error != ApiMisuse::QueueFull || !has_room);
                assert!(!matches!(error, ApiMisuse::TooLarge { .. }) || len > 1, "one byte is never too large");
                assert_eq!(self.client.stats(), before, "misuse changes nothing");
            }
        }
        self.drain();
    }

    fn take(&mut self) {
        self.ledger.begin(Cause::Nothing);
        let had = self.client.has_delivery();
        for _ in 0..=self.bytes.below(4) {
            let has = self.client.has_delivery();
            let taken = self.client.take(self.now);
            checks::taken(has, taken.is_some(), self.client.has_delivery());
            self.handles.extend(taken.and_then(|delivery| delivery.handle()));
        }
        assert!(had || !self.client.has_delivery());
        self.drain();
    }

    fn provide_key(&mut self) {
        self.ledger.begin(Cause::Nothing);
        self.minted = self.minted.wrapping_add(1);
        self.client.provide_key(ConnectionKey::from_bytes([self.minted; 16]));
        self.ledger.on_key_provided();
        self.drain();
    }

    fn disconnect(&mut self) {
        self.ledger.begin(Cause::Close);
        self.ledger.on_closing();
        self.client.disconnect(self.now);
        self.drain();
        assert!(matches!(self.client.status(), Status::Closed(_)), "it is over at once");
    }

    fn close(&mut self) {
        self.ledger.begin(Cause::Close);
        self.ledger.on_closing();
        let patience = Duration::from_millis(self.bytes.number().min(1_000));
        self.client.close(patience, self.now);
        self.drain();
    }

    fn mint(&mut self) -> Epoch {
        self.minted = self.minted.wrapping_add(1);
        Epoch::from_bytes([self.minted; 16])
    }

    /// Does what the machine asks for.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.client.poll_output() {
                self.on_output(output);
            }
            let moved = self.wire.as_mut().filter(|wire| self.is_fast && wire.written < wire.produced);
            let Some(wire) = moved else { return };
            wire.written = wire.produced;
            let (transport, written) = (wire.transport, wire.produced);
            self.client.handle_input(Input::Progress { transport, read: 0, written }, self.now);
        }
    }

    /// What holds after every operation.
    fn check(&self) {
        let client = &self.client;
        checks::connection(client.connection(), &self.config.connection, self.ledger.outstanding());
        let link = client.connection().link();
        let (inbox, is_automatic) = (link.inbox(), link.config().acceptance == Acceptance::Automatic);
        let untaken = inbox.settlement().received() > inbox.settlement().settled();
        assert!(!is_automatic || !untaken || inbox.has_message(Lanes::All), "what came and was not taken can be");
        let is_live = match client.status() {
            Status::Connecting { .. } | Status::Attached => true,
            Status::Detached { .. }
            | Status::Suspended
            | Status::Superseded
            | Status::Failed(_)
            | Status::Closed(_) => false,
            status => panic!("a status that this target does not know: {status:?}"),
        };
        assert_eq!(is_live, self.wire.is_some(), "the machine knows whether it has a transport");
        let is_waiting = is_live || matches!(client.status(), Status::Detached { .. });
        let inbox = client.connection().link().inbox();
        if client.status() == Status::Suspended {
            assert!(self.ledger.outstanding() == 0 || client.poll_timeout().is_some(), "what waits has a timer");
        } else if is_waiting {
            assert!(client.poll_timeout().is_some(), "nothing waits without a timer: {client:?}");
        } else {
            assert!(self.ledger.outstanding() == 0, "what has stopped owes no outcome: {client:?}");
            let is_idle = client.poll_timeout() == inbox.poll_timeout();
            assert!(is_idle, "what has stopped waits for nothing, but for decisions: {client:?}");
        }
        if let Some(wire) = &self.wire {
            checks::held(wire.produced - wire.written, &self.config.connection);
        }
    }

    /// Everybody is silent from here on: the machine notices. Then the connection is closed, and every message gets its
    /// outcome in time.
    fn finish(mut self) {
        let end = self.now + Duration::from_secs(3);
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.wake_at(self.now.max(at));
            self.check();
        }
        assert_ne!(self.client.status(), Status::Attached, "a transport without life is given up");
        self.now = self.now.max(end);
        self.close();
        for _ in 0..256 {
            self.check();
            let Some(at) = self.client.poll_timeout() else { break };
            self.wake_at(self.now.max(at));
        }
        assert!(matches!(self.client.status(), Status::Closed(_)), "a close ends: {:?}", self.client);
        self.check();
    }
}
