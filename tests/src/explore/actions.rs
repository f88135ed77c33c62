//! What can happen next.

use std::fmt;

use reattach_core::client::Status;
use reattach_core::link::Handle;
use reattach_core::server::Peer;

use crate::oracle::Party;

use super::shapes::HORIZON;
use super::shapes::Memory;
use super::state::State;
use super::state::base;
use super::wires::Item;
use super::wires::Way;

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// A client, by its place in the list.
    Client(usize),
    /// The server.
    Server,
}

/// Something that happens to a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An application sends its next message.
    Send(Program),
    /// The next thing on a wire arrives.
    Deliver(u64, Way),
    /// An application takes the next message.
    Take(Party),
    /// An application decides.
    Decide(Party, Handle, Verdict),
    /// A sender withdraws a message.
    Cancel(Party, u32),
    /// A wire breaks, but for the first things on it in each direction. Both ends hear of it behind them.
    Cut(u64, usize, usize),
    /// The next text on a wire is lost, and the wire goes on.
    Lose(u64, Way),
    /// A wire that was asked for opens.
    Open(u64),
    /// The timer of one machine fires.
    Wake(Program),
    /// A copy of the server is put aside.
    Copy,
    /// The server dies and comes back. The first things on their way down still arrive.
    Restart(Memory, usize),
    /// A client dies and comes back from its very state, as another instance. The first things on their way up still arrive.
    RestartClient(usize, usize),
    /// Another client begins, with the same key.
    Begin,
}

/// What an application decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken effect.
    Accept,
    /// It is refused.
    Reject,
    /// It shall come again.
    Defer,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(by) => write!(f, "{by:?} sends"),
            Self::Deliver(wire, way) => write!(f, "the next thing {way:?} wire {wire} arrives"),
            Self::Take(by) => write!(f, "{by:?} takes"),
            Self::Decide(by, handle, verdict) => write!(f, "{by:?} decides {verdict:?} by {handle:?}"),
            Self::Cancel(by, number) => write!(f, "{by:?} withdraws {number:?}"),
            Self::Cut(wire, up, down) => write!(f, "wire {wire} is cut, keeping {up} up and {down} down"),
            Self::Lose(wire, way) => write!(f, "the next text {way:?} wire {wire} is lost"),
            Self::Open(wire) => write!(f, "wire {wire} opens"),
            Self::Wake(of) => write!(f, "{of:?} is woken"),
            Self::Copy => f.write_str("a copy of the server is put aside"),
            Self::Restart(memory, keep) => write!(f, "the server restarts ({memory:?}), {keep} down still arrive"),
            Self::RestartClient(client, keep) => write!(f, "client {client} restarts, {keep} up still arrive"),
            Self::Begin => f.write_str("a twin begins"),
        }
    }
}

/// What may happen next in a state, the faults last; and whether it is at rest, so that nothing happens by itself any more.
pub(super) fn enabled(state: &State) -> (Vec<Action>, bool) {
    let mut actions = Vec::with_capacity(16);
    go_on(state, &mut actions);
    let is_at_rest = actions.is_empty();
    go_wrong(state, &mut actions);
    (actions, is_at_rest)
}

/// What happens by itself.
pub(super) fn go_on(state: &State, actions: &mut Vec<Action>) {
    for (number, wire) in &state.wires {
        if !wire.is_open {
            actions.push(Action::Open(*number));
        }
        for way in [Way::Up, Way::Down] {
            if !wire.end(way).coming.is_empty() {
                actions.push(Action::Deliver(*number, way));
            }
        }
    }
    for (index, client) in state.clients.iter().enumerate() {
        if client.get().has_delivery() {
            actions.push(Action::Take(Party::Client(index)));
        }
        let program = Program::Client(index);
        let can_send = client.get().has_room(&state.lane_of(program), 10)
            && !matches!(client.get().status(), Status::Superseded | Status::Failed(_) | Status::Closed(_));
        if state.left.up[index] > 0 && can_send {
            actions.push(Action::Send(program));
        }
    }
    let server = state.server.get();
    for cid in server.connections() {
        if server.peer(cid).is_some_and(Peer::has_delivery) {
            actions.push(Action::Take(Party::Server(*cid)));
        }
    }
    let lane = state.lane_of(Program::Server);
    if state.left.down > 0 && server.peer(&base()).is_some_and(|peer| peer.has_room(&lane, 10)) {
        actions.push(Action::Send(Program::Server));
    }
    for (by, handle) in state.undecided.iter().copied() {
        let verdicts = [Verdict::Accept, Verdict::Reject, Verdict::Defer];
        actions.extend(verdicts.map(|verdict| Action::Decide(by, handle, verdict)));
    }
    if let Some(at) = state.next_timer().filter(|at| state.may_pass_to(*at)) {
        actions.extend(state.woken_at(at).map(Action::Wake));
    }
}

/// What somebody does on purpose, or what breaks.
fn go_wrong(state: &State, actions: &mut Vec<Action>) {
    let left = &state.left;
    if left.cancels > 0 {
        actions.extend(state.account.get().withdrawable().map(|(by, number, _)| Action::Cancel(by, number)));
    }
    for (number, wire) in &state.wires {
        // A wire that an end has closed breaks no more.
        let is_whole = wire.is_open && wire.client.lives && wire.server.lives;
        let texts = |way| wire.end(way).coming.iter().take_while(|item| matches!(item, Item::Text(_))).count();
        let ends = [Way::Up, Way::Down].map(|way| wire.end(way).coming.len() > texts(way));
        if left.cuts > 0 && is_whole && ends == [false, false] {
            for up in kept(texts(Way::Up)) {
                actions.extend(kept(texts(Way::Down)).map(|down| Action::Cut(*number, up, down)));
            }
        }
        if left.losses > 0 && is_whole {
            let losable = [Way::Up, Way::Down].into_iter().filter(|way| state.can_lose(wire, *way));
            actions.extend(losable.map(|way| Action::Lose(*number, way)));
        }
    }
    if left.rushes > 0 {
        let at = state.next_timer().filter(|at| *at <= state.now + HORIZON && !state.may_pass_to(*at));
        actions.extend(at.into_iter().flat_map(|at| state.woken_at(at)).map(Action::Wake));
    }
    if left.copies > 0 {
        actions.push(Action::Copy);
    }
    if left.restarts > 0 {
        for memory in state.shape.memories {
            if *memory != Memory::Stale || state.copy.is_some() {
                actions.extend([0, usize::MAX].map(|keep| Action::Restart(*memory, keep)));
            }
        }
    }
    if left.client_restarts > 0 {
        for client in (0..state.clients.len()).filter(|client| state.is_trying(*client)) {
            actions.extend([0, usize::MAX].map(|keep| Action::RestartClient(client, keep)));
        }
    }
    if left.twins > 0 {
        actions.push(Action::Begin);
    }
}

/// How much of so many texts survives a cut: none, one, all.
fn kept(texts: usize) -> impl Iterator<Item = usize> + Clone {
    let choices = [0, 1, texts];
    (0..3)
        .map(move |index| choices[index])
        .enumerate()
        .filter(move |(index, keep)| match index {
            0 => true,
            1 => texts > 1,
            _ => *keep > 0,
        })
        .map(|(_, keep)| keep)
}
