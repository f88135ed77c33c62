//! What a link can be told.

use core::time::Duration;

use crate::id::Seq;
use crate::link::handover::Acceptance;
use crate::link::inbox;
use crate::link::outbox;
use crate::link::window::Quota;
use crate::wire;
use crate::wire::Limits;

/// How much a link holds and takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// What the application may have sent and the peer not settled. Default 200 messages and 2 MiB.
    pub outbox: Quota,
    /// What the peer may have written and this side not settled. Default 256 messages and 2 MiB.
    pub window: Quota,
    /// The largest payload of one message, both ways, in bytes. Default 4 MiB: a document or a picture passes, a film does not.
    pub max_payload: u64,
    /// Who decides about a message. Default automatic: taking it accepts it.
    pub acceptance: Acceptance,
    /// How long an application may take to decide about a message in its hands. Default 5 min: a person can think.
    pub lease: Duration,
    /// How long a deferral lasts that does not say. Default 3 s.
    pub deferral: Duration,
    /// How many attempts a message may lose before it is withdrawn: to a loss that was proven, or to a cut that let nothing
    /// through. Default 4: a message that kills whatever carries it ends.
    pub attempts: u32,
    /// How long a written message may be unsettled before the peer is asked about it. Default 5 s.
    pub ack_timeout: Duration,
    /// How long an answer to a withdrawal is waited for. Default 30 s.
    pub void_timeout: Duration,
    /// How long a message lives that has no deadline of its own. Default 24 h.
    pub age: Duration,
    /// How long a report may wait for company. Default 20 ms. It waits only while messages wait for the application; once all
    /// are taken the report goes at once.
    pub ack_delay: Duration,
    /// The most keys of ephemeral messages that wait in one direction. Default 64.
    pub ephemerals: usize,
    /// The most bytes of ephemeral messages that wait in one direction. Default 256 KiB.
    pub ephemeral_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outbox: Quota { count: 200, bytes: 2 * 1024 * 1024 },
            window: Quota { count: 256, bytes: 2 * 1024 * 1024 },
            max_payload: 4 * 1024 * 1024,
            acceptance: Acceptance::Automatic,
            lease: Duration::from_secs(5 * 60),
            deferral: Duration::from_secs(3),
            attempts: 4,
            ack_timeout: Duration::from_secs(5),
            void_timeout: Duration::from_secs(30),
            age: Duration::from_secs(24 * 60 * 60),
            ack_delay: Duration::from_millis(20),
            ephemerals: 64,
            ephemeral_bytes: 256 * 1024,
        }
    }
}

impl Config {
    /// The window as it is announced.
    pub(super) fn quota(&self) -> Quota {
        let Limits { window, window_bytes, .. } = self.limits();
        Quota { count: window, bytes: window_bytes }
    }

    /// What goes into hello and welcome: the settings, brought into the range that the wire has.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            window: self.window.count.clamp(1, wire::MAX_WINDOW),
            window_bytes: self.window.bytes.clamp(1, Seq::MAX.get()),
            max_payload: self.max_payload.clamp(1, Seq::MAX.get()),
        }
    }

    pub(super) fn inbox(&self) -> inbox::Config {
        let Self { acceptance, lease, deferral, .. } = *self;
        let (window, max_payload) = (self.quota(), self.limits().max_payload);
        inbox::Config { window, max_payload, acceptance, lease, deferral }
    }

    pub(super) const fn outbox(&self) -> outbox::Config {
        let Self { outbox: quota, attempts, ack_timeout, void_timeout, .. } = *self;
        outbox::Config { quota, attempts, ack_timeout, void_timeout }
    }
}
