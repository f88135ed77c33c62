//! A registry and peers that run in tasks of their own: answers that are late, that come for somebody else, or never.

use std::time::Duration;

use harness::alone::epoch;
use harness::alone::mint;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::world::payload;
use reattach_core::connection::Incoming;
use reattach_core::id::InstanceId;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::server::Answer;
use reattach_core::server::Attach;
use reattach_core::server::Command;
use reattach_core::server::Config;
use reattach_core::server::Generation;
use reattach_core::server::Peer;
use reattach_core::server::PeerId;
use reattach_core::server::PeerInput;
use reattach_core::server::PeerOutput;
use reattach_core::server::Refusal;
use reattach_core::server::Registry;
use reattach_core::server::RegistryEvent;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;
use reattach_core::wire::Receipt;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_new_connection_gets_a_peer_that_is_told_to_attach() {
    let mut desk = Desk::new();
    let (transport, outputs) = desk.greet(hello(1));
    assert_eq!(created_in(&outputs), Some(first()), "{outputs:?}");
    assert_eq!(attached_in(&outputs), [transport]);
}

#[test]
fn a_peer_that_does_not_answer_in_five_seconds_is_given_up_and_its_receipt_is_not_final() {
    let mut desk = Desk::new();
    desk.greet(hello(1));
    assert_eq!(desk.wait(5 * SECOND - Duration::from_micros(1)), []);
    let outputs = desk.wait(Duration::from_micros(1));
    let cid = hello(1).cid;
    let expected = [
        RegistryOutput::Command { peer: first(), command: Command::Fence },
        RegistryOutput::Event(RegistryEvent::Fenced { cid }),
        RegistryOutput::Event(RegistryEvent::Removed { cid }),
    ];
    assert_eq!(outputs, expected);
    assert_eq!((desk.registry.connections(), desk.registry.transports(), desk.registry.receipts()), (0, 0, 1));
    let named = Hello { attempt: attempt(2), epoch: Some(mint(1).epoch), ..hello(1) };
    let (_, outputs) = desk.greet(named);
    assert_eq!(attach_in(&outputs).receipt, Some(Receipt::not_final(mint(1).epoch)));
}

// S004-146
#[test]
fn a_peer_that_was_given_up_cannot_speak_for_its_successor() {
    let mut desk = Desk::new();
    let (old, _) = desk.greet(hello(1));
    desk.wait(5 * SECOND);
    let (new, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    let successor = PeerId { cid: hello(1).cid, generation: Generation(2) };
    desk.answer(successor, attached(new));
    let before = desk.registry.clone();
    let receipt = Receipt::not_final(epoch(9));
    for answer in [
        attached(old),
        attached(new),
        Answer::Detached { transport: new, is_suspended: false },
        Answer::Detached { transport: old, is_suspended: false },
        Answer::Sealed { receipt: receipt.clone() },
        Answer::Ended { receipt: Some(receipt) },
    ] {
        assert_eq!(desk.answer(first(), answer), []);
    }
    assert_eq!(desk.say(RegistryInput::PeerGone { peer: first() }), []);
    assert_eq!(desk.registry, before);
    assert!(desk.registry.is_reachable(&hello(1).cid));
}

#[test]
fn a_peer_whose_task_is_gone_is_given_up_at_once() {
    let mut desk = Desk::new();
    let (transport, _) = desk.greet(hello(1));
    desk.answer(first(), attached(transport));
    let outputs = desk.say(RegistryInput::PeerGone { peer: first() });
    assert!(outputs.contains(&RegistryOutput::Event(RegistryEvent::Fenced { cid: hello(1).cid })));
    assert_eq!((desk.registry.connections(), desk.registry.receipts()), (0, 1));
}

#[test]
fn a_hello_that_comes_while_the_peer_owes_an_answer_waits_for_it() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    let (second, outputs) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    assert_eq!(outputs, []);
    let outputs = desk.answer(first(), attached(earlier));
    assert_eq!(attached_in(&outputs), [second]);
}

#[test]
fn a_hello_that_waits_for_the_last_answer_begins_another_connection_with_the_receipt() {
    let mut desk = Desk::new();
    let (transport, _) = desk.greet(hello(1));
    desk.answer(first(), attached(transport));
    desk.answer(first(), Answer::Detached { transport, is_suspended: false });
    let outputs = desk.wait(60 * SECOND);
    assert!(outputs.contains(&RegistryOutput::Command { peer: first(), command: Command::Expire }));
    let (_, outputs) = desk.greet(Hello { attempt: attempt(2), epoch: Some(mint(1).epoch), ..hello(1) });
    assert_eq!(outputs, [], "no hello is answered before the receipt is there");
    let receipt = Receipt { is_final: true, ..Receipt::not_final(mint(1).epoch) };
    let outputs = desk.answer(first(), Answer::Ended { receipt: Some(receipt.clone()) });
    assert_eq!(attach_in(&outputs).receipt, Some(receipt));
    assert!(outputs.iter().any(|output| matches!(output, RegistryOutput::Create(origin) if origin.id != first())));
}

#[test]
fn a_hello_that_waits_for_a_peer_that_never_answers_begins_another_connection() {
    let mut desk = Desk::new();
    desk.greet(hello(1));
    desk.wait(4 * SECOND);
    let (waiting, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    let outputs = desk.wait(SECOND);
    assert_eq!(attached_in(&outputs), [waiting]);
}

#[test]
fn a_hello_that_was_let_in_before_a_revocation_and_waits_has_to_be_let_in_again() {
    let mut desk = Desk::new();
    desk.greet(hello(1));
    // The peer has not answered yet, so the next hello waits.
    let (waiting, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    assert!(desk.registry.revoke(&hello(1).cid, desk.now));
    let outputs = desk.drain();
    assert!(outputs.iter().any(|output| matches!(output, RegistryOutput::Command { command: Command::Revoke, .. })));
    let closed = RegistryOutput::Close { transport: waiting, code: CloseCode::UNAUTHENTICATED };
    assert!(outputs.contains(&closed), "{outputs:?}");
    desk.answer(first(), Answer::Ended { receipt: None });
    assert_eq!((desk.registry.connections(), desk.registry.transports(), desk.registry.receipts()), (0, 0, 0));
    assert_eq!(desk.registry.poll_timeout(), None);
}

#[test]
fn a_hello_that_waits_goes_on_waiting_where_somebody_else_is_revoked() {
    let mut desk = Desk::new();
    desk.greet(hello(1));
    desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    let somebody = Principal::Named(Name::new("somebody").expect("a name"));
    assert_eq!(desk.registry.revoke_all(&somebody, desk.now), 0);
    assert_eq!(desk.drain(), []);
}

#[test]
fn a_peer_that_dies_while_its_connection_says_hello_again_leaves_a_receipt_that_is_not_final_and_the_hello_begins_anew()
{
    let mut desk = Desk::new();
    desk.greet(hello(1));
    let (waiting, outputs) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    assert_eq!(created_in(&outputs), None, "it waits");
    let outputs = desk.say(RegistryInput::PeerGone { peer: first() });
    let successor = created_in(&outputs).expect("the hello that waited has another peer");
    assert_ne!(successor, first());
    let is_attach = |output: &RegistryOutput| {
        matches!(output, RegistryOutput::Command { peer, command: Command::Attach(attach) }
            if *peer == successor && attach.transport == waiting)
    };
    assert!(outputs.iter().any(is_attach), "{outputs:?}");
    assert_eq!((desk.registry.connections(), desk.registry.receipts()), (1, 1));
    // What the dead one still says changes nothing.
    desk.say(RegistryInput::PeerGone { peer: first() });
    desk.answer(first(), Answer::Ended { receipt: None });
    assert_eq!(desk.registry.connections(), 1);
    desk.answer(successor, Answer::Attached { transport: waiting, epoch: mint(2).epoch, is_named: false });
    assert!(desk.registry.is_reachable(&hello(1).cid));
}

#[test]
fn a_newer_hello_overtakes_the_one_that_waits() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    let (second, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    let (third, outputs) = desk.greet(Hello { attempt: attempt(3), ..hello(1) });
    assert!(outputs.contains(&refused(second, Refusal::Overtaken)));
    let outputs = desk.answer(first(), attached(earlier));
    assert_eq!(attached_in(&outputs), [third]);
}

// Section 4: a delayed hello can never evict its successor.
#[test]
fn a_delayed_hello_does_not_overtake_a_newer_one_that_waits() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    let (newer, _) = desk.greet(Hello { attempt: attempt(3), ..hello(1) });
    let (delayed, outputs) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    assert!(outputs.contains(&refused(delayed, Refusal::Stale)), "{outputs:?}");
    let outputs = desk.answer(first(), attached(earlier));
    assert_eq!(attached_in(&outputs), [newer]);
}

#[test]
fn a_transport_that_closes_while_its_hello_waits_is_not_attached() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    let (second, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    desk.say(RegistryInput::Closed { transport: second });
    let outputs = desk.answer(first(), attached(earlier));
    assert_eq!(attached_in(&outputs), []);
    assert_eq!(desk.registry.transports(), 1);
}

#[test]
fn a_late_word_about_a_transport_that_was_replaced_changes_nothing() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    desk.answer(first(), attached(earlier));
    let (second, _) = desk.greet(Hello { attempt: attempt(2), ..hello(1) });
    let before = desk.registry.clone();
    assert_eq!(desk.answer(first(), Answer::Detached { transport: earlier, is_suspended: false }), []);
    assert_eq!(desk.answer(first(), attached(earlier)), []);
    assert_eq!(desk.registry, before);
    desk.answer(first(), attached(second));
    assert!(desk.registry.is_reachable(&hello(1).cid));
    assert_eq!(desk.wait(120 * SECOND), [], "no deadline of the old transport is left");
}

#[test]
fn a_take_over_that_waits_is_still_asked_for_its_fence_only_once() {
    let mut desk = Desk::new();
    let (earlier, _) = desk.greet(hello(1));
    let other = Hello { instance: InstanceId::from_bytes([9; 16]), ..hello(1) };
    let (second, outputs) = desk.greet(other.clone());
    assert!(matches!(outputs[..], [RegistryOutput::Write { .. }]));
    let fence = Some(mint(2).fence);
    assert_eq!(desk.hear(second, &hello_text(Hello { fence, ..other })), []);
    let outputs = desk.answer(first(), attached(earlier));
    assert_eq!(attached_in(&outputs), [second]);
    assert!(attach_in(&outputs).takes_over);
}

#[test]
fn a_peer_that_is_fenced_ends_every_message_and_closes_its_transport() {
    let mut desk = Desk::new();
    let (transport, outputs) = desk.greet(hello(1));
    let mut peer = desk.peer(&outputs);
    drain(&mut peer);
    let id = peer.send(payload("never delivered").into(), desk.now).expect("room");
    peer.handle_command(Command::Fence, desk.now);
    let outputs = drain(&mut peer);
    let code = CloseCode::INTERNAL;
    assert!(outputs.contains(&PeerOutput::Close { transport, code }));
    assert!(format!("{outputs:?}").contains(&id.to_string()));
    assert!(peer.is_over());
    assert!(!outputs.iter().any(|output| matches!(output, PeerOutput::Answer(_))), "nobody listens to an answer");
    assert_eq!(peer.poll_timeout(), None);
}

// S004-050, S6
#[test]
fn a_peer_by_itself_ignores_what_names_another_transport() {
    let mut desk = Desk::new();
    let (_, outputs) = desk.greet(hello(1));
    let mut peer = desk.peer(&outputs);
    drain(&mut peer);
    let before = peer.clone();
    let transport = TransportId(99);
    for input in [
        PeerInput::Closed { transport, code: CloseCode::ABNORMAL },
        PeerInput::Received { transport, incoming: Incoming::Text(r#"{"t":"bye","code":1000,"end":true}"#) },
        PeerInput::Received { transport, incoming: Incoming::Binary },
        PeerInput::Progress { transport, read: 9, written: 1 << 40 },
    ] {
        peer.handle_input(input, desk.now);
        assert_eq!(peer, before, "{input:?}");
    }
    assert_eq!(drain(&mut peer), []);
}

#[test]
fn a_peer_that_is_over_closes_what_it_is_told_to_attach() {
    let mut desk = Desk::new();
    let (_, outputs) = desk.greet(hello(1));
    let attach = attach_in(&outputs);
    let mut peer = desk.peer(&outputs);
    peer.disconnect(desk.now);
    drain(&mut peer);
    peer.handle_command(Command::Attach(Box::new(Attach { transport: TransportId(7), ..attach })), desk.now);
    assert_eq!(drain(&mut peer), [PeerOutput::Close { transport: TransportId(7), code: CloseCode::ENDED }]);
}

/// A peer whose client has left, with something to be taken.
fn left(desk: &mut Desk) -> Peer {
    let (transport, outputs) = desk.greet(hello(1));
    let mut peer = desk.peer(&outputs);
    for text in [r#"{"t":"msg","seq":1,"d":1}"#, r#"{"t":"bye","code":1000,"end":true}"#] {
        peer.handle_input(PeerInput::Received { transport, incoming: Incoming::Text(text) }, desk.now);
    }
    drain(&mut peer);
    assert!(peer.is_over() && peer.has_delivery());
    peer
}

#[test]
fn a_peer_that_is_disconnected_after_its_client_left_hands_nothing_more_over() {
    let ends: [fn(&mut Peer, Instant); 2] = [Peer::disconnect, |peer, now| peer.close(Duration::ZERO, now)];
    for end in ends {
        let mut desk = Desk::new();
        let mut peer = left(&mut desk);
        end(&mut peer, desk.now);
        assert!(!peer.has_delivery());
        assert_eq!((peer.take(desk.now), drain(&mut peer)), (None, Vec::new()));
    }
}

// The server may not have been told of the end yet, and that shall make no difference.
#[test]
fn what_a_client_that_left_had_sent_can_be_taken_after_the_server_has_stopped() {
    let mut desk = Desk::new();
    let mut peer = left(&mut desk);
    peer.shut_down(desk.now);
    assert!(peer.take(desk.now).is_some());
    assert_eq!(drain(&mut peer), []);
}

#[test]
fn a_goodbye_that_comes_while_the_peer_closes_leaves_nothing_to_be_taken() {
    for closes in [true, false] {
        let mut desk = Desk::new();
        let (transport, outputs) = desk.greet(hello(1));
        let mut peer = desk.peer(&outputs);
        peer.send(payload("unsettled").into(), desk.now).expect("there is room");
        let hear = |peer: &mut Peer, text| {
            peer.handle_input(PeerInput::Received { transport, incoming: Incoming::Text(text) }, desk.now);
        };
        hear(&mut peer, r#"{"t":"msg","seq":1,"d":1}"#);
        if closes {
            peer.close(60 * SECOND, desk.now);
        }
        hear(&mut peer, r#"{"t":"bye","code":1000,"end":true}"#);
        assert!(peer.is_over());
        assert_eq!(peer.take(desk.now).is_some(), !closes);
    }
}

#[test]
fn a_peer_that_is_over_ends_only_once_though_its_credentials_run_out_later() {
    let mut desk = Desk::new();
    let (transport, outputs) = desk.greet(hello(1));
    let mut peer = desk.peer(&outputs);
    let attach = Attach { expires: Some(desk.now + 5 * SECOND), ..attach_in(&outputs) };
    peer.handle_command(Command::Attach(Box::new(Attach { transport: TransportId(7), ..attach })), desk.now);
    peer.handle_input(PeerInput::Closed { transport, code: CloseCode::SUPERSEDED }, desk.now);
    peer.send(payload("x").into(), desk.now).expect("there is room");
    peer.drain(20 * SECOND, SECOND, desk.now);
    let (transport, incoming) = (TransportId(7), Incoming::Text(r#"{"t":"bye","code":1000,"end":true}"#));
    peer.handle_input(PeerInput::Received { transport, incoming }, desk.now);
    assert!(peer.is_over());
    drain(&mut peer);
    assert_eq!(peer.poll_timeout(), None);
    peer.handle_timeout(desk.now + 5 * SECOND);
    assert_eq!(drain(&mut peer), []);
}

/// A registry whose peers are the test.
struct Desk {
    registry: Registry,
    now: Instant,
    accepted: u64,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::from_secs(1_000);
        Self { registry: Registry::new(Config::default(), now), now, accepted: 0 }
    }

    fn say(&mut self, input: RegistryInput<'_>) -> Vec<RegistryOutput> {
        self.registry.handle_input(input, self.now);
        self.drain()
    }

    fn drain(&mut self) -> Vec<RegistryOutput> {
        core::iter::from_fn(|| self.registry.poll_output()).collect()
    }

    /// A transport comes and says hello.
    fn greet(&mut self, hello: Hello) -> (TransportId, Vec<RegistryOutput>) {
        self.accepted += 1;
        let transport = TransportId(self.accepted);
        let mint = mint(self.accepted);
        let mut outputs = self.say(RegistryInput::Accepted { transport, address: None, mint });
        outputs.extend(self.hear(transport, &hello_text(hello)));
        (transport, outputs)
    }

    fn hear(&mut self, transport: TransportId, text: &str) -> Vec<RegistryOutput> {
        self.say(RegistryInput::Received { transport, incoming: Incoming::Text(text) })
    }

    fn answer(&mut self, peer: PeerId, answer: Answer) -> Vec<RegistryOutput> {
        self.say(RegistryInput::Answered { peer, answer })
    }

    fn wait(&mut self, duration: Duration) -> Vec<RegistryOutput> {
        let end = self.now + duration;
        let mut outputs = Vec::new();
        while let Some(at) = self.registry.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.registry.handle_timeout(at);
            outputs.extend(self.drain());
        }
        self.now = end;
        self.registry.handle_timeout(end);
        outputs
    }

    /// The peer that was asked for, as told.
    fn peer(&self, outputs: &[RegistryOutput]) -> Peer {
        let origin = |output: &RegistryOutput| {
            if let RegistryOutput::Create(origin) = output { Some(origin.clone()) } else { None }
        };
        let origin = outputs.iter().find_map(origin).expect("a peer is asked for");
        let mut peer = Peer::new(&Config::default(), origin, self.now);
        peer.handle_command(Command::Attach(Box::new(attach_in(outputs))), self.now);
        peer
    }
}

/// The first peer that a registry makes, for the first client.
fn first() -> PeerId {
    PeerId { cid: hello(1).cid, generation: Generation(1) }
}

/// The peer that is asked for.
fn created_in(outputs: &[RegistryOutput]) -> Option<PeerId> {
    outputs.iter().find_map(|output| if let RegistryOutput::Create(origin) = output { Some(origin.id) } else { None })
}

fn attached(transport: TransportId) -> Answer {
    Answer::Attached { transport, epoch: epoch(1), is_named: false }
}

fn refused(transport: TransportId, refusal: Refusal) -> RegistryOutput {
    RegistryOutput::Event(RegistryEvent::Refused { transport, refusal })
}

fn attaches_in(outputs: &[RegistryOutput]) -> Vec<Attach> {
    let attach = |output: &RegistryOutput| match output {
        RegistryOutput::Command { command: Command::Attach(attach), .. } => Some((**attach).clone()),
        RegistryOutput::Command { .. }
        | RegistryOutput::Write { .. }
        | RegistryOutput::Close { .. }
        | RegistryOutput::Authenticate { .. }
        | RegistryOutput::Create(_)
        | RegistryOutput::Event(_) => None,
    };
    outputs.iter().filter_map(attach).collect()
}

fn attach_in(outputs: &[RegistryOutput]) -> Attach {
    attaches_in(outputs).pop().unwrap_or_else(|| panic!("nothing is attached by {outputs:?}"))
}

/// The transports that peers are told to attach.
fn attached_in(outputs: &[RegistryOutput]) -> Vec<TransportId> {
    attaches_in(outputs).into_iter().map(|attach| attach.transport).collect()
}

fn drain(peer: &mut Peer) -> Vec<PeerOutput> {
    core::iter::from_fn(|| peer.poll_output()).collect()
}
