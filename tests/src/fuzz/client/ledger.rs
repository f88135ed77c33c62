//! The account of one client.

use std::collections::BTreeMap;

use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::client::OnSuperseded;
use reattach_core::id::MessageId;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;

/// What an operation was, for it decides what may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The transport opened.
    Opened,
    /// It did not.
    OpenFailed,
    /// Something came.
    Received,
    /// The transport ended.
    Closed,
    /// Bytes moved, or the application looked at what came, sent something or provided a key.
    Nothing,
    /// Time passed.
    Time,
    /// The application asked for another transport.
    Reconnect,
    /// The application closes the connection.
    Close,
    /// The application withdraws a message.
    Cancel,
}

/// The account.
#[derive(Debug)]
pub(super) struct Ledger {
    cause: Cause,
    on_superseded: OnSuperseded,
    has_spare: bool,
    /// Whether the application has closed the connection.
    is_closing: bool,
    is_over: bool,
    /// Reliable sends without an outcome, and how often each was deferred.
    outstanding: BTreeMap<MessageId, u32>,
}

impl Ledger {
    pub(super) const fn new(on_superseded: OnSuperseded, has_spare: bool) -> Self {
        let outstanding = BTreeMap::new();
        Self { cause: Cause::Nothing, on_superseded, has_spare, is_closing: false, is_over: false, outstanding }
    }

    /// Another operation begins.
    pub(super) const fn begin(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// The application has sent a message.
    pub(super) fn on_sent(&mut self, id: MessageId) {
        assert!(self.outstanding.insert(id, 0).is_none(), "a name is of one message at a time");
    }

    /// The application has provided a key.
    pub(super) const fn on_key_provided(&mut self) {
        self.has_spare = true;
    }

    /// The application closes the connection.
    pub(super) const fn on_closing(&mut self) {
        self.is_closing = true;
    }

    /// Whether a message has no outcome.
    pub(super) fn owes(&self, id: &MessageId) -> bool {
        self.outstanding.contains_key(id)
    }

    /// How many messages have no outcome.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// The machine tells something.
    pub(super) fn on_event(&mut self, event: &Event) {
        assert!(!self.is_over, "nothing is told after the end: {event:?}");
        let cause = self.cause;
        let ends = matches!(cause, Cause::OpenFailed | Cause::Received | Cause::Closed | Cause::Time);
        match event {
            Event::Attached { resumed } => {
                assert_eq!(cause, Cause::Received);
                if !resumed {
                    // What is sent again may be put off again.
                    self.outstanding.values_mut().for_each(|told| *told = 0);
                }
            }
            Event::Detached { ended } | Event::TryFailed { ended } => assert_eq!(cause, cause_of(ended, cause)),
            Event::Delivered { id } => {
                assert_eq!(cause, Cause::Received, "only the peer can say that a message was delivered");
                self.end(id);
            }
            Event::SendFailed(SendFailed { id, failure }) => match failure {
                Failure::ForNow { attempt, .. } => {
                    assert_eq!(cause, Cause::Received);
                    let before = self.outstanding.get_mut(id).expect("a message with an outcome is not tried again");
                    assert!(*before < *attempt, "deferrals are told once");
                    *before = *attempt;
                }
                Failure::ForGood(outcome) => {
                    self.end(id);
                    self.on_failed_for_good(outcome);
                }
            },
            Event::Delayed { id } => {
                assert!(cause == Cause::Received && self.outstanding.contains_key(id), "delayed by {cause:?}");
            }
            Event::Superseded => assert!(matches!(cause, Cause::Received | Cause::Closed)),
            Event::IdentityChanged { old, new } => {
                assert!(matches!(cause, Cause::Received | Cause::Closed) && self.has_spare && old != new);
                assert_eq!(self.on_superseded, OnSuperseded::NewIdentity);
                self.has_spare = false;
            }
            Event::FrameSkipped { .. } | Event::PeerBrokeProtocol { .. } => assert_eq!(cause, Cause::Received),
            Event::Failed { .. } => assert!(ends),
            Event::Closed { reason } => {
                self.is_over = true;
                assert!(self.outstanding.is_empty(), "every outcome is told before the end");
                match reason {
                    Closed::Flushed | Closed::Cut => assert!(self.is_closing, "nobody asked for it"),
                    Closed::ByPeer { .. } => assert_eq!(cause, Cause::Received),
                    _ => panic!("an end that this target does not know: {reason:?}"),
                }
            }
            _ => panic!("an event that this target does not know: {event:?}"),
        }
    }

    fn end(&mut self, id: &MessageId) {
        assert!(self.outstanding.remove(id).is_some(), "one outcome for each send");
    }

    fn on_failed_for_good(&self, outcome: &Outcome) {
        let cause = self.cause;
        match outcome {
            Outcome::Delivered => panic!("delivered is no failure"),
            Outcome::NotDelivered { reason: NotDelivered::Closed } | Outcome::Unknown { reason: Unknown::Closed } => {
                assert!(self.is_closing);
            }
            Outcome::NotDelivered { reason: NotDelivered::Unreachable | NotDelivered::Superseded }
            | Outcome::Unknown { reason: Unknown::Unreachable | Unknown::Superseded } => {
                let ends = matches!(cause, Cause::OpenFailed | Cause::Received | Cause::Closed | Cause::Time);
                assert!(ends, "{outcome} by {cause:?}");
            }
            Outcome::NotDelivered { reason: NotDelivered::Cancelled } => {
                assert!(matches!(cause, Cause::Cancel | Cause::Received), "{outcome} by {cause:?}");
            }
            Outcome::NotDelivered { reason: NotDelivered::Unavailable } => {
                assert!(!matches!(cause, Cause::Opened | Cause::Close | Cause::Cancel), "{outcome} by {cause:?}");
            }
            Outcome::NotDelivered { reason: NotDelivered::Deadline | NotDelivered::TooOld } => {
                assert!(matches!(cause, Cause::Time | Cause::Received), "{outcome} by {cause:?}");
            }
            Outcome::Unknown { reason: Unknown::VoidUnanswered } => assert_eq!(cause, Cause::Time),
            Outcome::Unknown { reason: Unknown::Resent } => {}
            Outcome::Rejected { .. } | Outcome::NotDelivered { reason: _ } | Outcome::Unknown { reason: _ } => {
                assert_eq!(cause, Cause::Received, "{outcome}");
            }
        }
    }
}

/// The cause that the end of a transport must have; a word of the peer ends one as its close frame does.
fn cause_of(ended: &Ended, told: Cause) -> Cause {
    match ended {
        Ended::NotOpened(_) => Cause::OpenFailed,
        Ended::ConnectTimeout | Ended::HelloTimeout | Ended::Stalled => Cause::Time,
        Ended::Closed(_) if told == Cause::Received => Cause::Received,
        Ended::Closed(_) => Cause::Closed,
        Ended::Protocol(_) => Cause::Received,
        Ended::Local => Cause::Reconnect,
        Ended::CredentialsExpired | _ => panic!("an end that this target does not know: {ended:?}"),
    }
}
