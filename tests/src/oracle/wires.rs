//! Which ends of which wires live, what has happened to each, and what was written on it.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::hash::Hasher;
use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::Principal;
use reattach_core::server::Refusal;
use reattach_core::time::Instant;

use super::Broken;
use super::Checked;
use super::Party;
use super::Rules;
use super::check;
use super::connections::Connections;
use super::prints::Lens;
use super::prints::bits;

/// An end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The client's.
    Client,
    /// The server's.
    Server,
}

/// What can happen to a wire that explains its end, or that something on it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It was cut.
    Cut,
    /// Nothing came through for a while.
    Stalled,
    /// It was slow.
    Slow,
    /// A text on it was lost.
    Dropped,
    /// A text on it was lost behind the handshake, where an honest end seems to break the protocol for it in one way only: the
    /// other end has not heard that a place in its window was freed.
    Lost,
    /// A text on it was changed.
    Garbled,
    /// A program at one of its ends was stopped for a while, or its clock jumped.
    Paused,
    /// It could not be opened.
    Road,
    /// A program at one of its ends died.
    Crashed,
    /// An application ended it.
    Command,
    /// A later one took its place.
    Overtaken,
    /// The server refused it, with a cause.
    Refused,
    /// The server's state was found to be old.
    OldState,
    /// Its end is a stranger's, or a stranger spoke on it.
    Hostile,
    /// A stranger on it has the key of a connection.
    Ghost,
    /// A stranger on it has the key of a connection, and the account of somebody else.
    Thief,
    /// Its credentials were refused, or ran out.
    Credentials,
}

impl Fault {
    /// Whether it may swallow what was on its way.
    pub const fn may_swallow(self) -> bool {
        !matches!(self, Self::Overtaken | Self::Refused | Self::OldState)
    }
}

/// Who else wants a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rivals {
    /// Whether another instance has ever taken it over.
    pub(super) was_taken_over: bool,
    /// Whether there ever was another instance.
    pub(super) has_rivals: bool,
}

/// One wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Wire {
    client: Option<usize>,
    /// Whom the server has let in on it, by name. Otherwise each connection is its own principal.
    principal: Option<Principal>,
    /// One bit for each fault.
    faults: u32,
    is_live: [bool; 2],
    /// The epoch that the client's last hello on it named, by its number here.
    hello: Option<u64>,
    /// How often that client's program had been restarted then.
    restarts: u32,
    /// Whether the server has asked on it who is there.
    was_challenged: bool,
    is_attached: [bool; 2],
    cid: Option<ConnectionId>,
    epoch: u64,
    is_resumed: Option<bool>,
    /// Whether the server must have had the receipt of the epoch that the hello named.
    has_receipt: bool,
    /// The highest number written by each end.
    top: [u64; 2],
    /// The first message that each end has written.
    first: [Option<u32>; 2],
    /// How many numbers each end has written that were written on an earlier wire.
    again: [u32; 2],
    /// The last ping that each end has written, and the last of those that the other has written an answer to.
    pings: [[u64; 2]; 2],
    /// Since when each end's application has taken something of which nothing has been written.
    owes: [Option<Instant>; 2],
    /// Up to which number the client had received before, and whether something has certainly come to it after the welcome.
    had: u64,
    is_heard: bool,
    /// Whether each end has written or withdrawn a message since its last ping.
    has_more: [bool; 2],
}

/// All wires.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Wires {
    wires: BTreeMap<u64, Wire>,
    /// The highest number written in an epoch, by each end.
    tops: BTreeMap<(u64, End), u64>,
    /// Ends that are to be explained by the end of this step.
    unexplained: Vec<(u64, String)>,
}

impl Wires {
    pub(super) fn on_asked(&mut self, wire: u64, client: Option<usize>) {
        self.wires.insert(wire, Wire { client, is_live: [true, false], ..Wire::default() });
    }

    pub(super) fn on_accepted(&mut self, wire: u64) {
        self.wire(wire).is_live[1] = true;
    }

    pub(super) fn on_fault(&mut self, wire: u64, fault: Fault) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.faults |= 1 << fault as u32;
        }
    }

    pub(super) fn has(&self, wire: u64, fault: Fault) -> bool {
        self.wires.get(&wire).is_some_and(|wire| wire.faults & (1 << fault as u32) != 0)
    }

    /// Whether something on it was changed or lost, so that an honest end may seem to break the protocol.
    pub(super) fn is_corrupt(&self, wire: u64) -> bool {
        [Fault::Dropped, Fault::Garbled, Fault::Hostile].into_iter().any(|fault| self.has(wire, fault))
    }

    /// Whether a text was lost on a wire that lived on.
    pub(super) fn has_lost_texts(&self) -> bool {
        let lost =
            [Fault::Dropped, Fault::Lost, Fault::Garbled].into_iter().fold(0, |bits, fault| bits | 1 << fault as u32);
        self.wires.values().any(|wire| wire.faults & lost != 0)
    }

    /// Whether a stranger was there that had the key of a connection.
    pub(super) fn has_ghosts(&self) -> bool {
        self.wires.values().any(|wire| wire.faults & (1 << Fault::Ghost as u32) != 0)
    }

    pub(super) fn live(&self) -> Vec<u64> {
        self.wires.iter().filter(|(_, wire)| wire.is_live[0] || wire.is_live[1]).map(|(number, _)| *number).collect()
    }

    pub(super) fn client_of(&self, wire: u64) -> Option<usize> {
        self.wires.get(&wire)?.client
    }

    /// A client's program is gone: its ends are dead.
    pub(super) fn on_client_gone(&mut self, client: usize) {
        for wire in self.wires.values_mut().filter(|wire| wire.client == Some(client)) {
            wire.is_live[0] = false;
        }
    }

    /// The server's program is gone: its ends are dead.
    pub(super) fn on_server_gone(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.is_live[1] = false);
    }

    pub(super) fn on_command_of_client(&mut self, client: usize) {
        let of_client = |wire: &&mut Wire| wire.client == Some(client) && (wire.is_live[0] || wire.is_live[1]);
        self.wires.values_mut().filter(of_client).for_each(|wire| wire.faults |= 1 << Fault::Command as u32);
    }

    pub(super) fn on_command_of_server(&mut self, cid: ConnectionId) {
        let of_cid = |wire: &&mut Wire| wire.cid == Some(cid) && (wire.is_live[0] || wire.is_live[1]);
        self.wires.values_mut().filter(of_cid).for_each(|wire| wire.faults |= 1 << Fault::Command as u32);
    }

    /// A client says hello, as one of its instances, and names an epoch that it knows of.
    pub(super) fn on_hello(&mut self, wire: u64, epoch: Option<u64>, restarts: u32) {
        let wire = self.wire(wire);
        (wire.hello, wire.restarts) = (epoch, restarts);
    }

    /// The instance that has said hello on a wire, unless it is a stranger's.
    pub(super) fn instance_of(&self, wire: u64) -> Option<(usize, u32)> {
        let wire = self.wires.get(&wire)?;
        wire.client.map(|client| (client, wire.restarts))
    }

    /// The server lets somebody in.
    pub(super) fn on_admitted(&mut self, wire: u64, principal: Principal) {
        self.wire(wire).principal = Some(principal);
    }

    pub(super) fn was_challenged(&self, wire: u64) -> bool {
        self.wires.get(&wire).is_some_and(|wire| wire.was_challenged)
    }

    pub(super) fn has_receipt(&self, wire: u64) -> bool {
        self.wires.get(&wire).is_some_and(|wire| wire.has_receipt)
    }

    pub(super) fn hello_of(&self, wire: u64) -> Option<u64> {
        self.wires.get(&wire)?.hello
    }

    /// The epoch of the server's welcome, and whether it went on.
    pub(super) fn answer_of(&self, wire: u64) -> (u64, Option<bool>) {
        self.wires.get(&wire).map_or((0, None), |wire| (wire.epoch, wire.is_resumed))
    }

    /// A later wire takes the place of all others of its connection.
    pub(super) fn on_overtaken(&mut self, cid: ConnectionId, by: u64) {
        for (number, wire) in &mut self.wires {
            if *number != by && wire.cid == Some(cid) && wire.is_live[1] | wire.is_live[0] {
                wire.faults |= 1 << Fault::Overtaken as u32;
            }
        }
    }

    pub(super) fn on_attached_server(
        &mut self,
        wire: u64,
        cid: ConnectionId,
        epoch: u64,
        is_resumed: bool,
        has_receipt: bool,
    ) {
        let wire = self.wire(wire);
        (wire.is_attached[1], wire.has_receipt) = (true, has_receipt);
        (wire.cid, wire.epoch, wire.is_resumed) = (Some(cid), epoch, Some(is_resumed));
    }

    pub(super) fn on_attached_client(&mut self, wire: u64) {
        self.wire(wire).is_attached[0] = true;
    }

    /// A text is written. Returns the numbers of the messages in it, each with that of the first message that this end wrote on
    /// the wire.
    pub(super) fn on_write(&mut self, number: u64, end: End, text: &str) -> Result<Vec<(u32, u32)>, Broken> {
        let has_dropped =
            [Fault::Dropped, Fault::Lost, Fault::Garbled].into_iter().any(|fault| self.has(number, fault));
        let Some(wire) = self.wires.get_mut(&number) else {
            return Err(Broken::new("S5", format!("{end:?} writes on {number}, which never was")));
        };
        check(wire.is_live[end as usize], "S5", || format!("{end:?} writes on {number}, which is dead: {text:.80}"))?;
        let is_keyless = wire.client.is_none() && wire.faults & (1 << Fault::Ghost as u32) == 0;
        check(!is_keyless || end == End::Client || !text.contains("\"epoch\""), "X1", || {
            format!("a stranger on {number} learns of an epoch: {text:.80}")
        })?;
        wire.was_challenged |= end == End::Server && text.starts_with("{\"t\":\"challenge\"");
        // A sign of life goes out alone where there is no room for anything else.
        let is_ping = text.starts_with("{\"t\":\"ping\"") && !text.contains('\n');
        if !is_ping && wire.owes[end as usize].take().is_some() {
            check(text.contains("\"settled\":"), "E1", || {
                format!("{end:?} does not say on {number} what was taken: {text:.80}")
            })?;
        }
        let mut messages = Vec::new();
        let may_ask_again = has_dropped || wire.faults & (1 << Fault::Paused as u32 | 1 << Fault::Stalled as u32) != 0;
        for line in text.split('\n') {
            if let Some(ping) = number_after(line, "{\"t\":\"ping\",\"n\":") {
                let [asked, answered] = &mut wire.pings[end as usize];
                let before = core::mem::replace(asked, ping);
                // A question covers all that was written before it.
                let has_more = core::mem::take(&mut wire.has_more[end as usize]);
                check(before <= *answered || has_more || may_ask_again, "J1", || {
                    format!("{end:?} asks again on {number}, and {before} is not answered yet: {text:.80}")
                })?;
            }
            if end == End::Client {
                let received = line.split_once("\"received\":").and_then(|(_, rest)| number_after(rest, ""));
                if line.starts_with("{\"t\":\"hello\"") {
                    wire.had = received.unwrap_or(0);
                }
                let is_more =
                    line.starts_with("{\"t\":\"ack\"") && received.is_some_and(|received| received > wire.had);
                wire.is_heard |= is_more || line.starts_with("{\"t\":\"pong\"");
            }
            if let Some(ping) = number_after(line, "{\"t\":\"pong\",\"n\":") {
                wire.pings[1 - end as usize][1] = ping;
            }
            wire.has_more[end as usize] |= line.starts_with("{\"t\":\"msg\"") || line.starts_with("{\"t\":\"void\"");
            let Some(seq) = number_after(line, "{\"t\":\"msg\",\"seq\":") else { continue };
            let top = wire.top[end as usize];
            wire.top[end as usize] = seq.max(top);
            // Payloads say their number first.
            let payload = line.split_once("\"d\":[").map_or("", |(_, payload)| payload);
            if let Some(message) = number_after(payload, "").and_then(|number| u32::try_from(number).ok()) {
                let first = *wire.first[end as usize].get_or_insert(message);
                messages.push((message, first));
            } else if !has_dropped {
                return Err(Broken::new("harness", format!("a message does not say its number: {line:.80}")));
            }
            check(seq > top || has_dropped, "J1", || {
                format!("{end:?} writes {seq} after {top} on {number}, where nothing was lost")
            })?;
            let highest = self.tops.entry((wire.epoch, end)).or_default();
            if seq <= *highest {
                wire.again[end as usize] += 1;
            } else {
                check(seq == *highest + 1, "S1", || format!("{end:?} writes {seq} where {highest} was the last"))?;
                *highest = seq;
            }
        }
        Ok(messages)
    }

    /// What was taken is reported after so long at the latest, on a wire on which nothing holds it up.
    pub(super) fn check_prompt(&self, number: u64, end: End, most: Duration, now: Instant) -> Checked {
        let Some(wire) = self.wires.get(&number) else { return Ok(()) };
        let is_held_up = [Fault::Slow, Fault::Stalled, Fault::Paused].into_iter().any(|fault| self.has(number, fault));
        let since = wire.owes[end as usize].filter(|_| !is_held_up);
        check(since.is_none_or(|since| now <= since + most), "E1", || {
            format!("{end:?} has not said on {number} by {now:?} what was taken at {since:?}")
        })
    }

    /// Whether something has certainly come to the client after the welcome.
    pub(super) fn is_heard(&self, wire: u64) -> bool {
        self.wires.get(&wire).is_some_and(|wire| wire.is_heard)
    }

    /// An application has taken a message, or decided about one.
    pub(super) fn on_taken(&mut self, by: Party, now: Instant) {
        let (end, is_it): (_, &dyn Fn(&Wire) -> bool) = match by {
            Party::Client(client) => (End::Client, &move |wire| wire.client == Some(client)),
            Party::Server(cid) => (End::Server, &move |wire| wire.cid == Some(cid)),
        };
        let attached =
            self.wires.values_mut().filter(|wire| wire.is_live[end as usize] && wire.is_attached[end as usize]);
        attached.filter(|wire| is_it(wire)).for_each(|wire| _ = wire.owes[end as usize].get_or_insert(now));
    }

    /// A machine closes a wire.
    pub(super) fn on_close(&mut self, number: u64, end: End) -> Checked {
        let Some(wire) = self.wires.get_mut(&number) else {
            return Err(Broken::new("S5", format!("{end:?} closes {number}, which never was")));
        };
        let was_live = core::mem::replace(&mut wire.is_live[end as usize], false);
        check(was_live, "S5", || format!("{end:?} closes {number}, which is dead"))?;
        self.unexplained.push((number, format!("{end:?} closes {number}")));
        Ok(())
    }

    pub(super) fn on_told_closed(&mut self, wire: u64, end: End) {
        self.wire(wire).is_live[end as usize] = false;
    }

    /// What just happened to a wire needs a cause by the end of the step.
    pub(super) fn expect_cause(&mut self, wire: u64, what: String) {
        self.unexplained.push((wire, what));
    }

    /// Whatever ended has a cause: something had happened to the wire, or one of its ends wants the connection to end.
    pub(super) fn check_closes(&mut self, wants_end: impl Fn(Party) -> bool) -> Checked {
        for (wire, what) in self.unexplained.drain(..) {
            let has_cause = self.wires.get(&wire).is_some_and(|wire| {
                let ends = wire.client.map(Party::Client).into_iter().chain(wire.cid.map(Party::Server));
                wire.faults != 0 || ends.into_iter().any(&wants_end)
            });
            check(has_cause, "J1", || format!("{what}, and nothing had happened to it"))?;
        }
        Ok(())
    }

    /// How many numbers an end has written again on a wire.
    pub(super) fn most_again(&self) -> u32 {
        self.wires.values().flat_map(|wire| wire.again).max().unwrap_or(0)
    }

    /// The server refuses a wire.
    pub(super) fn on_refused(
        &mut self,
        number: u64,
        refusal: Refusal,
        rivals: Rivals,
        rules: &Rules,
        connections: &Connections,
    ) -> Checked {
        let Some(wire) = self.wires.get(&number) else {
            return Err(Broken::new("S5", format!("{number} is refused, which never was")));
        };
        let is_newest = self.is_newest(number);
        let has_cause = match refusal {
            _ if self.is_corrupt(number) => true,
            Refusal::Timeout => wire.faults != 0,
            // What a ghost says again that came later may be this very hello, and have overtaken it.
            Refusal::Stale => !is_newest || self.is_haunted(number, connections),
            Refusal::Superseded => rivals.was_taken_over,
            Refusal::Overtaken => rivals.has_rivals || !is_newest,
            Refusal::TooMany { of: "of this principal" } => {
                wire.principal.as_ref().is_some_and(|of| connections.count_of(of) >= rules.max_per_principal)
            }
            Refusal::TooMany { .. } => {
                let transports = self.wires.values().filter(|wire| wire.is_live[1]).count();
                connections.count().max(transports) >= rules.max_connections
            }
            Refusal::Unauthenticated | Refusal::Forbidden => self.has(number, Fault::Credentials),
            Refusal::Protocol(_) | Refusal::MalformedId { .. } | Refusal::WrongKey | _ => false,
        };
        check(has_cause, "J1", || format!("an honest hello on {number} is refused: {refusal}"))?;
        self.on_fault(number, Fault::Refused);
        Ok(())
    }

    /// Whether a ghost came later that was attached to a connection of the same client.
    fn is_haunted(&self, number: u64, connections: &Connections) -> bool {
        let Some(client) = self.client_of(number) else { return false };
        let is_its = |wire: &Wire| wire.cid.is_some_and(|cid| connections.cids_of(client).contains(&cid));
        self.wires.range(number..).any(|(ghost, wire)| self.has(*ghost, Fault::Ghost) && is_its(wire))
    }

    fn is_newest(&self, number: u64) -> bool {
        let Some(client) = self.client_of(number) else { return true };
        self.wires.iter().rfind(|(_, wire)| wire.client == Some(client)).is_some_and(|(last, _)| *last == number)
    }

    /// The wires that can still matter, each with its epoch.
    pub(super) fn kept(&self, connections: &Connections) -> impl Iterator<Item = (u64, u64)> {
        let lives = |wire: &Wire| wire.is_live[0] || wire.is_live[1];
        let is_kept = move |number, wire: &Wire| {
            let is_newest = wire.client.is_some() && self.is_newest(number);
            lives(wire) || is_newest || connections.is_attached_by(number)
        };
        self.wires.iter().filter(move |(number, wire)| is_kept(**number, wire)).map(|(number, it)| (*number, it.epoch))
    }

    /// What can still matter.
    pub(super) fn fingerprint(&self, lens: &Lens<'_>, hasher: &mut impl Hasher) {
        (self.has_ghosts(), self.has_lost_texts()).hash(hasher);
        for (number, epoch) in self.kept(lens.connections) {
            let wire = &self.wires[&number];
            (true, number, wire.client, wire.cid, wire.is_resumed, wire.hello.map(|hello| lens.epoch(hello)))
                .hash(hasher);
            (lens.epoch(epoch), wire.restarts, wire.was_challenged, wire.has_receipt).hash(hasher);
            lens.rules.tries.map(|_| (wire.had, wire.is_heard)).hash(hasher);
            let has = |fault| self.has(number, fault);
            bits([
                wire.is_live[0],
                wire.is_live[1],
                self.is_newest(number),
                wire.faults != 0,
                self.is_corrupt(number),
                has(Fault::Dropped) || has(Fault::Lost) || has(Fault::Garbled),
                has(Fault::Garbled),
                has(Fault::Credentials),
                has(Fault::Ghost),
                has(Fault::Thief),
                has(Fault::Paused) || has(Fault::Stalled),
            ])
            .hash(hasher);
            for end in [End::Client, End::Server] {
                wire.is_live[end as usize].then_some(wire.top[end as usize]).hash(hasher);
                let [asked, answered] = wire.pings[end as usize];
                wire.is_live[end as usize].then_some(wire.first[end as usize]).hash(hasher);
                wire.is_live[end as usize].then_some(wire.owes[end as usize].is_some()).hash(hasher);
                let asks = (asked > answered, wire.has_more[end as usize]);
                wire.is_live[end as usize].then_some(asks).hash(hasher);
            }
        }
        false.hash(hasher);
        for ((epoch, end), top) in &self.tops {
            if let Some(epoch) = lens.epoch(*epoch) {
                (true, epoch, end, top).hash(hasher);
            }
        }
        false.hash(hasher);
    }

    fn wire(&mut self, wire: u64) -> &mut Wire {
        self.wires.entry(wire).or_default()
    }
}

/// The number that follows at the head of a frame, if that is its head.
fn number_after(line: &str, head: &str) -> Option<u64> {
    let rest = line.strip_prefix(head)?;
    let digits = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
