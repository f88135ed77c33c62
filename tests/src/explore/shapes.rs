//! What is explored: how many messages, which faults, and how the machines are set up.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::OnSuperseded;
use reattach_core::connection;
use reattach_core::link::Acceptance;
use reattach_core::link::Quota;
use reattach_core::server;

use super::fingerprint::NEVER;

/// What a restarted server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// Everything: each frame that was written and each hand-over that was made.
    Current,
    /// What it knew at some moment before.
    Stale,
    /// Nothing.
    None,
}

/// What may still be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages that each client sends.
    pub up: [u8; 2],
    /// Messages that the server sends.
    pub down: u8,
    /// Wires that are cut.
    pub cuts: u8,
    /// Restarts of the server.
    pub restarts: u8,
    /// Restarts of a client, from its very state.
    pub client_restarts: u8,
    /// Copies of the server that are put aside for a restart.
    pub copies: u8,
    /// Texts that are lost on a wire that goes on.
    pub losses: u8,
    /// Messages that are withdrawn.
    pub cancels: u8,
    /// Timers that fire although something is on its way.
    pub rushes: u8,
    /// Clients that begin with the key of the first one.
    pub twins: u8,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What it is called.
    pub name: &'static str,
    /// What may be done in it.
    pub budget: Budget,
    /// With what a server may come back.
    pub memories: &'static [Memory],
    /// Whether applications decide, rather than accept by taking.
    pub is_manual: bool,
    /// Whether applications take what comes at once.
    pub is_eager: bool,
    /// Whether an asked transport opens at some later moment, rather than at once.
    pub opens_late: bool,
    /// Whether messages may be sent again when nobody can tell.
    pub is_idempotent: bool,
    /// How long messages may take.
    pub within: Option<Duration>,
    /// How long the server keeps the state of a client that is gone.
    pub detach_ttl: Duration,
    /// How long a message may be unsettled before the peer is asked.
    pub ack_timeout: Duration,
    /// How long a report waits for company.
    pub ack_delay: Duration,
    /// How many attempts a message has.
    pub attempts: u32,
    /// What an evicted client does.
    pub on_superseded: OnSuperseded,
    /// How many messages a window holds.
    pub window: u32,
    /// Whether messages take turns between two lanes.
    pub has_lanes: bool,
}

impl Shape {
    const fn plain(name: &'static str, messages: u8, cuts: u8, restarts: u8) -> Self {
        let budget = Budget {
            up: [messages, 0],
            down: messages,
            cuts,
            restarts,
            client_restarts: 0,
            copies: 0,
            losses: 0,
            cancels: 0,
            rushes: 0,
            twins: 0,
        };
        Self {
            name,
            budget,
            memories: &[Memory::None],
            is_manual: false,
            is_eager: false,
            opens_late: false,
            is_idempotent: false,
            within: None,
            detach_ttl: NEVER,
            ack_timeout: NEVER,
            ack_delay: Duration::ZERO,
            attempts: 4,
            on_superseded: OnSuperseded::NewIdentity,
            window: 4,
            has_lanes: false,
        }
    }

    /// Every shape, the small ones first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut shapes = Self::small();
        shapes.extend(Self::large());
        shapes
    }

    /// The shape of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|shape| shape.name == name)
    }

    /// Shapes that are searched within seconds.
    #[must_use]
    pub fn small() -> Vec<Self> {
        let one = Self::plain("(1,1,0)", 1, 1, 0);
        let quiet = Self::plain("(2,0,0)", 2, 0, 0);
        let restart = Self::plain("(1,1,1)", 1, 1, 1);
        let mut current = Self { memories: &[Memory::Current], ..Self::plain("current copy", 1, 1, 1) };
        current.budget.down = 1;
        let mut stale = Self { memories: &[Memory::Stale], ..Self::plain("stale copy", 1, 0, 1) };
        stale.budget.copies = 1;
        let mut cancel = Self { is_manual: true, ..Self::plain("cancel", 1, 1, 0) };
        (cancel.budget.down, cancel.budget.cancels) = (0, 1);
        let mut deferral = Self { is_manual: true, ..Self::plain("deferral", 2, 0, 0) };
        deferral.budget.down = 0;
        let mut expiry = Self { detach_ttl: BACKOFF, ..Self::plain("expiry", 1, 1, 0) };
        expiry.budget.down = 1;
        let deadline = Self { within: Some(Duration::from_secs(1)), ..Self::plain("deadline", 1, 1, 0) };
        let mut probe = Self { ack_timeout: Duration::from_secs(5), ..Self::plain("probe", 1, 0, 0) };
        probe.budget.losses = 1;
        let mut twins = Self::plain("take-over", 1, 0, 0);
        (twins.budget.up, twins.budget.down, twins.budget.twins) = ([1, 0], 1, 1);
        let mut client = Self::plain("client restart", 1, 0, 0);
        client.budget.client_restarts = 1;
        let mut lanes = Self { has_lanes: true, is_manual: true, ..Self::plain("two lanes", 2, 0, 0) };
        lanes.budget.down = 0;
        let mut attempts = Self { attempts: 2, ..Self::plain("attempts, one message", 1, 3, 0) };
        attempts.budget.down = 0;
        vec![
            quiet, one, restart, current, stale, cancel, deferral, expiry, deadline, probe, twins, client, lanes,
            attempts,
        ]
    }

    /// Shapes that take minutes, or more memory than there is.
    #[must_use]
    pub fn large() -> Vec<Self> {
        let mut welcome = Self::plain("welcome lost twice", 1, 3, 0);
        welcome.budget.down = 1;
        let mut late = Self { opens_late: true, ..Self::plain("late close", 1, 2, 0) };
        late.budget.rushes = 1;
        let mut current = Self { memories: &[Memory::Current], ..Self::plain("current copy, (2,1,1)", 2, 1, 1) };
        current.budget.down = 1;
        let mut stale = Self { memories: &[Memory::Stale], ..Self::plain("stale copy, (1,1,1)", 1, 1, 1) };
        stale.budget.copies = 1;
        let mut idempotent = Self {
            is_idempotent: true,
            memories: &[Memory::Stale, Memory::None],
            ..Self::plain("idempotent", 1, 1, 1)
        };
        (idempotent.budget.copies, idempotent.budget.down) = (1, 1);
        let mut cancel = Self { is_manual: true, ..Self::plain("cancel, (2,1,0)", 2, 1, 0) };
        (cancel.budget.down, cancel.budget.cancels, cancel.budget.rushes) = (0, 2, 1);
        let mut deferral = Self { is_manual: true, ..Self::plain("deferral, (2,1,0)", 2, 1, 0) };
        deferral.budget.down = 0;
        let mut expiry = Self { detach_ttl: BACKOFF, is_manual: true, ..Self::plain("expiry, (2,2,0)", 2, 2, 0) };
        (expiry.budget.down, expiry.budget.rushes) = (1, 1);
        let mut deadline = Self { within: Some(Duration::from_secs(1)), ..Self::plain("deadline, (2,2,0)", 2, 2, 0) };
        (deadline.budget.down, deadline.budget.rushes) = (0, 1);
        let mut attempts = Self { attempts: 2, ..Self::plain("attempts", 1, 3, 0) };
        (attempts.budget.down, attempts.budget.up) = (0, [2, 0]);
        let mut probe = Self { ack_timeout: Duration::from_secs(5), ..Self::plain("probe, (2,1,0)", 2, 1, 0) };
        (probe.budget.losses, probe.budget.down) = (1, 1);
        let mut void = Self { ack_timeout: Duration::from_secs(5), ..Self::plain("lost void", 2, 1, 0) };
        (void.budget.down, void.budget.losses, void.budget.cancels) = (0, 1, 1);
        let mut hands =
            Self { memories: &[Memory::Current], is_manual: true, ..Self::plain("current copy, hands", 2, 1, 1) };
        hands.budget.down = 0;
        let mut narrow = Self { window: 2, is_manual: true, ..Self::plain("narrow window", 3, 1, 0) };
        (narrow.budget.down, narrow.budget.cancels) = (0, 1);
        let mut twins = Self::plain("take-over, (1,1,0)", 1, 1, 0);
        (twins.budget.up, twins.budget.down, twins.budget.twins) = ([1, 1], 1, 1);
        let mut stopped = Self { on_superseded: OnSuperseded::Stop, ..Self::plain("take-over, stopping", 1, 1, 0) };
        (stopped.budget.up, stopped.budget.down, stopped.budget.twins) = ([1, 1], 1, 1);
        let mut client = Self::plain("client restart, (2,1,0)", 2, 1, 0);
        (client.budget.client_restarts, client.budget.down) = (1, 1);
        let mut held = Self { is_manual: true, ..Self::plain("client restart, hands", 0, 1, 0) };
        (held.budget.client_restarts, held.budget.down) = (1, 2);
        let mut lanes = Self { has_lanes: true, is_manual: true, ..Self::plain("two lanes, (2,1,0)", 2, 1, 0) };
        lanes.budget.down = 0;
        vec![
            client,
            held,
            lanes,
            welcome,
            late,
            attempts,
            idempotent,
            cancel,
            deferral,
            deadline,
            expiry,
            probe,
            void,
            hands,
            narrow,
            current,
            stale,
            twins,
            stopped,
            Self::plain("(2,1,1)", 2, 1, 1),
            Self::plain("(2,2,0)", 2, 2, 0),
            Self { is_eager: true, ..Self::plain("(3,2,0)", 3, 2, 0) },
            Self { is_eager: true, ..Self::plain("(2,2,1)", 2, 2, 1) },
            Self { is_eager: true, ..Self::plain("(2,3,1)", 2, 3, 1) },
            Self { is_eager: true, ..Self::plain("(3,3,0)", 3, 3, 0) },
        ]
    }

    /// The settings of both sides' connections.
    pub(super) fn connection(&self) -> connection::Config {
        let mut config = connection::Config::default();
        config.link.outbox = Quota { count: 4, bytes: 1_000 };
        config.link.window = Quota { count: self.window, bytes: 1_000 };
        config.link.max_payload = 200;
        config.link.acceptance = if self.is_manual { Acceptance::Manual } else { Acceptance::Automatic };
        config.link.lease = LEASE;
        config.link.attempts = self.attempts;
        config.link.ack_timeout = self.ack_timeout;
        config.link.void_timeout = Duration::from_secs(30);
        config.link.age = NEVER * 2;
        config.link.ack_delay = self.ack_delay;
        config.heartbeat.idle = NEVER;
        config.heartbeat.dead_after = NEVER * 2;
        config
    }

    /// The settings of a client.
    pub(super) fn client(&self) -> client::Config {
        let mut config = client::Config::default();
        config.reconnect.backoff.base = BACKOFF;
        config.reconnect.backoff.cap = BACKOFF;
        config.reconnect.backoff.jitter = false;
        config.reconnect.attempts = None;
        config.reconnect.stable = NEVER;
        config.on_superseded = self.on_superseded;
        config.connection = self.connection();
        config
    }

    /// The settings of the server.
    pub(super) fn server(&self) -> server::Config {
        let mut config = server::Config::default();
        (config.detach_ttl, config.suspended_ttl) = (self.detach_ttl, self.detach_ttl);
        config.receipts.ttl = NEVER * 2;
        config.connection = self.connection();
        config
    }
}

/// How long an application may take to decide.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// How long a client waits before it tries again.
pub(super) const BACKOFF: Duration = Duration::from_secs(2);

/// What comes later than this from now is not waited for.
pub(super) const HORIZON: Duration = Duration::from_secs(10 * 60);
