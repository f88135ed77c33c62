//! The oracle: what the applications at both ends are promised, and what has to explain every disturbance.
//!
//! It shares no code with the machines. It hears what applications send, take, decide and are told, what machines write, open
//! and close, and which faults somebody has injected, on which wire; and it says what contradicts the design. A protocol that
//! heals itself hides its bugs, so nothing that is lost, refused, written again or closed passes without a cause: the faults
//! are kept by wire, by connection and by party, and one that hit another connection explains nothing.
//!
//! | file | what it knows | rules |
//! |---|---|---|
//! | `messages` | what was sent, handed over, decided, told | S1 to S4, S7 of the sends, L1 |
//! | `hands` | what applications have in their hands | S1, S3 |
//! | `rooms` | who holds how many places | B1, no refusal without a cause |
//! | `wires` | which ends live, who closed them, what was written again | S5, J1, E1 |
//! | `connections` | which epochs began, and why; who expired | J1, B2 |
//! | `causes` | what happened to each party that may cost messages | J1 |
//! | `applications` | what is known without any wire | J1, S2 |
//! | `losses` | whether anything was lost at all, in a run in which nothing should be | S3, L2 |
//! | `told` | what machines tell | all of them |
//! | `bounds` | what one machine shows of itself | B1, L2 |
//!
//! Everything here can be cloned, compared and hashed, so that a model checker can keep it in a state.

mod applications;
mod bounds;
mod causes;
mod connections;
mod hands;
mod losses;
mod messages;
mod rooms;
mod told;
mod wires;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use reattach_core::connection::Connection;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::link;
use reattach_core::link::Decision;
use reattach_core::link::Handed;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::time::Instant;

pub use self::bounds::agree;
pub use self::bounds::within_bounds;
pub use self::causes::Why;
pub use self::wires::End;
pub use self::wires::Fault;

use self::causes::Causes;
use self::connections::Connections;
use self::hands::Hands;
use self::messages::Messages;
use self::wires::Wires;

/// What contradicts the design.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// The rule, as the design names it.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

impl Broken {
    /// A contradiction.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// A contradiction, or none.
pub type Checked = Result<(), Broken>;

/// Fails unless something holds.
fn check(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken::new(rule, what())) }
}

/// Who sends, or takes: one life of a client's application, or the server's as it speaks with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A client, by the number of its life.
    Client(usize),
    /// The server's application, of a connection.
    Server(ConnectionId),
}

/// How the machines are configured, as far as it bears on what is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The clients' links.
    pub client: link::Config,
    /// The server's links.
    pub server: link::Config,
    /// How long a detached connection is kept.
    pub detach_ttl: Duration,
    /// How long one is kept whose client sleeps.
    pub suspended_ttl: Duration,
    /// The most transports at the server, and the most connections.
    pub max_connections: usize,
    /// How many tries in a row must fail before what would rather fail than wait fails.
    pub failures: u32,
    /// How far apart the clocks of two programs can be.
    pub skew: Duration,
    /// How much later than its time anything may happen, for clocks that jumped and programs that were stopped. Without it
    /// nothing is held against time.
    pub slack: Option<Duration>,
}

impl Rules {
    fn link(&self, party: Party) -> &link::Config {
        match party {
            Party::Client(_) => &self.client,
            Party::Server(_) => &self.server,
        }
    }
}

/// How a program came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// From its very state.
    Current,
    /// From an older copy of it.
    Stale,
    /// Without any.
    Lost,
}

/// The oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Oracle {
    rules: Rules,
    messages: Messages,
    hands: Hands,
    wires: Wires,
    connections: Connections,
    causes: Causes,
    knows_wires: bool,
}

/// What the server's applications and its state knew at some time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerCopy {
    messages: Messages,
    connections: Connections,
}

/// What a client's application knew at some time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCopy {
    of: usize,
    messages: Messages,
    connections: Connections,
}

impl Oracle {
    /// An oracle that has heard nothing.
    pub fn new(rules: Rules) -> Self {
        let causes = Causes::default();
        let (messages, hands) = (Messages::default(), Hands::default());
        Self {
            rules,
            messages,
            hands,
            wires: Wires::default(),
            connections: Connections::default(),
            causes,
            knows_wires: true,
        }
    }

    // Lives.

    /// A client begins that nobody has been before, or one that has the key of another and nothing else.
    pub fn on_client(&mut self, client: usize, cid: ConnectionId) {
        self.connections.on_client(client, cid);
    }

    /// What a client's application knows now.
    pub fn copy_client(&self, client: usize) -> ClientCopy {
        ClientCopy { of: client, messages: self.messages.clone(), connections: self.connections.clone() }
    }

    /// Another life of a client goes on from a copy of an earlier one's state.
    pub fn on_client_restored(&mut self, client: usize, copy: &ClientCopy, cid: ConnectionId) {
        self.connections.on_client_copy(client, cid, copy.of, &copy.connections);
        self.messages.on_copied(Party::Client(copy.of), Party::Client(client), &copy.messages);
        self.note(Party::Client(client), Why::Restored);
        self.note(Party::Client(client), Why::EpochEnded);
        // Which of the two lives has joined which epoch, nobody keeps account of.
        self.note(Party::Server(cid), Why::EpochEnded);
    }

    /// A client's program dies and goes on from its very state, as another instance. What its application had in its hands
    /// nobody decides about any more.
    pub fn on_client_restarted(&mut self, client: usize) {
        self.hands.on_restarted(|party| party == Party::Client(client), &mut self.messages);
        self.connections.on_client_restarted(client);
        self.note(Party::Client(client), Why::Restored);
    }

    /// A client's program is gone for good.
    pub fn on_client_gone(&mut self, client: usize) {
        self.messages.on_gone(|party| party == Party::Client(client));
        self.hands.on_gone(|party| party == Party::Client(client));
        self.connections.on_client_gone(client);
        self.wires.on_client_gone(client);
    }

    /// A client's program is gone: its ends of wires are dead.
    pub fn on_client_wires_dead(&mut self, client: usize) {
        self.wires.on_client_gone(client);
    }

    /// The server's program is gone, and its ends of wires with it.
    pub fn on_server_down(&mut self) {
        self.wires.on_server_gone();
    }

    /// What the server and its applications know now.
    pub fn copy_server(&self) -> ServerCopy {
        ServerCopy { messages: self.messages.clone(), connections: self.connections.clone() }
    }

    /// The server's program dies, and another one runs: from its very state, from a copy, or from nothing.
    pub fn on_server_restarted(&mut self, how: Restart, copy: Option<&ServerCopy>, now: Instant) {
        let is_server = |party| matches!(party, Party::Server(_));
        match (how, copy) {
            (Restart::Current, _) => self.hands.on_restarted(is_server, &mut self.messages),
            (Restart::Stale, Some(copy)) => {
                self.hands.on_sealed(is_server, true, &mut self.messages);
                self.messages.on_server_copied(&copy.messages);
            }
            (Restart::Stale | Restart::Lost, _) => {
                self.messages.on_gone(is_server);
                self.hands.on_sealed(is_server, true, &mut self.messages);
                self.hands.on_gone(is_server);
            }
        }
        self.connections.on_server_restarted(how, copy.map(|copy| &copy.connections), now);
        if how == Restart::Stale {
            for cid in self.connections.known() {
                self.note(Party::Server(cid), Why::Restored);
                self.note(Party::Server(cid), Why::EpochEnded);
            }
        }
    }

    // Wires and faults.

    /// A client asks for a wire.
    pub fn on_asked(&mut self, wire: u64, client: usize) {
        self.wires.on_asked(wire, Some(client));
    }

    /// A stranger opens a wire. `has_key` says whether it can say the hello of a connection.
    pub fn on_stranger(&mut self, wire: u64, has_key: bool) {
        self.wires.on_asked(wire, None);
        self.wires.on_fault(wire, Fault::Hostile);
        if has_key {
            self.wires.on_fault(wire, Fault::Ghost);
        }
    }

    /// The server's end of a wire lives from here on.
    pub fn on_accepted(&mut self, wire: u64) {
        self.wires.on_accepted(wire);
    }

    /// Somebody has injected a fault into a wire, or into one of the programs at its ends.
    pub fn on_fault(&mut self, wire: u64, fault: Fault) {
        self.wires.on_fault(wire, fault);
        if let (Some(client), true) = (self.wires.client_of(wire), fault.may_swallow()) {
            self.connections.on_strike(client);
        }
    }

    /// The same, for everybody.
    pub fn on_fault_everywhere(&mut self, fault: Fault) {
        for wire in self.wires.live() {
            self.on_fault(wire, fault);
        }
    }

    /// A machine writes on a wire.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_write(&mut self, wire: u64, end: End, text: &str) -> Checked {
        let is_hello = end == End::Client && text.starts_with("{\"t\":\"hello\"");
        if let Some(client) = self.wires.client_of(wire).filter(|_| is_hello) {
            let (epoch, restarts) = (self.connections.epoch_of_client(client), self.connections.restarts(client));
            self.wires.on_hello(wire, epoch, restarts);
        }
        self.wires.on_write(wire, end, text)
    }

    /// A machine closes a wire.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_close(&mut self, wire: u64, end: End) -> Checked {
        self.wires.on_close(wire, end)
    }

    /// A machine is told that a wire is gone.
    pub fn on_told_closed(&mut self, wire: u64, end: End) {
        self.wires.on_told_closed(wire, end);
    }

    /// Everything that follows from one thing that happened has been heard.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn check_step(&mut self) -> Checked {
        let connections = &self.connections;
        self.wires.check_closes(|party| connections.is_closing(party))
    }

    /// Whether the server has welcomed somebody on a wire.
    pub fn was_welcomed(&self, wire: u64) -> bool {
        self.wires.answer_of(wire).1.is_some()
    }

    /// Nothing that should be over by now, by the server's clock, is still there.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn check_time(&self, now: Instant) -> Checked {
        let Some(slack) = self.rules.slack else { return Ok(()) };
        self.connections.check_expiry(&self.rules, slack, now)
    }

    /// The most messages that were written again on one wire.
    pub fn most_again(&self) -> u32 {
        self.wires.most_again()
    }

    // What applications do.

    /// A message was accepted for sending. Its payload says its number.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_sent(&mut self, by: Party, number: u32, id: MessageId, message: &Outgoing, now: Instant) -> Checked {
        let quota = self.rules.link(by).outbox;
        check(self.messages.may_admit(by, &quota, message), "B1", || {
            format!("{by:?} queues {number} beyond the bound")
        })?;
        check(!self.connections.has_ended(by), "S7", || format!("{by:?} has ended and takes {number}"))?;
        self.messages.on_sent(by, number, id, message, now)
    }

    /// A message was refused.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_refused(&self, by: Party, error: ApiMisuse, message: &Outgoing) -> Checked {
        let rules = self.rules.link(by);
        let has_cause = match error {
            ApiMisuse::QueueFull => self.messages.may_refuse(by, &rules.outbox, message),
            ApiMisuse::TooLarge { .. } => {
                message.payload.len() as u64 > self.rules.client.max_payload.min(self.rules.server.max_payload)
            }
            ApiMisuse::IdInUse => message.id.is_some_and(|id| self.messages.is_open(by, &id)),
            ApiMisuse::Ended => self.connections.may_have_ended(by),
            ApiMisuse::UnknownConnection => matches!(by, Party::Server(cid) if !self.connections.is_registered(&cid)),
            ApiMisuse::NotAttached
            | ApiMisuse::UnknownMessage
            | ApiMisuse::Undecidable
            | ApiMisuse::ReservedCode(_)
            | _ => false,
        };
        check(has_cause, "S7", || format!("{by:?} is refused a send without a cause: {error}: {message:?}"))
    }

    /// A message was withdrawn, or was said to have its outcome.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_cancelled(&mut self, by: Party, id: &MessageId, is_withdrawn: bool, now: Instant) -> Checked {
        self.messages.on_cancelled(by, id, is_withdrawn, now)
    }

    /// A message was handed over. `is_left` says that it came on a connection that had ended before.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_handed(&mut self, to: Party, number: u32, handed: &Handed, is_left: bool, now: Instant) -> Checked {
        let Some(from) = self.messages.sender(number) else {
            return Err(Broken::new("S5", format!("{to:?} is handed {number}, which was never sent")));
        };
        let is_ours = self.connections.can_reach(from, to);
        check(is_ours, "X1", || format!("{to:?} is handed {number}, which {from:?} sent to somebody else"))?;
        let lane = handed.lane.clone();
        self.hands.check_lane(to, number, &lane, is_left, &self.messages, now)?;
        let place = self.connections.place_of(to, is_left);
        let was_resent = self.causes.since(from, Why::EpochEnded, self.messages.order(number));
        self.messages.on_handed(to, number, handed, place, was_resent)?;
        let until = now + self.rules.link(to).lease;
        match handed.handle {
            Some(handle) => self.hands.on_handed(to, handle, number, until, is_left, &mut self.messages),
            None => {
                self.messages.on_accepted(number);
                Ok(())
            }
        }
    }

    /// An ephemeral message was sent.
    pub fn on_ephemeral(&mut self, by: Party, number: u32) {
        self.messages.on_ephemeral(by, number);
    }

    /// An ephemeral message was handed over.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_ephemeral_handed(&mut self, to: Party, number: u32, key: &str) -> Checked {
        self.messages.on_ephemeral_handed(to, number, key)
    }

    /// An application decided about a message, or was told that it is too late.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_decided(
        &mut self,
        by: Party,
        handle: Handle,
        decision: &Decision,
        result: Result<(), ApiMisuse>,
        now: Instant,
    ) -> Checked {
        self.hands.on_decided(by, handle, decision, result, &mut self.messages, now)
    }

    /// An application asked for more time, or was told that it is too late.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_extended(
        &mut self,
        by: Party,
        handle: Handle,
        lease: Duration,
        result: Result<(), ApiMisuse>,
        now: Instant,
    ) -> Checked {
        self.hands.on_extended(by, handle, lease, result, &mut self.messages, now)
    }

    /// What there is to decide about, as far as applications know.
    pub fn in_hands(&self) -> impl Iterator<Item = (Party, Handle)> {
        self.hands.all()
    }

    /// A client's application closes, ends, suspends or reconnects: what it does to its wire, it has done itself. `is_end` says
    /// that it wants the connection to end.
    pub fn on_client_command(&mut self, client: usize, is_end: bool) {
        self.wires.on_command_of_client(client);
        self.connections.on_strike(client);
        if !is_end {
            self.connections.on_going_on(client);
        } else {
            let cid = self.connections.cid_of(client);
            self.connections.on_closing(Party::Client(client));
            self.note(Party::Client(client), Why::Closed);
            self.note(Party::Server(cid), Why::Ended);
            self.connections.on_end_wanted(cid);
            self.hands.on_ended(Party::Client(client));
        }
    }

    /// The server's application detaches, closes, ends, drains or revokes a connection.
    pub fn on_server_command(&mut self, cid: ConnectionId, why: Option<Why>) {
        self.wires.on_command_of_server(cid);
        for client in self.connections.clients_of(cid) {
            self.connections.on_strike(client);
        }
        let Some(why) = why else { return };
        self.connections.on_end_wanted(cid);
        self.connections.on_closing(Party::Server(cid));
        self.note(Party::Server(cid), why);
        for client in self.connections.clients_of(cid) {
            self.note(Party::Client(client), Why::Ended);
            self.note(Party::Client(client), Why::EpochEnded);
            self.hands.on_ended(Party::Client(client));
        }
        if why == Why::Shutdown {
            self.hands.on_ended(Party::Server(cid));
        }
    }

    /// The server is told that a client went to sleep, or that one did which had said so.
    pub fn on_suspended(&mut self, client: usize) {
        self.connections.on_suspended(client);
    }

    /// What one machine shows of itself keeps its bounds.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn check_connection(&self, party: Party, connection: &Connection) -> Checked {
        within_bounds(connection, self.rules.link(party), self.messages.open(party))
    }

    /// Every message that somebody waits for has its outcome.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn check_settled(&self) -> Checked {
        self.messages.check_settled()
    }

    /// Whether every message that somebody waits for has its outcome.
    pub fn is_settled(&self) -> bool {
        self.messages.check_settled().is_ok()
    }

    /// The parties that wait for outcomes.
    pub fn waiting(&self) -> BTreeSet<Party> {
        self.messages.waiting()
    }

    /// How many reliable messages were sent, how many were handed over, and how many of each outcome were told: delivered,
    /// rejected, not delivered, unknown.
    pub fn counts(&self) -> [u64; 6] {
        self.messages.counts()
    }

    fn note(&mut self, party: Party, why: Why) {
        self.causes.note(party, why, self.messages.sent());
    }

    fn on_outcome(&mut self, party: Party, id: &MessageId, outcome: &Outcome, now: Instant) -> Checked {
        if self.connections.is_other_leaving(party) {
            self.note(party, Why::Ended);
        }
        let strikes = self.connections.strikes(party);
        if *outcome == (Outcome::NotDelivered { reason: NotDelivered::Unavailable }) {
            let failures = self.connections.failures(party);
            check(failures >= self.rules.failures, "J1", || {
                format!("{id} did not wait, and only {failures} tries have failed")
            })?;
        }
        self.messages.on_outcome(party, id, outcome, &self.causes, strikes, &self.rules, now)
    }
}
