//! What schedules have reached: kinds of acts, and the cells of the tables (state, event) of both machines.
//!
//! A simulator that never gets anywhere finds nothing. So what it has reached is counted, and the stored seeds alone have to
//! reach everything that can be reached; what cannot be is listed in [`IMPOSSIBLE`], with the reason.

use std::collections::BTreeMap;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::error::ApiMisuse;
use reattach_core::id::ConnectionId;
use reattach_core::outcome::Outcome;
use reattach_core::server;
use reattach_core::server::Server;

use super::schedule::Act;
use super::schedule::Back;
use super::schedule::Hostility;
use super::sums::Sums;
use super::told::TOLD;
use super::told::Told;
use crate::campaign;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }
    };
}

words! {
    /// Where a client stands.
    ClientState {
        /// A transport is being opened.
        Opening,
        /// Its hello is out.
        Greeting,
        /// Attached.
        Attached,
        /// The next try is due later.
        Waiting,
        /// Asleep.
        Suspended,
        /// Another instance holds the connection.
        Superseded,
        /// Trying stopped.
        Failed,
        /// The connection has ended.
        Over,
    }
}

words! {
    /// What happens to a client.
    ClientEvent {
        /// The transport opens.
        Opened,
        /// It does not.
        OpenFailed,
        /// It is gone.
        Closed,
        /// Bytes move.
        Progress,
        /// Time passes.
        Timeout,
        /// A challenge comes.
        Challenge,
        /// A welcome comes.
        Welcome,
        /// A message comes.
        Message,
        /// A report comes.
        Ack,
        /// A withdrawal comes.
        Void,
        /// A question comes.
        Ping,
        /// An answer comes.
        Pong,
        /// A last word comes.
        Bye,
        /// Something else comes.
        Garbage,
        /// The application sends.
        Send,
        /// The application sends something ephemeral.
        SendEphemeral,
        /// The application withdraws.
        Cancel,
        /// The application takes.
        Take,
        /// The application decides.
        Decide,
        /// The application needs longer.
        Extend,
        /// The application wants to connect now.
        Reconnect,
        /// The application goes to sleep.
        Suspend,
        /// The application closes.
        Close,
        /// The application ends it.
        Disconnect,
        /// Something is said of a transport that has died.
        Stale,
    }
}

words! {
    /// Where a server stands with a connection.
    ServerState {
        /// It knows of none.
        Nobody,
        /// A transport is there that is not attached.
        Visitor,
        /// There is a connection without a transport.
        Detached,
        /// There is one with a transport.
        Attached,
        /// It is about to end, and has none.
        Leaving,
        /// It is about to end, and has one.
        LeavingAttached,
    }
}

words! {
    /// What happens to a server.
    ServerEvent {
        /// A transport comes.
        Accepted,
        /// It is gone.
        Closed,
        /// Bytes move.
        Progress,
        /// Time passes.
        Timeout,
        /// A hello comes.
        Hello,
        /// A message comes.
        Message,
        /// A report comes.
        Ack,
        /// A withdrawal comes.
        Void,
        /// A question comes.
        Ping,
        /// An answer comes.
        Pong,
        /// A last word comes.
        Bye,
        /// Something else comes.
        Garbage,
        /// The application lets somebody in, or does not.
        Authenticated,
        /// The application sends.
        Send,
        /// The application sends something ephemeral.
        SendEphemeral,
        /// The application withdraws.
        Cancel,
        /// The application takes.
        Take,
        /// The application decides.
        Decide,
        /// The application needs longer.
        Extend,
        /// The application detaches.
        Detach,
        /// The application closes.
        Close,
        /// The application ends it.
        Disconnect,
        /// The server drains.
        Drain,
        /// The connection is revoked.
        Revoke,
    }
}

/// What has been reached, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    client: [[u64; ClientEvent::ALL.len()]; ClientState::ALL.len()],
    server: [[u64; ServerEvent::ALL.len()]; ServerState::ALL.len()],
    acts: BTreeMap<&'static str, u64>,
    told: BTreeMap<Told, u64>,
    /// Texts that were lost or damaged.
    pub damaged: u64,
    /// What was done.
    pub sums: Sums,
}

/// Where a client stands.
pub(super) fn client_state(client: &Client, is_open: bool) -> ClientState {
    match client.status() {
        Status::Connecting { .. } if is_open => ClientState::Greeting,
        Status::Connecting { .. } => ClientState::Opening,
        Status::Attached => ClientState::Attached,
        Status::Detached { .. } => ClientState::Waiting,
        Status::Suspended => ClientState::Suspended,
        Status::Superseded => ClientState::Superseded,
        Status::Failed(_) => ClientState::Failed,
        Status::Closed(_) | _ => ClientState::Over,
    }
}

impl Coverage {
    pub(super) fn client(&mut self, state: ClientState, event: ClientEvent) {
        self.client[state as usize][event as usize] += 1;
    }

    pub(super) fn client_input(&mut self, state: ClientState, input: &client::Input<'_>) {
        match input {
            client::Input::Opened { .. } => self.client(state, ClientEvent::Opened),
            client::Input::OpenFailed { .. } => self.client(state, ClientEvent::OpenFailed),
            client::Input::Closed { .. } => self.client(state, ClientEvent::Closed),
            client::Input::Progress { .. } => self.client(state, ClientEvent::Progress),
            client::Input::Received { incoming: Incoming::Binary, .. } => self.client(state, ClientEvent::Garbage),
            client::Input::Received { incoming: Incoming::Text(text), .. } => {
                for line in text.split('\n') {
                    let event = match kind_of(line) {
                        "challenge" => ClientEvent::Challenge,
                        "welcome" => ClientEvent::Welcome,
                        "msg" => ClientEvent::Message,
                        "ack" => ClientEvent::Ack,
                        "void" => ClientEvent::Void,
                        "ping" => ClientEvent::Ping,
                        "pong" => ClientEvent::Pong,
                        "bye" => ClientEvent::Bye,
                        _ => ClientEvent::Garbage,
                    };
                    self.client(state, event);
                }
            }
        }
    }

    pub(super) fn server(&mut self, state: ServerState, event: ServerEvent) {
        self.server[state as usize][event as usize] += 1;
    }

    pub(super) fn server_input(&mut self, state: ServerState, input: &server::Input<'_>) {
        match input {
            server::Input::Accepted { .. } => self.server(ServerState::Nobody, ServerEvent::Accepted),
            server::Input::Closed { .. } => self.server(state, ServerEvent::Closed),
            server::Input::Progress { .. } => self.server(state, ServerEvent::Progress),
            server::Input::Authenticated { .. } => self.server(state, ServerEvent::Authenticated),
            server::Input::Received { incoming: Incoming::Binary, .. } => self.server(state, ServerEvent::Garbage),
            server::Input::Received { incoming: Incoming::Text(text), .. } => {
                for line in text.split('\n') {
                    let event = match kind_of(line) {
                        "hello" => ServerEvent::Hello,
                        "msg" => ServerEvent::Message,
                        "ack" => ServerEvent::Ack,
                        "void" => ServerEvent::Void,
                        "ping" => ServerEvent::Ping,
                        "pong" => ServerEvent::Pong,
                        "bye" => ServerEvent::Bye,
                        _ => ServerEvent::Garbage,
                    };
                    self.server(state, event);
                }
            }
        }
    }

    /// A message took its wire with it.
    pub(super) fn poisoned(&mut self) {
        *self.acts.entry("Poison").or_default() += 1;
    }

    pub(super) fn act(&mut self, act: &Act) {
        *self.acts.entry(kind_of_act(act)).or_default() += 1;
    }

    /// What an application is told of a message, by its reason.
    pub(super) fn told(&mut self, outcome: &Outcome) {
        *self.told.entry(Told::outcome(outcome)).or_default() += 1;
    }

    /// A send that was refused.
    pub(super) fn refused(&mut self, error: ApiMisuse) {
        *self.told.entry(Told::refusal(error)).or_default() += 1;
    }
}

impl campaign::Coverage for Coverage {
    fn merge(&mut self, other: &Self) {
        let cells = self.client.as_flattened_mut().iter_mut().chain(self.server.as_flattened_mut());
        let others = other.client.as_flattened().iter().chain(other.server.as_flattened());
        cells.zip(others).for_each(|(cell, other)| *cell += other);
        for (act, count) in &other.acts {
            *self.acts.entry(act).or_default() += count;
        }
        for (what, count) in &other.told {
            *self.told.entry(*what).or_default() += count;
        }
        self.damaged += other.damaged;
        self.sums.add(&other.sums);
    }

    fn reached(&self) -> Vec<(String, u64)> {
        let mut reached = Vec::new();
        for state in ClientState::ALL {
            let counts = ClientEvent::ALL.iter().map(|event| (event, self.client[*state as usize][*event as usize]));
            reached.extend(counts.map(|(event, count)| (format!("client {state:?} {event:?}"), count)));
        }
        for state in ServerState::ALL {
            let counts = ServerEvent::ALL.iter().map(|event| (event, self.server[*state as usize][*event as usize]));
            reached.extend(counts.map(|(event, count)| (format!("server {state:?} {event:?}"), count)));
        }
        reached.extend(self.acts.iter().map(|(act, count)| (format!("act {act}"), *count)));
        reached.extend(self.told.iter().map(|(what, count)| (what.words(), *count)));
        reached.retain(|(_, count)| *count > 0);
        reached
    }

    fn missing(&self) -> Vec<String> {
        let reached: BTreeMap<String, u64> = self.reached().into_iter().collect();
        everything().into_iter().filter(|mark| !reached.contains_key(mark) && !is_impossible(mark)).collect()
    }

    fn summary(&self) -> String {
        let is_told = |what: &str| what.starts_with("act ") || what.starts_with("told ");
        let reached = self.reached().into_iter().filter(|(what, _)| is_told(what));
        self.sums.to_string() + &reached.map(|(what, count)| format!("{count:>10}       {what}\n")).collect::<String>()
    }
}

/// Everything that there is to reach, the impossible too.
pub fn everything() -> Vec<String> {
    let mut marks = Vec::new();
    for state in ClientState::ALL {
        marks.extend(ClientEvent::ALL.iter().map(|event| format!("client {state:?} {event:?}")));
    }
    for state in ServerState::ALL {
        marks.extend(ServerEvent::ALL.iter().map(|event| format!("server {state:?} {event:?}")));
    }
    marks.extend(ACTS.iter().map(|act| format!("act {act}")));
    marks.extend(TOLD.iter().map(|what| format!("told {what}")));
    marks
}

/// The kinds of acts.
const ACTS: [&str; 46] = [
    "Cancel",
    "ClientCopy",
    "ClientCrash",
    "ClientCrash Current",
    "ClientCrash Lost",
    "ClientCrash Stale",
    "Clock back",
    "Clock forward",
    "Close",
    "Cut",
    "Cut untold",
    "Cut late",
    "Detach",
    "Drain",
    "Drop",
    "Ephemeral",
    "Extend",
    "Garble",
    "Pause",
    "Poison",
    "Reconnect",
    "Revoke",
    "Road failing",
    "Road silent",
    "Send",
    "Send burst",
    "ServerClose",
    "ServerCopy",
    "ServerCrash Current",
    "ServerCrash Lost",
    "ServerCrash Stale",
    "Slow",
    "StaleInput",
    "Stall both ways",
    "Stall one way",
    "Stranger Binary",
    "Stranger Blind",
    "Stranger Flood",
    "Stranger Forward",
    "Stranger Garbage",
    "Stranger Ghost",
    "Stranger Keyless",
    "Stranger OtherAccount",
    "Suspend",
    "Twin",
    "Unread",
];

const fn kind_of_act(act: &Act) -> &'static str {
    match act {
        Act::Send(_, post) if post.count > 1 => "Send burst",
        Act::Send(..) => "Send",
        Act::Ephemeral(..) => "Ephemeral",
        Act::Cancel(..) => "Cancel",
        Act::Extend(..) => "Extend",
        Act::Close(..) => "Close",
        Act::ServerClose(..) => "ServerClose",
        Act::Detach(..) => "Detach",
        Act::Reconnect(_) => "Reconnect",
        Act::Suspend(..) => "Suspend",
        Act::Drain(_) => "Drain",
        Act::Revoke(_) => "Revoke",
        Act::Cut { told: [None, _] | [_, None], .. } => "Cut untold",
        Act::Cut { told: [Some(0), Some(0)], .. } => "Cut",
        Act::Cut { .. } => "Cut late",
        Act::Stall { ways: [true, true], .. } => "Stall both ways",
        Act::Stall { .. } => "Stall one way",
        Act::Slow { .. } => "Slow",
        Act::Drop { .. } => "Drop",
        Act::Garble { .. } => "Garble",
        Act::Road { error: None, .. } => "Road silent",
        Act::Road { .. } => "Road failing",
        Act::Pause { .. } => "Pause",
        Act::Clock { millis, .. } if *millis < 0 => "Clock back",
        Act::Clock { .. } => "Clock forward",
        Act::Unread { .. } => "Unread",
        Act::ServerCrash { back: Back::Current, .. } => "ServerCrash Current",
        Act::ServerCrash { back: Back::Stale, .. } => "ServerCrash Stale",
        Act::ServerCrash { back: Back::Lost, .. } => "ServerCrash Lost",
        Act::ServerCopy => "ServerCopy",
        Act::ClientCrash { back: None, .. } => "ClientCrash",
        Act::ClientCrash { back: Some(Back::Current), .. } => "ClientCrash Current",
        Act::ClientCrash { back: Some(Back::Stale), .. } => "ClientCrash Stale",
        Act::ClientCrash { back: Some(Back::Lost), .. } => "ClientCrash Lost",
        Act::ClientCopy(_) => "ClientCopy",
        Act::Twin(_) => "Twin",
        Act::Stranger(_, Hostility::Garbage) => "Stranger Garbage",
        Act::Stranger(_, Hostility::Keyless) => "Stranger Keyless",
        Act::Stranger(_, Hostility::OtherAccount) => "Stranger OtherAccount",
        Act::Stranger(_, Hostility::Ghost) => "Stranger Ghost",
        Act::Stranger(_, Hostility::Blind) => "Stranger Blind",
        Act::Stranger(_, Hostility::Flood) => "Stranger Flood",
        Act::Stranger(_, Hostility::Forward(_)) => "Stranger Forward",
        Act::Stranger(_, Hostility::Binary) => "Stranger Binary",
        Act::StaleInput(..) => "StaleInput",
    }
}

fn is_impossible(mark: &str) -> bool {
    IMPOSSIBLE.iter().any(|(pattern, _)| {
        let mut words = mark.split(' ').zip(pattern.split(' '));
        mark.split(' ').count() == pattern.split(' ').count()
            && words.all(|(word, pattern)| pattern == "*" || pattern.split('|').any(|pattern| pattern == word))
    })
}

/// Cells out of reach: machine, states, events (alternatives apart by a bar, a star for any), and the reason.
pub const IMPOSSIBLE: &[(&str, &str)] = &[
    (
        "client Waiting|Suspended|Superseded|Failed|Over Opened|OpenFailed|Closed|Progress|Challenge|Welcome|Message|Ack|Void|Ping|Pong|Bye|Garbage",
        "there is no transport on which it could come; what names a dead one is the event Stale",
    ),
    (
        "client Opening Progress|Challenge|Welcome|Message|Ack|Void|Ping|Pong|Bye|Garbage",
        "nothing comes on a transport that is not open",
    ),
    ("client Greeting|Attached Opened|OpenFailed", "a transport opens once"),
    ("client Greeting Pong", "a client asks nothing before its welcome"),
    ("client Attached Challenge|Welcome", "the server is honest; a hostile one is the fuzz target client's"),
    (
        "server Nobody Closed|Progress|Timeout|Hello|Message|Ack|Void|Ping|Pong|Bye|Garbage|Authenticated",
        "it is a visitor's",
    ),
    ("server Nobody Drain", "a drain concerns those who are there"),
    (
        "server Visitor|Detached|Attached|Leaving|LeavingAttached Accepted",
        "a transport is accepted once, by nobody yet",
    ),
    (
        "server Visitor Send|SendEphemeral|Cancel|Take|Decide|Extend|Detach|Close|Disconnect|Drain|Revoke",
        "a command names a connection",
    ),
    (
        "server Detached|Leaving Closed|Progress|Hello|Message|Ack|Void|Ping|Pong|Bye|Garbage|Authenticated",
        "what names a transport concerns a visitor, or who is attached",
    ),
    (
        "server Attached|LeavingAttached Hello|Authenticated",
        "an honest client says one hello; another is the fuzz target server's",
    ),
    ("told refused otherwise", "no send is refused for another reason"),
    ("told Unknown Ended", "an end that overtakes a welcome which was lost; a scenario of outcomes.rs has it"),
    ("told NotDelivered Voided", "whoever withdrew a message in this epoch knows why"),
    (
        "told Unknown ReceiptUnclear",
        "a client that goes on from an older state names no epoch, and hears of no receipt",
    ),
];

/// The type of a frame, as it stands first in what the machines write.
fn kind_of(line: &str) -> &str {
    line.strip_prefix("{\"t\":\"").and_then(|rest| rest.split('"').next()).unwrap_or("")
}

/// Where a server stands with a connection.
pub(super) fn server_state(server: &Server, cid: Option<&ConnectionId>, is_leaving: bool) -> ServerState {
    let Some(cid) = cid else { return ServerState::Visitor };
    match server.peer(cid) {
        None => ServerState::Nobody,
        Some(peer) if peer.is_attached() && is_leaving => ServerState::LeavingAttached,
        Some(peer) if peer.is_attached() => ServerState::Attached,
        Some(_) if is_leaving => ServerState::Leaving,
        Some(_) => ServerState::Detached,
    }
}
