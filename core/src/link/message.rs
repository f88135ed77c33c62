//! Messages as applications send and take them.

use core::time::Duration;

use crate::id::Lane;
use crate::id::MessageId;
use crate::id::Name;
use crate::link::handover::Handed;
use crate::link::handover::Handle;
use crate::wire;
use crate::wire::Payload;
use crate::wire::UncheckedPayload;

/// What an application sends.
///
/// ```
/// use core::time::Duration;
/// use reattach_core::id::{Lane, Name};
/// use reattach_core::link::Outgoing;
/// use reattach_core::wire::Payload;
///
/// let message = Outgoing::from(Payload::new("ship it")?)
///     .in_lane(Name::new("session 7")?)
///     .within(Duration::from_secs(30))
///     .idempotent();
/// # assert!(message.is_idempotent && message.lane != Lane::DEFAULT);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// The application's own name for it; where there is none the machine mints one.
    pub id: Option<MessageId>,
    /// What it is in order with. Lanes do not block each other.
    pub lane: Lane,
    /// How long it may take until it is withdrawn; `None` leaves it to [`Config::age`](crate::link::Config::age).
    pub within: Option<Duration>,
    /// Whether it may be sent again, under the same name, when nobody can tell what became of it. It then ends as delivered
    /// or unknown.
    pub is_idempotent: bool,
    /// Whether it is worth nothing while the peer cannot be reached. Such a message fails at once then.
    pub is_fail_fast: bool,
    /// How often it may be handed over, 1 to [`wire::MAX_HANDS`]: once, and again after each deferral. Default
    /// [`wire::DEFAULT_HANDS`].
    pub hands: u32,
    /// What it carries.
    pub payload: Payload,
}

impl From<Payload> for Outgoing {
    fn from(payload: Payload) -> Self {
        let hands = wire::DEFAULT_HANDS;
        let lane = Lane::DEFAULT;
        Self { id: None, lane, within: None, is_idempotent: false, is_fail_fast: false, hands, payload }
    }
}

impl Outgoing {
    /// Under a name of the application's own.
    #[must_use]
    pub const fn named(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// In order with the other messages of a lane.
    #[must_use]
    pub fn in_lane(mut self, lane: impl Into<Lane>) -> Self {
        self.lane = lane.into();
        self
    }

    /// Withdrawn when it takes longer.
    #[must_use]
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Sent again when nobody can tell what became of it.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// Now, or not at all, while the peer cannot be reached.
    #[must_use]
    pub const fn fail_fast(mut self) -> Self {
        self.is_fail_fast = true;
        self
    }

    /// Handed over at most so often, brought into 1 to [`wire::MAX_HANDS`].
    #[must_use]
    pub fn hands(mut self, hands: u32) -> Self {
        self.hands = hands.clamp(1, wire::MAX_HANDS);
        self
    }
}

/// What an application is handed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// A reliable message. With automatic acceptance taking it has accepted it.
    Message(Handed),
    /// An ephemeral message: the newest of its key.
    Ephemeral {
        /// What it is about.
        key: Name,
        /// What it carries. It has not been checked.
        payload: UncheckedPayload,
    },
}

impl Delivery {
    /// What it carries.
    #[must_use]
    pub const fn payload(&self) -> &UncheckedPayload {
        match self {
            Self::Message(Handed { payload, .. }) | Self::Ephemeral { payload, .. } => payload,
        }
    }

    /// Which of its hand-overs this is, from 1; an ephemeral message has one.
    #[must_use]
    pub const fn turn(&self) -> u32 {
        match self {
            Self::Message(handed) => handed.turn,
            Self::Ephemeral { .. } => 1,
        }
    }

    /// What to decide by, where the application decides.
    #[must_use]
    pub const fn handle(&self) -> Option<Handle> {
        match self {
            Self::Message(handed) => handed.handle,
            Self::Ephemeral { .. } => None,
        }
    }
}
