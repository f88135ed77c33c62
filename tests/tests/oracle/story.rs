//! Stories of one client and one server, as the oracle hears them.

use harness::oracle::Broken;
use harness::oracle::Checked;
use harness::oracle::End;
use harness::oracle::Oracle;
use harness::oracle::Party;
use harness::oracle::Rules;
use harness::world::World;
use harness::world::in_lane;
use harness::world::key;
use harness::world::payload;
use reattach_core::client::Event;
use reattach_core::id::ConnectionId;
use reattach_core::id::Lane;
use reattach_core::id::MessageId;
use reattach_core::id::Principal;
use reattach_core::link;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handed;
use reattach_core::link::Handle;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::server::PeerEvent;
use reattach_core::server::ReceiptsConfig;
use reattach_core::server::RegistryEvent;
use reattach_core::time::Instant;
use std::time::Duration;

pub(crate) const NOW: Instant = Instant::from_secs(1_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CLIENT: Party = Party::Client(0);
pub(crate) const LIVE: u64 = 1;

pub(crate) fn cid() -> ConnectionId {
    key(1).connection_id()
}

pub(crate) fn server() -> Party {
    Party::Server(cid())
}

pub(crate) fn id(number: u32) -> MessageId {
    format!("00000000-0000-4000-8000-{number:012x}").parse().expect("a UUID")
}

/// An oracle that has seen one client attach.
pub(crate) struct Story {
    pub(crate) oracle: Oracle,
    pub(crate) now: Instant,
    pub(crate) handles: Vec<Handle>,
}

impl Story {
    pub(crate) fn new() -> Self {
        let mut link = link::Config::default();
        // A lane holds at most as many as are free: three of six.
        link.outbox.count = 6;
        let rules = Rules {
            client: link.clone(),
            server: link,
            receipts: ReceiptsConfig::default(),
            detach_ttl: 60 * SECOND,
            suspended_ttl: 600 * SECOND,
            max_connections: 3,
            max_per_principal: 2,
            failures: 3,
            tries: Some(2),
            skew: Duration::ZERO,
            slack: Some(SECOND),
        };
        let mut story = Self { oracle: Oracle::new(rules), now: NOW, handles: handles() };
        story.oracle.on_client(0, cid());
        story.attach(LIVE, false).expect("a client may attach");
        story
    }

    /// The client attaches on a wire.
    pub(crate) fn attach(&mut self, wire: u64, resumed: bool) -> Checked {
        self.oracle.on_asked(wire, 0);
        self.oracle.on_accepted(wire);
        self.oracle.on_write(wire, End::Client, "{\"t\":\"hello\"}")?;
        if !resumed && wire == LIVE {
            let event = RegistryEvent::Registered { cid: cid(), principal: Principal::Connection(cid()) };
            self.oracle.on_registry_event(&event, self.now)?;
        }
        self.oracle.on_peer_event(cid(), Some(wire), &PeerEvent::Attached { resumed }, self.now)?;
        self.oracle.on_client_event(0, Some(wire), &Event::Attached { resumed }, self.now)
    }

    pub(crate) fn send(&mut self, number: u32, message: &Outgoing) -> Checked {
        self.oracle.on_sent(CLIENT, number, id(number), message, self.now)
    }

    /// The same with a plain message.
    pub(crate) fn sent(numbers: &[u32]) -> Self {
        let mut story = Self::new();
        numbers.iter().for_each(|number| story.send(*number, &plain()).expect("there is room"));
        story
    }

    /// A message is handed over, which accepts it.
    pub(crate) fn take(&mut self, number: u32) -> Checked {
        self.oracle.on_handed(server(), number, &handed(None, 1), false, self.now)
    }

    /// The same where the application decides.
    pub(crate) fn hand(&mut self, number: u32, turn: u32) -> Checked {
        let handle = self.handles.pop();
        self.oracle.on_handed(server(), number, &handed(handle, turn), false, self.now)
    }

    /// A message was sent, handed over, and decided about.
    pub(crate) fn decided(message: &Outgoing, decision: &Decision) -> Self {
        let mut story = Self::new();
        story.send(0, message).expect("there is room");
        let handle = *story.handles.last().expect("there are handles");
        story.hand(0, 1).expect("it was sent");
        story.oracle.on_decided(server(), handle, decision, Ok(()), NOW).expect("it is in hands");
        story
    }

    pub(crate) fn told(&mut self, number: u32, outcome: &Outcome) -> Checked {
        let event = if *outcome == Outcome::Delivered {
            Event::Delivered { id: id(number) }
        } else {
            Event::SendFailed(SendFailed { id: id(number), failure: Failure::ForGood(outcome.clone()) })
        };
        self.oracle.on_client_event(0, Some(LIVE), &event, self.now)
    }

    pub(crate) fn client(&mut self, event: &Event) -> Checked {
        self.oracle.on_client_event(0, Some(LIVE), event, self.now)?;
        self.oracle.check_step()
    }

    pub(crate) fn peer(&mut self, event: &PeerEvent) -> Checked {
        self.oracle.on_peer_event(cid(), Some(LIVE), event, self.now)?;
        self.oracle.check_step()
    }

    pub(crate) fn registry(&mut self, event: &RegistryEvent) -> Checked {
        self.oracle.on_registry_event(event, self.now)
    }
}

/// Handles of a real server: only a machine makes them.
pub(crate) fn handles() -> Vec<Handle> {
    let mut world = World::attached_manual();
    ["a", "b", "c", "d"].iter().for_each(|lane| _ = world.send_as(in_lane(lane, "x")));
    world.run_for(SECOND / 10);
    world.deliveries.iter().filter_map(|(_, delivery)| delivery.handle()).collect()
}

/// A real hand-over, changed.
pub(crate) fn handed(handle: Option<Handle>, turn: u32) -> Handed {
    let mut world = World::attached();
    world.send_up("x");
    world.run_for(SECOND / 10);
    let (_, delivery) = world.deliveries.pop().expect("it comes");
    let Delivery::Message(handed) = delivery else { panic!("it is a message") };
    Handed { id: None, lane: Lane::DEFAULT, turn, handle, ..handed }
}

pub(crate) fn plain() -> Outgoing {
    payload("x").into()
}

pub(crate) fn reject() -> Decision {
    Decision::Reject { code: "no".parse().expect("a code"), reason: String::new() }
}

pub(crate) fn defer() -> Decision {
    Decision::Defer { retry_after: None, code: "busy".parse().expect("a code") }
}

pub(crate) fn rejected() -> Outcome {
    Outcome::Rejected { code: "no".parse().expect("a code"), reason: String::new() }
}

pub(crate) const fn not_delivered(reason: NotDelivered) -> Outcome {
    Outcome::NotDelivered { reason }
}

pub(crate) const fn unknown(reason: Unknown) -> Outcome {
    Outcome::Unknown { reason }
}

pub(crate) fn msg(seq: u64) -> String {
    format!("{{\"t\":\"msg\",\"seq\":{seq},\"d\":[1]}}")
}

/// Every story breaks the rule.
pub(crate) fn all_break(rule: &str, stories: Vec<(&str, Checked)>) {
    for (what, result) in stories {
        match result {
            Err(Broken { rule: broken, .. }) => assert_eq!(broken, rule, "{what}"),
            Ok(()) => panic!("nobody minds: {what}"),
        }
    }
}

/// Goes on with a story and says what came of it.
pub(crate) fn then(mut story: Story, go_on: impl FnOnce(&mut Story) -> Checked) -> Checked {
    go_on(&mut story)
}
