//! The account of one server.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use reattach_core::id::Attempt;
use reattach_core::id::ConnectionId;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::server::Config;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;
use reattach_core::wire::Report;
use reattach_core::wire::Welcome;

/// What an operation was, for it decides what may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A transport was accepted.
    Accepted,
    /// Something came.
    Received,
    /// The application said whose credentials they are.
    Authenticated,
    /// A transport ended.
    Closed,
    /// Time passed.
    Time,
    /// The application closed a transport.
    Detach,
    /// Any other command, or bytes moved.
    Command,
}

/// The account of one server.
#[derive(Debug)]
pub(super) struct Ledger {
    config: Config,
    cause: Cause,
    /// Whether the hello that came last answers a challenge.
    pub(super) fenced: bool,
    registered: BTreeMap<ConnectionId, Principal>,
    outstanding: BTreeMap<ConnectionId, BTreeSet<MessageId>>,
    /// Connections that the application has closed.
    closing: BTreeSet<ConnectionId>,
    /// Which instance was attached last, with which attempt.
    attached: BTreeMap<ConnectionId, (InstanceId, Attempt)>,
    /// Instances that were evicted, the newest last; as many as the registry remembers.
    evicted: BTreeMap<ConnectionId, VecDeque<InstanceId>>,
    /// Epochs that went on, so that their clients know of them.
    joined: BTreeSet<Epoch>,
    /// Connections that have ended and not begun again.
    over: BTreeSet<ConnectionId>,
    /// What was written last on each transport within the operation, and how it was closed.
    written: BTreeMap<TransportId, String>,
    closed: BTreeMap<TransportId, CloseCode>,
}

impl Ledger {
    /// Nothing has happened.
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            cause: Cause::Command,
            fenced: false,
            registered: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            closing: BTreeSet::new(),
            attached: BTreeMap::new(),
            evicted: BTreeMap::new(),
            joined: BTreeSet::new(),
            over: BTreeSet::new(),
            written: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    /// Another operation begins.
    pub(super) fn begin(&mut self, cause: Cause) {
        self.cause = cause;
        self.written.clear();
        self.closed.clear();
    }

    /// The application has sent a message.
    pub(super) fn on_sent(&mut self, cid: ConnectionId, id: MessageId) {
        assert!(self.outstanding.entry(cid).or_default().insert(id), "a name is of one message at a time");
    }

    /// The application closes a connection.
    pub(super) fn on_closing(&mut self, cid: ConnectionId) {
        self.closing.insert(cid);
    }

    /// The server has written a text.
    pub(super) fn on_write(&mut self, transport: TransportId, text: String) {
        self.written.insert(transport, text);
    }

    /// The server welcomes who has said hello.
    pub(super) fn on_welcome(&mut self, hello: &Hello, welcome: &Welcome) {
        assert!(hello.cid == welcome.cid && hello.cid.is_owned_by(&hello.key), "the key owns the connection");
        let before = self.attached.insert(hello.cid, (hello.instance, hello.attempt));
        let evicted = self.evicted.entry(hello.cid).or_default();
        assert!(!evicted.contains(&hello.instance), "who was evicted does not come back");
        evicted.extend(before.map(|(instance, _)| instance).filter(|instance| *instance != hello.instance));
        evicted.drain(..evicted.len().saturating_sub(8));
        let is_newer = before.is_none_or(|(instance, attempt)| instance != hello.instance || attempt < hello.attempt);
        assert!(is_newer, "a hello is not older than the one that is attached");
        assert_eq!(welcome.resumed, hello.epoch == Some(welcome.epoch), "another epoch is another epoch");
        assert!(welcome.receipt.as_ref().is_none_or(|receipt| hello.epoch == Some(receipt.epoch)));
        if welcome.resumed {
            let received = welcome.report.received;
            assert!(hello.sent >= received && hello.base <= received.next(), "the client's numbers fit");
            self.joined.insert(welcome.epoch);
        } else {
            assert!(!self.joined.contains(&welcome.epoch), "an epoch that was joined does not begin again");
            assert_eq!(welcome.report, Report::default(), "an epoch begins at 0");
        }
    }

    /// The server has closed a transport.
    pub(super) fn on_close(&mut self, transport: TransportId, code: CloseCode) {
        self.closed.insert(transport, code);
    }

    /// The server tells something of a connection.
    pub(super) fn on_peer(&mut self, cid: ConnectionId, event: &PeerEvent) {
        let cause = self.cause;
        let is_of_hello = matches!(cause, Cause::Received | Cause::Authenticated);
        let was_over = self.over.remove(&cid);
        assert!(!was_over || matches!(event, PeerEvent::Attached { resumed: false }), "{event:?} after the end");
        match event {
            PeerEvent::Attached { resumed: _ } => assert!(is_of_hello),
            PeerEvent::Detached { ended } => self.on_detached(ended),
            PeerEvent::Delivered { id } => {
                assert!(is_of_hello, "only the peer can say that a message was delivered");
                self.end(cid, id);
            }
            PeerEvent::SendFailed(SendFailed { id, failure }) => match failure {
                Failure::ForNow { .. } => {
                    assert!(is_of_hello && self.outstanding.get(&cid).is_some_and(|ids| ids.contains(id)));
                }
                Failure::ForGood(outcome) => {
                    self.end(cid, id);
                    self.on_failed_for_good(cid, outcome);
                }
            },
            PeerEvent::Delayed { id } => assert!(is_of_hello && self.owes(&cid, id)),
            PeerEvent::FrameSkipped { .. } | PeerEvent::PeerBrokeProtocol { .. } => {
                assert_eq!(cause, Cause::Received);
            }
            PeerEvent::Closed { reason } => {
                assert_eq!(self.outstanding(&cid), 0, "every outcome is told before the end");
                self.over.insert(cid);
                self.forget(&cid);
                let was_closing = self.closing.remove(&cid);
                match reason {
                    PeerClosed::Flushed | PeerClosed::Cut { .. } | PeerClosed::Revoked | PeerClosed::Drained { .. } => {
                        assert!(was_closing, "nobody asked for it")
                    }
                    PeerClosed::ByPeer { .. } => assert_eq!(cause, Cause::Received),
                    PeerClosed::Expired => assert_eq!(cause, Cause::Time),
                    PeerClosed::Fenced | PeerClosed::ShutDown | _ => {
                        panic!("within one thread nothing is late: {event:?}")
                    }
                }
            }
            _ => panic!("an event that this target does not know: {event:?}"),
        }
    }

    fn on_detached(&self, ended: &Ended) {
        let (cause, closes) = (self.cause, matches!(self.cause, Cause::Received | Cause::Closed));
        match ended {
            Ended::Closed(CloseCode::SUPERSEDED) => assert!(closes || cause == Cause::Authenticated),
            Ended::Closed(_) => assert!(closes),
            Ended::Protocol(_) => assert_eq!(cause, Cause::Received),
            Ended::Stalled => assert_eq!(cause, Cause::Time),
            Ended::Local => assert_eq!(cause, Cause::Detach),
            Ended::NotOpened(_) | Ended::ConnectTimeout | Ended::HelloTimeout | _ => {
                panic!("no transport of a server ends so: {ended:?}")
            }
        }
    }

    fn on_failed_for_good(&self, cid: ConnectionId, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered => panic!("delivered is no failure"),
            Outcome::NotDelivered { reason: NotDelivered::Closed } | Outcome::Unknown { reason: Unknown::Closed } => {
                assert!(!self.registered.contains_key(&cid), "the connection has ended");
            }
            Outcome::NotDelivered { reason: NotDelivered::Expired } | Outcome::Unknown { reason: Unknown::Expired } => {
                assert_eq!(self.cause, Cause::Time);
            }
            Outcome::NotDelivered { reason: NotDelivered::Shutdown }
            | Outcome::Unknown { reason: Unknown::Shutdown } => {
                assert!(self.closing.contains(&cid), "only a drain ends it so");
            }
            // What was sent again may end so in place of any other failure.
            Outcome::NotDelivered { reason: NotDelivered::Cancelled }
            | Outcome::Unknown { reason: Unknown::Resent } => {}
            Outcome::NotDelivered { reason: NotDelivered::Deadline | NotDelivered::TooOld } => {
                assert!(!matches!(self.cause, Cause::Command | Cause::Detach));
            }
            Outcome::Unknown { reason: Unknown::VoidUnanswered } => assert_eq!(self.cause, Cause::Time),
            Outcome::Rejected { .. } | Outcome::NotDelivered { reason: _ } | Outcome::Unknown { reason: _ } => {
                assert!(matches!(self.cause, Cause::Received | Cause::Authenticated), "{outcome} by {:?}", self.cause);
            }
        }
    }

    /// The connection is gone, and what was known of its instances with it.
    fn forget(&mut self, cid: &ConnectionId) {
        self.attached.remove(cid);
        self.evicted.remove(cid);
    }

    fn end(&mut self, cid: ConnectionId, id: &MessageId) {
        let had = self.outstanding.get_mut(&cid).is_some_and(|ids| ids.remove(id));
        assert!(had, "one outcome for each send");
    }

    /// The server tells something of its registry.
    pub(super) fn on_registry(&mut self, event: &RegistryEvent) {
        let is_of_hello = matches!(self.cause, Cause::Received | Cause::Authenticated);
        match event {
            RegistryEvent::Registered { cid, principal } => {
                assert!(is_of_hello && self.registered.insert(*cid, principal.clone()).is_none());
            }
            RegistryEvent::Refused { transport, refusal } => self.on_refused(*transport, *refusal),
            RegistryEvent::TakenOver { cid } => {
                assert!(is_of_hello && self.registered.contains_key(cid));
                assert!(self.fenced, "only who answers a challenge takes over");
            }
            RegistryEvent::Expired { cid } => {
                assert!(self.cause == Cause::Time && self.registered.contains_key(cid));
            }
            RegistryEvent::Removed { cid } => {
                self.forget(cid);
                assert!(self.registered.remove(cid).is_some());
            }
            RegistryEvent::Fenced { .. } | _ => panic!("within one thread nothing is late: {event:?}"),
        }
    }

    /// Whoever is turned away hears the same, whatever a guess has hit.
    fn on_refused(&self, transport: TransportId, refusal: Refusal) {
        let is_of_hello = matches!(self.cause, Cause::Received | Cause::Authenticated);
        assert_eq!(self.closed.get(&transport), Some(&refusal.close_code()), "the code says why");
        match refusal {
            Refusal::WrongKey | Refusal::Unauthenticated => {
                assert_eq!(self.written[&transport], r#"{"t":"bye","code":4401}"#, "a guess learns nothing");
            }
            Refusal::Timeout => assert_eq!(self.cause, Cause::Time),
            // A transport that is turned away before its hello is judged where it is accepted.
            Refusal::TooMany { of } if is_of_hello => {
                let of_principal = self.registered.values().map(|principal| self.of_principal(principal)).max();
                let is_full = match of {
                    "in all" => self.registered.len() >= self.config.max_connections,
                    "from this address" => self.registered.len() >= self.config.max_per_address,
                    _ => of_principal.is_some_and(|count| count >= self.config.max_per_principal),
                };
                assert!(is_full, "there is room {of}");
            }
            Refusal::TooMany { .. } | Refusal::Protocol(_) | Refusal::MalformedId { .. } => {}
            Refusal::Forbidden | Refusal::Stale | Refusal::Superseded | Refusal::Overtaken => {}
            _ => panic!("a refusal that this target does not know: {refusal:?}"),
        }
    }

    /// Whose a connection is.
    pub(super) fn principal(&self, cid: &ConnectionId) -> Option<&Principal> {
        self.registered.get(cid)
    }

    fn of_principal(&self, principal: &Principal) -> usize {
        self.registered.values().filter(|other| *other == principal).count()
    }

    /// How many messages of a connection have no outcome.
    pub(super) fn outstanding(&self, cid: &ConnectionId) -> usize {
        self.outstanding.get(cid).map_or(0, BTreeSet::len)
    }

    /// Whether a message has no outcome.
    pub(super) fn owes(&self, cid: &ConnectionId, id: &MessageId) -> bool {
        self.outstanding.get(cid).is_some_and(|ids| ids.contains(id))
    }

    /// Whether every message has its outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.values().all(BTreeSet::is_empty)
    }

    /// What was told is what the server shows.
    pub(super) fn check(&self, server: &Server) {
        let peers: Vec<_> = server.connections().collect();
        let registered: Vec<_> = self.registered.keys().collect();
        assert_eq!(peers, registered, "who is registered has a peer");
        assert_eq!(server.registry().connections(), peers.len());
        assert!(peers.len() <= self.config.max_connections);
        for principal in self.registered.values() {
            assert!(self.of_principal(principal) <= self.config.max_per_principal, "too many of one principal");
        }
        for (cid, ids) in &self.outstanding {
            assert!(ids.is_empty() || self.registered.contains_key(cid), "what has ended owes no outcome");
        }
    }
}
