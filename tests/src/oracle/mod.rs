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
//! | `ends` | by when whoever closes has to be gone | L1 |
//! | `causes` | what happened to each party that may cost messages | J1 |
//! | `applications` | what is known without any wire | J1, S2 |
//! | `losses` | whether anything was lost at all, in a run in which nothing should be | S3, L2 |
//! | `lives` | which programs run, and from which state | |
//! | `told` | what machines tell | all of them |
//! | `bounds` | what one machine shows of itself | B1, L2 |
//! | `prints` | what of it all can still matter | |
//!
//! Everything here can be cloned, compared and hashed, so that a model checker can keep it in a state; what such a one takes for
//! the same is [`Oracle::fingerprint`].

mod applications;
mod bounds;
mod causes;
mod connections;
mod ends;
mod hands;
mod lives;
mod losses;
mod messages;
mod prints;
mod rooms;
mod rules;
mod told;
mod wires;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use reattach_core::connection::Connection;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::id::MessageId;
use reattach_core::id::Principal;
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
pub use self::rules::Rules;
pub use self::wires::End;
pub use self::wires::Fault;

use self::causes::Causes;
use self::connections::Connections;
use self::ends::Ends;
use self::hands::Hands;
use self::messages::Messages;
use self::messages::Strikes;
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
    ends: Ends,
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
            ends: Ends::default(),
            knows_wires: true,
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

    /// The server lets somebody in on a wire.
    pub fn on_admitted(&mut self, wire: u64, principal: Principal) {
        self.wires.on_admitted(wire, principal);
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
        let messages = self.wires.on_write(wire, end, text)?;
        if let Some(client) = self.wires.client_of(wire).filter(|_| end == End::Client && self.wires.is_heard(wire)) {
            self.connections.on_heard(client);
        }
        messages.into_iter().for_each(|(number, first)| self.messages.on_written(number, first));
        Ok(())
    }

    /// A machine writes on a wire at some time by its own clock, and may be so late with what it writes by itself.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_write_at(&mut self, wire: u64, end: End, text: &str, lateness: Duration, now: Instant) -> Checked {
        let link = if end == End::Client { &self.rules.client } else { &self.rules.server };
        self.wires.check_prompt(wire, end, link.ack_delay + lateness, now)?;
        self.on_write(wire, end, text)
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
        self.wires.check_closes(|party| connections.has_ended(party))
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
        self.ends.check(&self.rules, now)?;
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
        if !is_left {
            self.connections.on_joined(to);
        }
        let place = self.connections.place_of(to, is_left);
        let was_resent =
            self.causes.since(from, Why::EpochEnded, self.messages.order(number)) || self.connections.is_copied(from);
        self.messages.on_handed(to, number, handed, place, was_resent, now)?;
        let until = now + self.rules.link(to).lease;
        match handed.handle {
            Some(handle) => self.hands.on_handed(to, handle, number, until, is_left, &mut self.messages),
            None => {
                if !is_left {
                    self.wires.on_taken(to, now);
                }
                self.messages.on_accepted(number);
                Ok(())
            }
        }
    }

    /// An ephemeral message was sent.
    ///
    /// # Errors
    ///
    /// What contradicts the design.
    pub fn on_ephemeral(&mut self, by: Party, number: u32) -> Checked {
        self.messages.on_ephemeral(by, number);
        let may_send = self.connections.is_attached(by) || !self.knows_wires;
        check(may_send, "S1", || format!("{by:?} sends the ephemeral {number}, and is not attached"))
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
        if result.is_ok() && self.hands.is_live(by, handle) {
            self.wires.on_taken(by, now);
        }
        let deferral = self.rules.link(by).deferral;
        self.hands.on_decided(by, handle, decision, result, deferral, &mut self.messages, now)
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
            self.on_client_leaving(client);
        }
    }

    /// A client's application has it end, or had it end before it was copied.
    fn on_client_leaving(&mut self, client: usize) {
        let cid = self.connections.cid_of(client);
        self.connections.on_closing(Party::Client(client));
        self.note(Party::Client(client), Why::Closed);
        self.note(Party::Server(cid), Why::Ended);
        self.connections.on_end_wanted(cid);
        self.hands.on_ended(Party::Client(client), &mut self.messages);
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
            self.hands.on_ended(Party::Client(client), &mut self.messages);
        }
        if why == Why::Shutdown {
            self.hands.on_ended(Party::Server(cid), &mut self.messages);
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
        if *outcome == Outcome::Delivered {
            self.connections.on_joined(party);
        }
        // What is lost on a wire that lives costs an attempt too, and nothing that is written shows it.
        let are_wires_known = self.knows_wires && !self.wires.has_lost_texts();
        let strikes = Strikes { of_party: self.connections.strikes(party), are_wires_known };
        if *outcome == (Outcome::NotDelivered { reason: NotDelivered::Unavailable }) {
            let failures = self.connections.failures(party);
            check(failures >= self.rules.failures, "J1", || {
                format!("{id} did not wait, and only {failures} tries have failed")
            })?;
        }
        self.ends.on_outcome(party, outcome);
        self.messages.on_outcome(party, id, outcome, &self.causes, strikes, &self.rules, now)
    }
}
