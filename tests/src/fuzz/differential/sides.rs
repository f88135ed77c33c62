//! A client and a server's peer that stand in the same place: attached, with the same limits and the same messages.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::connection;
use reattach_core::connection::Connection;
use reattach_core::connection::Incoming;
use reattach_core::connection::Stats;
use reattach_core::error::ProtocolError;
use reattach_core::id::Attempt;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Principal;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::id::TransportId;
use reattach_core::link::Decision;
use reattach_core::link::Delivery;
use reattach_core::link::Handed;
use reattach_core::link::Lanes;
use reattach_core::link::Outgoing;
use reattach_core::outcome::SendFailed;
use reattach_core::reconnect::Ended;
use reattach_core::server;
use reattach_core::server::Attach;
use reattach_core::server::Command;
use reattach_core::server::Generation;
use reattach_core::server::Origin;
use reattach_core::server::Peer;
use reattach_core::server::PeerEvent;
use reattach_core::server::PeerId;
use reattach_core::server::PeerInput;
use reattach_core::server::PeerOutput;
use reattach_core::time::Instant;
use reattach_core::wire::DecodeError;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Limits;
use reattach_core::wire::Report;
use reattach_core::wire::Welcome;

use super::frames::KEY;

const TRANSPORT: TransportId = TransportId(1);

/// Something that a side did, as far as both can do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It wrote a frame that is no ping: those are numbered by who asked first.
    Wrote(String),
    Delivered(MessageId),
    Failed(SendFailed),
    Delayed(MessageId),
    Skipped(DecodeError),
    Broken(ProtocolError),
    /// The last thing of which the two say the same: what follows is the matter of each.
    Detached(Ended),
    /// The peer has ended the connection. So is this.
    Closed,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client(Box<Client>),
    Peer(Box<Peer>),
}

/// Both, at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    client: (Side, u64),
    peer: (Side, u64),
    pub(super) now: Instant,
}

impl Sides {
    /// Both are attached, and have heard one pong.
    pub(super) fn new(config: connection::Config, limits: Limits) -> Self {
        let (now, epoch) = (Instant::from_secs(1_000), Epoch::from_bytes([5; 16]));
        let instance = InstanceId::from_bytes([6; 16]);
        let mut of_client = client::Config::default();
        of_client.connection = config.clone();
        let secrets = Secrets { key: KEY, spare: None, instance };
        let mut client = Client::new(of_client, secrets, 0, now);
        client.handle_input(client::Input::Opened { transport: TRANSPORT, token: None }, now);
        let welcome = Welcome {
            cid: KEY.connection_id(),
            epoch,
            resumed: false,
            report: Report::default(),
            seen: ReportNo::ZERO,
            limits,
            detach_ttl: Duration::from_secs(60),
            receipt: None,
        };
        let mut text = String::new();
        Frame::Welcome(Box::new(welcome)).encode(&mut text);
        client.handle_input(client::Input::Received { transport: TRANSPORT, incoming: Incoming::Text(&text) }, now);
        let mut of_server = server::Config::default();
        of_server.connection = config;
        let cid = KEY.connection_id();
        let id = PeerId { cid, generation: Generation(1) };
        let origin = Origin { id, principal: Principal::Connection(cid), epoch, instance };
        let mut peer = Peer::new(&of_server, origin, now);
        let hello = Hello {
            key: KEY,
            cid,
            instance,
            attempt: Attempt::ZERO.next(),
            epoch: None,
            sent: Seq::ZERO,
            base: Seq::ZERO.next(),
            seen: ReportNo::ZERO,
            report: Report::default(),
            limits,
            token: None,
            fence: None,
        };
        let (takes_over, receipt, produced, expires) = (false, None, 0, None);
        let attach = Attach { transport: TRANSPORT, hello, takes_over, mint: epoch, receipt, produced, expires };
        peer.handle_command(Command::Attach(Box::new(attach)), now);
        let mut sides =
            Self { client: (Side::Client(Box::new(client)), 0), peer: (Side::Peer(Box::new(peer)), 0), now };
        // What each wrote to attach is its own: a hello, a welcome.
        _ = sides.drain();
        assert_eq!(sides.client.0.connection().transport(), Some(TRANSPORT), "the client is attached");
        assert_eq!(sides.peer.0.connection().transport(), Some(TRANSPORT), "so is the peer");
        sides.hear("{\"t\":\"pong\",\"n\":1}");
        sides
    }

    /// A text comes to both. Returns what they did, which is the same.
    pub(super) fn hear(&mut self, text: &str) -> Vec<Said> {
        let (now, incoming) = (self.now, Incoming::Text(text));
        self.both(|side| match side {
            Side::Client(client) => {
                client.handle_input(client::Input::Received { transport: TRANSPORT, incoming }, now);
            }
            Side::Peer(peer) => peer.handle_input(PeerInput::Received { transport: TRANSPORT, incoming }, now),
        })
    }

    /// Both applications send the same message under the same name.
    pub(super) fn send(&mut self, message: &Outgoing) -> Vec<Said> {
        let now = self.now;
        let mut results = Vec::new();
        let said = self.both(|side| {
            results.push(match side {
                Side::Client(client) => client.send(message.clone(), now),
                Side::Peer(peer) => peer.send(message.clone(), now),
            });
        });
        assert_eq!(results[0], results[1], "a message finds the same room");
        said
    }

    /// Both applications ask for the next message, and decide about it.
    pub(super) fn take(&mut self, decision: &Decision) -> Vec<Said> {
        let now = self.now;
        let mut taken = Vec::new();
        let said = self.both(|side| {
            let delivery = match side {
                Side::Client(client) => client.take(now),
                Side::Peer(peer) => peer.take(now),
            };
            if let Some(handle) = delivery.as_ref().and_then(Delivery::handle) {
                _ = match side {
                    Side::Client(client) => client.decide(handle, decision.clone(), now),
                    Side::Peer(peer) => peer.decide(handle, decision.clone(), now),
                };
            }
            // A handle belongs to one life of one machine.
            taken.push(match delivery {
                Some(Delivery::Message(handed)) => Some(Delivery::Message(Handed { handle: None, ..handed })),
                other @ (Some(Delivery::Ephemeral { .. }) | None) => other,
            });
        });
        assert_eq!(taken[0], taken[1], "both have got the same");
        said
    }

    /// Time passes for both.
    pub(super) fn wait(&mut self, duration: Duration) -> Vec<Said> {
        self.now = self.now + duration;
        let now = self.now;
        self.both(|side| match side {
            Side::Client(client) => client.handle_timeout(now),
            Side::Peer(peer) => peer.handle_timeout(now),
        })
    }

    /// Whether both are attached.
    pub(super) fn is_attached(&self) -> bool {
        self.client.0.connection().transport().is_some()
    }

    /// What was sent last, and received last.
    pub(super) fn standing(&self) -> (Seq, Seq) {
        let link = self.client.0.connection().link();
        (link.outbox().flight().sent(), link.inbox().settlement().received())
    }

    fn both(&mut self, mut act: impl FnMut(&mut Side)) -> Vec<Said> {
        act(&mut self.client.0);
        act(&mut self.peer.0);
        let said = self.drain();
        assert_eq!(said[0], said[1], "the client, and the server's peer");
        let (client, peer) = (self.client.0.connection(), self.peer.0.connection());
        assert_eq!(client.transport(), peer.transport(), "both are attached, or neither is");
        if client.transport().is_some() {
            assert_eq!(standing(client), standing(peer), "both stand in the same place");
        }
        said.into_iter().next().unwrap_or_default()
    }

    fn drain(&mut self) -> [Vec<Said>; 2] {
        let now = self.now;
        [&mut self.client, &mut self.peer].map(|(side, produced)| side.drain(produced, now))
    }

    /// What both look like from outside, but for what they have skipped.
    pub(super) fn looks(&self) -> impl PartialEq + std::fmt::Debug {
        let mut standing = standing(self.client.0.connection());
        standing.1.malformed = 0;
        (self.is_attached(), standing)
    }
}

/// Where a connection stands, as far as the two have it in common.
fn standing(connection: &Connection) -> (Report, Stats, [Seq; 3], ReportNo, u32, bool) {
    let link = connection.link();
    let flight = link.outbox().flight();
    // The client asks first.
    let mut stats = connection.stats();
    (stats.rtt, stats.pings) = (None, 0);
    let (received, settled) = flight.taken();
    let (seqs, is_waiting) = ([flight.sent(), received, settled], link.has_delivery(Lanes::All));
    (link.report(), stats, seqs, flight.seen(), link.inbox().usage().count(), is_waiting)
}

impl Side {
    fn connection(&self) -> &Connection {
        match self {
            Self::Client(client) => client.connection(),
            Self::Peer(peer) => peer.connection(),
        }
    }

    /// All that it does, up to the end of the transport. What it writes leaves at once.
    fn drain(&mut self, produced: &mut u64, now: Instant) -> Vec<Said> {
        let (mut all, mut is_over) = (Vec::new(), false);
        loop {
            let text = match self {
                Self::Client(client) => match client.poll_output() {
                    Some(client::Output::Write { text, .. }) => text,
                    Some(client::Output::Event(event)) => {
                        all.extend(of_client(event).filter(|_| !is_over));
                        is_over |= matches!(all.last(), Some(Said::Detached(_) | Said::Closed));
                        continue;
                    }
                    Some(client::Output::Open { .. } | client::Output::Close { .. }) => continue,
                    None => return all,
                },
                Self::Peer(peer) => match peer.poll_output() {
                    Some(PeerOutput::Write { text, .. }) => text,
                    Some(PeerOutput::Event(event)) => {
                        all.extend(of_peer(event).filter(|_| !is_over));
                        is_over |= matches!(all.last(), Some(Said::Detached(_) | Said::Closed));
                        continue;
                    }
                    Some(PeerOutput::Answer(_) | PeerOutput::Close { .. }) => continue,
                    None => return all,
                },
            };
            let frames = text.split('\n').filter(|frame| !frame.starts_with("{\"t\":\"ping\""));
            all.extend(frames.map(|frame| Said::Wrote(frame.to_owned())).filter(|_| !is_over));
            *produced += text.len() as u64;
            let (transport, read, written) = (TRANSPORT, 0, *produced);
            match self {
                Self::Client(client) => client.handle_input(client::Input::Progress { transport, read, written }, now),
                Self::Peer(peer) => peer.handle_input(PeerInput::Progress { transport, read, written }, now),
            }
        }
    }
}

fn of_client(event: client::Event) -> Option<Said> {
    match event {
        client::Event::Delivered { id } => Some(Said::Delivered(id)),
        client::Event::SendFailed(failed) => Some(Said::Failed(failed)),
        client::Event::Delayed { id } => Some(Said::Delayed(id)),
        client::Event::FrameSkipped { error } => Some(Said::Skipped(error)),
        client::Event::PeerBrokeProtocol { error } => Some(Said::Broken(error)),
        client::Event::Detached { ended } => Some(Said::Detached(ended)),
        client::Event::Closed { .. } => Some(Said::Closed),
        client::Event::Attached { .. }
        | client::Event::TryFailed { .. }
        | client::Event::Superseded
        | client::Event::IdentityChanged { .. }
        | client::Event::Failed { .. }
        | _ => None,
    }
}

fn of_peer(event: PeerEvent) -> Option<Said> {
    match event {
        PeerEvent::Delivered { id } => Some(Said::Delivered(id)),
        PeerEvent::SendFailed(failed) => Some(Said::Failed(failed)),
        PeerEvent::Delayed { id } => Some(Said::Delayed(id)),
        PeerEvent::FrameSkipped { error } => Some(Said::Skipped(error)),
        PeerEvent::PeerBrokeProtocol { error } => Some(Said::Broken(error)),
        PeerEvent::Detached { ended } => Some(Said::Detached(ended)),
        PeerEvent::Closed { .. } => Some(Said::Closed),
        PeerEvent::Attached { .. } | _ => None,
    }
}
