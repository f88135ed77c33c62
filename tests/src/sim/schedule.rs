//! What happens in one run: a plan, and acts at their times, all drawn from one seed before anything runs.
//!
//! Nothing is drawn while a schedule runs but by mixing the seed with the name of what it is drawn for. So acts can be left
//! out without changing what the others do, which is what makes a failing schedule small.

use std::time::Duration;

use reattach_core::client;
use reattach_core::client::OnSuperseded;
use reattach_core::connection;
use reattach_core::connection::MalformedBudget;
use reattach_core::link::Acceptance;
use reattach_core::link::Quota;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::time::Rate;

use super::chance::Chance;
use super::chance::mix;
use super::coverage::Coverage;
use super::run;
use crate::campaign;
use crate::campaign::Report;

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Where it comes from.
    pub seed: u64,
    /// What holds for the whole run.
    pub plan: Plan,
    /// What is done, and how long after the beginning, in the order of time. Each act has a number that it keeps.
    pub acts: Vec<(u32, Duration, Act)>,
}

/// What holds for a whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every client's configuration.
    pub client: client::Config,
    /// The server's.
    pub server: server::Config,
    /// The number of a message that something on the road does not let through, and dies of, also when all else is well.
    pub poison: Option<u32>,
    /// How many clients begin, each with a key of its own.
    pub clients: u8,
    /// How long everything travels at least, and at most.
    pub latency: (u64, u64),
    /// How many lanes messages are sent on.
    pub lanes: u8,
    /// How long a decision takes at least, and at most, in milliseconds.
    pub decides: (u64, u64),
    /// How often in a hundred an application accepts, rejects, puts off, abandons; what is left is never decided.
    pub verdicts: [u64; 4],
    /// How much later than asked for timers fire, in milliseconds.
    pub lateness: u64,
    /// Whether bytes leave as soon as they are written.
    pub is_swift: bool,
    /// How long credentials are good, where they run out.
    pub expiry: Option<Duration>,
    /// How long the acts go on.
    pub span: Duration,
}

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client's: that many among those that live.
    Client(u8),
    /// The server's.
    Server,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    pub(super) way: Way,
    pub(super) lane: u8,
    pub(super) within: Option<u64>,
    pub(super) is_idempotent: bool,
    pub(super) is_fail_fast: bool,
    pub(super) hands: Option<u32>,
    pub(super) is_named: bool,
    pub(super) padding: usize,
    pub(super) count: u8,
}

/// How a program comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// From its very state.
    Current,
    /// From the copy that was made last, if one was.
    Stale,
    /// With its key, and nothing else.
    Lost,
}

/// What a stranger does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// Says what is no frame.
    Garbage,
    /// Knows the name of a connection and not its key.
    Keyless,
    /// Has the key, and is somebody else.
    OtherAccount,
    /// Repeats an old hello, to the byte.
    Ghost,
    /// Has the key, calls itself another instance, and cannot read the challenge.
    Blind,
    /// Opens many transports and says nothing.
    Flood,
    /// Says something before its hello: which of a few things.
    Forward(u8),
    /// Speaks binary.
    Binary,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// An application sends.
    Send(u8, Post),
    /// An application sends an ephemeral message.
    Ephemeral(u8, Way, u8),
    /// An application withdraws a message: so many before its last.
    Cancel(u8, Way, u8),
    /// An application needs more time for all that it has in hand.
    Extend(u8, Way, u64),
    /// A client's application closes, with so much patience; none is at once.
    Close(u8, Option<u64>),
    /// The server's application closes a connection.
    ServerClose(u8, Option<u64>),
    /// The server's application detaches one with a code.
    Detach(u8, u16),
    /// A client's application wants to connect now.
    Reconnect(u8),
    /// A client's application goes to sleep, for so long.
    Suspend(u8, u64),
    /// The server drains with so much patience, and runs on.
    Drain(u64),
    /// A connection is revoked.
    Revoke(u8),
    /// A wire is cut. Of what is on its way so many texts each way still come, and each end is told so much later, or never.
    Cut {
        /// Whose.
        seat: u8,
        /// How many texts still come, up and down.
        keep: [u8; 2],
        /// When the ends are told, the server's and the client's, in milliseconds.
        told: [Option<u64>; 2],
        /// The code that they are told.
        code: u16,
    },
    /// Nothing arrives on a wire for so long, one way or both.
    Stall {
        /// Whose.
        seat: u8,
        /// Up and down.
        ways: [bool; 2],
        /// How long.
        millis: u64,
    },
    /// A client's wires are slow from here on.
    Slow {
        /// Whose.
        seat: u8,
        /// Bytes a second.
        rate: u64,
    },
    /// A text is lost on its way.
    Drop {
        /// Whose.
        seat: u8,
        /// Which way.
        way: Way,
        /// Which of the texts on their way.
        nth: u8,
    },
    /// A text is damaged on its way.
    Garble {
        /// Whose.
        seat: u8,
        /// Which way.
        way: Way,
        /// Which of the texts on their way.
        nth: u8,
    },
    /// For so long transports do not open: they fail, or nothing is heard of them.
    Road {
        /// How they fail.
        error: Option<OpenError>,
        /// How long.
        millis: u64,
    },
    /// A program is stopped for so long.
    Pause {
        /// Whose.
        who: Who,
        /// How long.
        millis: u64,
    },
    /// A clock jumps.
    Clock {
        /// Whose.
        who: Who,
        /// How far.
        millis: i64,
    },
    /// An application reads nothing for so long.
    Unread {
        /// Whose.
        who: Who,
        /// How long.
        millis: u64,
    },
    /// The server's program dies and is back after so long.
    ServerCrash {
        /// How it comes back.
        back: Back,
        /// After how long.
        millis: u64,
    },
    /// The server's state is copied.
    ServerCopy,
    /// A client's program dies, and perhaps comes back at once. The server hears of it so much later, or never.
    ClientCrash {
        /// Which.
        seat: u8,
        /// How it comes back, if it does.
        back: Option<Back>,
        /// After how long the server hears of it.
        told: Option<u64>,
    },
    /// A client's state is copied.
    ClientCopy(u8),
    /// Another program begins with a client's key.
    Twin(u8),
    /// A stranger comes.
    Stranger(u8, Hostility),
    /// A machine is told something about a transport that has died.
    StaleInput(Who, u8),
}

/// The kinds of faults, of which each schedule draws some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cut,
    Stall,
    Slow,
    Drop,
    Garble,
    Road,
    Pause,
    Clock,
    Unread,
    ServerCrash,
    ClientCrash,
    Twin,
    Stranger,
    Leave,
    Hints,
}

const KINDS: [(u64, Kind); 15] = [
    (60, Kind::Cut),
    (35, Kind::Stall),
    (15, Kind::Slow),
    (25, Kind::Drop),
    (12, Kind::Garble),
    (20, Kind::Road),
    (20, Kind::Pause),
    (12, Kind::Clock),
    (25, Kind::Unread),
    (25, Kind::ServerCrash),
    (20, Kind::ClientCrash),
    (12, Kind::Twin),
    (15, Kind::Stranger),
    (18, Kind::Leave),
    (35, Kind::Hints),
];

impl campaign::Schedule for Schedule {
    const SIMULATOR: &'static str = "simulate";
    const TWICE: u64 = 1_000;
    type Coverage = Coverage;

    fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut plan = Plan::draw(&mut chance);
        let mut kinds = Vec::new();
        for (percent, kind) in KINDS {
            if chance.percent(percent) {
                kinds.push((chance.pick(&[1, 1, 3, 8]), kind));
            }
        }
        let count = chance.pick(&[6, 12, 20, 30, 50]);
        let (traffic, marks) = (chance.pick(&[40, 60, 80]), chance.percent(30));
        let mut acts = Vec::new();
        for number in 0..count {
            let span = u64::try_from(plan.span.as_millis()).expect("a short time");
            // Some things happen at once, and some wait for each other's end.
            let at = if marks { chance.below(span / 100 + 1) * 100 } else { chance.below(span + 1) };
            let act = if kinds.is_empty() || chance.percent(traffic) {
                Act::traffic(&mut chance, &plan)
            } else {
                let kind = chance.weighted(&kinds);
                Act::fault(&mut chance, kind)
            };
            acts.push((number, Duration::from_millis(at), act));
        }
        acts.sort_by_key(|(number, at, _)| (*at, *number));
        plan.poison = draw_poison(seed, &acts);
        Self { seed, plan, acts }
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn plan(&self) -> String {
        format!("{:?}", self.plan)
    }

    fn numbers(&self) -> Vec<u32> {
        self.acts.iter().map(|(number, ..)| *number).collect()
    }

    fn only(mut self, numbers: &[u32]) -> Self {
        self.acts.retain(|(number, ..)| numbers.contains(number));
        self
    }

    fn run(&self, coverage: &mut Coverage, tells: bool) -> Report {
        run(self, coverage, tells)
    }
}

/// In every tenth schedule one of the messages, the first of those that an act sends.
fn draw_poison(seed: u64, acts: &[(u32, Duration, Act)]) -> Option<u32> {
    let drawn = mix(seed, 0x0070_6f69_736f_6e00);
    let sends: Vec<u32> =
        acts.iter().filter(|(.., act)| matches!(act, Act::Send(..))).map(|(number, ..)| *number).collect();
    let index = usize::try_from(drawn / 10).ok()?.checked_rem(sends.len())?;
    drawn.is_multiple_of(10).then(|| sends[index] * 8)
}

fn millis(chance: &mut Chance, choices: &[u64]) -> Duration {
    Duration::from_millis(chance.pick(choices))
}

impl Plan {
    fn draw(chance: &mut Chance) -> Self {
        let mut client = client::Config::default();
        client.connect_timeout = Duration::from_secs(2);
        client.hello_timeout = Duration::from_secs(2);
        client.reconnect.backoff.base = Duration::from_millis(100);
        client.reconnect.backoff.cap = Duration::from_secs(2);
        client.reconnect.breaker.failures = 2;
        client.reconnect.breaker.pause = Duration::from_secs(2);
        client.reconnect.attempts = chance.pick(&[None, None, Some(5), Some(2), Some(1)]);
        client.reconnect.stable = Duration::from_secs(1);
        client.reconnect.restart_min = Duration::from_millis(200);
        client.reconnect.restart_max = Duration::from_millis(600);
        client.on_superseded = chance.pick(&[OnSuperseded::NewIdentity, OnSuperseded::NewIdentity, OnSuperseded::Stop]);
        client.connection = draw_connection(chance);
        let mut server = server::Config::default();
        server.hello_timeout = Duration::from_secs(3);
        server.authenticate = chance.percent(25);
        server.detach_ttl = millis(chance, &[10_000, 10_000, 3_000]);
        server.suspended_ttl = Duration::from_secs(30);
        server.receipts.ttl = millis(chance, &[60_000, 5_000]);
        server.receipts.max = chance.pick(&[100, 100, 1, 0]);
        server.receipts.max_per_principal = 4;
        server.max_connections = chance.pick(&[100, 100, 6]);
        server.max_per_principal = 4;
        server.connection = draw_connection(chance);
        let verdicts =
            chance.pick(&[[100, 0, 0, 0], [60, 10, 20, 5], [30, 20, 40, 5], [80, 0, 20, 0], [40, 10, 10, 10]]);
        Self {
            client,
            server,
            poison: None,
            clients: chance.weighted(&[(6, 1), (3, 2), (1, 3)]),
            latency: chance.pick(&[(1, 1), (10, 10), (10, 40), (50, 200), (0, 0)]),
            lanes: chance.pick(&[1, 1, 2, 3]),
            decides: chance.pick(&[(0, 0), (0, 100), (50, 500), (200, 6_000)]),
            verdicts,
            lateness: chance.pick(&[0, 0, 0, 3, 80]),
            is_swift: chance.percent(70),
            expiry: if chance.percent(20) { Some(Duration::from_secs(5)) } else { None },
            span: millis(chance, &[500, 3_000, 12_000, 12_000, 30_000]),
        }
    }

    /// A number that is drawn for one thing alone.
    pub(super) const fn latency(&self, drawn: u64) -> u64 {
        self.latency.0 + drawn % (self.latency.1 - self.latency.0 + 1)
    }
}

fn draw_connection(chance: &mut Chance) -> connection::Config {
    let mut config = connection::Config::default();
    let link = &mut config.link;
    link.outbox = draw_quota(chance);
    link.window = draw_quota(chance);
    link.max_payload = chance.pick(&[4_096, 4_096, 300]);
    link.acceptance = chance.pick(&[Acceptance::Automatic, Acceptance::Manual]);
    link.lease = millis(chance, &[4_000, 1_000]);
    link.deferral = millis(chance, &[300, 1_500]);
    link.attempts = chance.pick(&[4, 4, 2, 1]);
    link.ack_timeout = Duration::from_millis(500);
    link.void_timeout = Duration::from_secs(2);
    link.age = millis(chance, &[600_000, 600_000, 8_000]);
    link.ack_delay = millis(chance, &[20, 0, 200]);
    link.ephemerals = 2;
    link.ephemeral_bytes = 64;
    config.heartbeat.idle = Duration::from_secs(3);
    config.heartbeat.dead_after = Duration::from_secs(8);
    config.heartbeat.min_rate = Rate(256);
    config.heartbeat.probe_timeout = Duration::from_millis(1_500);
    config.heartbeat.gap = Duration::from_secs(2);
    config.flow.write_budget = chance.pick(&[4_096, 512, 64]);
    config.flow.stalled_after = Duration::from_secs(8);
    config.flow.min_rate = Rate(256);
    config.malformed = MalformedBudget { count: 2, per: Duration::from_secs(6) };
    config
}

fn draw_quota(chance: &mut Chance) -> Quota {
    Quota { count: chance.pick(&[2, 3, 4, 4, 8]), bytes: chance.pick(&[60, 250, 2_000, 2_000]) }
}

impl Act {
    /// What applications do.
    fn traffic(chance: &mut Chance, plan: &Plan) -> Self {
        let seat = chance.pick(&[0, 0, 1, 2]);
        let way = chance.pick(&[Way::Up, Way::Down]);
        match chance.below(100) {
            0..=79 => {
                let is_special = chance.percent(40);
                let or = |chance: &mut Chance, percent| is_special && chance.percent(percent);
                let lane = u8::try_from(chance.below(u64::from(plan.lanes))).expect("few lanes");
                Self::Send(
                    seat,
                    Post {
                        way,
                        lane,
                        within: or(chance, 30).then(|| chance.pick(&[0, 30, 400, 3_000])),
                        is_idempotent: or(chance, 40),
                        is_fail_fast: or(chance, 15),
                        hands: or(chance, 30).then(|| chance.pick(&[1, 2, 8])),
                        is_named: or(chance, 30),
                        padding: chance.pick(&[0, 0, 0, 20, 100, 280, 320]),
                        // Up to three times what the smallest outbox takes.
                        count: chance.pick(&[1, 1, 2, 4, 7]),
                    },
                )
            }
            80..=86 => Self::Ephemeral(seat, way, chance.pick(&[0, 1, 2])),
            87..=95 => Self::Cancel(seat, way, chance.pick(&[0, 0, 1, 3])),
            _ => Self::Extend(seat, way, chance.pick(&[0, 500, 8_000])),
        }
    }

    fn fault(chance: &mut Chance, kind: Kind) -> Self {
        let seat = chance.pick(&[0, 0, 1, 2]);
        let who = chance.pick(&[Who::Client(seat), Who::Server]);
        let way = chance.pick(&[Way::Up, Way::Down]);
        match kind {
            Kind::Cut => {
                let told = |chance: &mut Chance| {
                    chance.pick(&[Some(0), Some(0), Some(5), Some(200), Some(4_000), Some(60_000), None])
                };
                Self::Cut {
                    seat,
                    keep: [chance.pick(&[0, 0, 1, 2, 9]), chance.pick(&[0, 0, 1, 2, 9])],
                    told: [told(chance), told(chance)],
                    code: chance.pick(&[1006, 1006, 1000, 1001, 1011, 1012, 1013]),
                }
            }
            Kind::Stall => {
                let ways = chance.pick(&[[true, true], [true, false], [false, true]]);
                Self::Stall { seat, ways, millis: chance.pick(&[30, 700, 3_000, 20_000]) }
            }
            Kind::Slow => Self::Slow { seat, rate: chance.pick(&[200, 400, 2_000]) },
            Kind::Drop => Self::Drop { seat, way, nth: chance.pick(&[0, 0, 1, 2]) },
            Kind::Garble => Self::Garble { seat, way, nth: chance.pick(&[0, 0, 1, 2]) },
            Kind::Road => {
                let refused = |status, retry_after| Some(OpenError::Refused { status, retry_after });
                let error = chance.pick(&[
                    None,
                    Some(OpenError::Unreachable),
                    refused(503, Some(Duration::from_millis(800))),
                    refused(500, None),
                    refused(401, None),
                    refused(410, None),
                    Some(OpenError::NoCredentials),
                ]);
                Self::Road { error, millis: chance.pick(&[300, 4_000, 15_000, 30_000]) }
            }
            Kind::Pause => Self::Pause { who, millis: chance.pick(&[100, 1_500, 5_000, 40_000]) },
            Kind::Clock => Self::Clock { who, millis: chance.pick(&[400, 5_000, 60_000, -300, -3_000]) },
            Kind::Unread => Self::Unread { who, millis: chance.pick(&[200, 3_000, 20_000]) },
            Kind::ServerCrash => match chance.below(3) {
                0 => Self::ServerCopy,
                _ => {
                    let back = chance.pick(&[Back::Current, Back::Stale, Back::Stale, Back::Lost]);
                    Self::ServerCrash { back, millis: chance.pick(&[0, 100, 2_000]) }
                }
            },
            Kind::ClientCrash => match chance.below(4) {
                0 => Self::ClientCopy(seat),
                _ => {
                    let back = [Some(Back::Current), Some(Back::Current), Some(Back::Stale), Some(Back::Lost), None];
                    let told = chance.pick(&[Some(0), Some(100), Some(5_000), None]);
                    Self::ClientCrash { seat, back: chance.pick(&back), told }
                }
            },
            Kind::Twin => Self::Twin(seat),
            Kind::Stranger => {
                let forward = Hostility::Forward(u8::try_from(chance.below(6)).expect("a few"));
                let hostility = chance.pick(&[
                    Hostility::Garbage,
                    Hostility::Keyless,
                    Hostility::OtherAccount,
                    Hostility::Ghost,
                    Hostility::Ghost,
                    Hostility::Blind,
                    Hostility::Flood,
                    forward,
                    Hostility::Binary,
                ]);
                Self::Stranger(seat, hostility)
            }
            Kind::Leave => match chance.below(8) {
                0..=1 => Self::Close(seat, Some(chance.pick(&[0, 300, 5_000]))),
                2 => Self::Close(seat, None),
                3 => Self::ServerClose(seat, Some(chance.pick(&[0, 300, 5_000]))),
                4 => Self::ServerClose(seat, None),
                5..=6 => Self::Drain(chance.pick(&[0, 200, 3_000])),
                _ => Self::Revoke(seat),
            },
            Kind::Hints => match chance.below(6) {
                0..=1 => Self::Reconnect(seat),
                2 => Self::Suspend(seat, chance.pick(&[100, 5_000, 20_000])),
                3 => Self::Detach(seat, chance.pick(&[1001, 1012, 1013, 4400])),
                _ => Self::StaleInput(who, chance.pick(&[0, 1, 2, 3, 4])),
            },
        }
    }
}
