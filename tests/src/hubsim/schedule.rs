//! What happens in a run, drawn whole from its seed: a plan, and acts at their times.

use core::time::Duration;

use reattach_driver::testing::Direction;

use super::coverage::Coverage;
use super::run;
use super::strangers::Stranger;
use crate::campaign;
use crate::campaign::Report;
use crate::sim::Chance;

/// How everything is set up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which principal each client is of.
    pub clients: Vec<usize>,
    /// Which principal each session is of.
    pub sessions: Vec<usize>,
    /// How many events a session's log keeps.
    pub log: usize,
    /// How long it keeps them.
    pub age: Duration,
    /// How long the server keeps a connection without a transport.
    pub detach_ttl: Duration,
    /// How long one that was suspended.
    pub suspended_ttl: Duration,
    /// How long a suspended session has no owner.
    pub session_ttl: Duration,
    /// How many requests may wait.
    pub max_pending: usize,
    /// How many questions may be open in a session.
    pub max_open: usize,
    /// Of how many questions it is known what became of them.
    pub max_remembered: usize,
    /// How long.
    pub remembered: Duration,
    /// How often in a hundred a person answers what is shown.
    pub answers: u64,
    /// How long a person thinks at most.
    pub thinks: Duration,
    /// How long bytes take, at most.
    pub delay: Duration,
    /// How often in a hundred a retry of a client may fail before it stops trying: never, or as configured.
    pub stops_trying: bool,
    /// How long the acts take.
    pub lasts: Duration,
}

impl Plan {
    /// Whether nothing is ever dropped from a log.
    #[must_use]
    pub const fn is_roomy(&self) -> bool {
        self.log > 1_000
    }
}

/// From where a client watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The start.
    Start,
    /// Now.
    Now,
    /// Where it stopped, if it watched before.
    Position,
}

/// What whoever serves a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Answers at once.
    Answer,
    /// Answers after a while.
    Late(Duration),
    /// Tells so often how far it is, this long apart, and answers.
    Progress(u64, Duration),
    /// Refuses.
    Refuse,
    /// Drops the request.
    GiveUp,
    /// Never answers.
    Never,
    /// Asks its sender something first.
    AskBack,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// What is done about it.
    pub work: Work,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How long nothing may be heard of it.
    pub idle: Option<Duration>,
}

/// What people choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// It may.
    Allow,
    /// It may, with this input instead.
    Updated(u64),
    /// It may not.
    Deny,
}

/// One thing that happens. Clients and sessions are named by their place in the plan.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Act {
    Watch { client: usize, session: usize, from: From },
    Unwatch { client: usize, session: usize },
    Call { client: usize, to_server: bool, ask: Ask },
    Batch { client: usize, to_server: bool, asks: Vec<Ask> },
    Withdraw { nth: usize },
    Abort { client: usize },
    Answer { client: usize, session: usize, nth: usize, chosen: Chosen },
    RawAnswer { client: usize, nth: usize, chosen: Chosen, then: Option<Chosen> },
    Look { client: usize, session: usize, is_looking: bool },
    Own { client: usize, session: usize },
    Release { client: usize, session: usize },
    Sleep { client: usize, session: usize },
    Resume { client: usize, session: usize, takes: Duration, succeeds: bool },
    Publish { session: usize, count: usize, padding: usize },
    Snapshot { session: usize },
    Question { session: usize, timeout: Option<Duration> },
    TakeBack { nth: usize },
    Remove { session: usize },
    Create { session: usize },
    Cut { client: usize },
    CutAfter { client: usize, direction: Direction, bytes: u64 },
    Stall { client: usize, directions: Vec<Direction>, lasts: Duration },
    Refuse { client: usize, lasts: Duration },
    Delay { client: usize, most: Duration },
    Suspend { client: usize, lasts: Duration },
    Reconnect { client: usize },
    Replace { client: usize, same_key: bool },
    Restart { pause: Duration },
    Twin { client: usize },
    Leap { client: Option<usize>, by: Duration },
    Piece { client: usize, most: usize },
    Come { stranger: Stranger, stays: Duration },
    Nonsense { client: usize, session: usize, nth: usize },
}

impl Act {
    /// A word for its kind.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Watch { .. } => "act Watch",
            Self::Unwatch { .. } => "act Unwatch",
            Self::Call { .. } => "act Call",
            Self::Batch { .. } => "act Batch",
            Self::Withdraw { .. } => "act Withdraw",
            Self::Abort { .. } => "act Abort",
            Self::Answer { .. } => "act Answer",
            Self::RawAnswer { .. } => "act RawAnswer",
            Self::Look { .. } => "act Look",
            Self::Own { .. } => "act Own",
            Self::Release { .. } => "act Release",
            Self::Sleep { .. } => "act Sleep",
            Self::Resume { .. } => "act Resume",
            Self::Publish { .. } => "act Publish",
            Self::Snapshot { .. } => "act Snapshot",
            Self::Question { .. } => "act Question",
            Self::TakeBack { .. } => "act TakeBack",
            Self::Remove { .. } => "act Remove",
            Self::Create { .. } => "act Create",
            Self::Cut { .. } => "act Cut",
            Self::CutAfter { .. } => "act CutAfter",
            Self::Stall { directions, .. } if directions.len() == 1 => "act Stall one way",
            Self::Stall { .. } => "act Stall",
            Self::Refuse { .. } => "act Refuse",
            Self::Delay { .. } => "act Delay",
            Self::Suspend { .. } => "act Suspend",
            Self::Reconnect { .. } => "act Reconnect",
            Self::Replace { same_key: true, .. } => "act Replace same key",
            Self::Replace { .. } => "act Replace",
            Self::Restart { .. } => "act Restart",
            Self::Twin { .. } => "act Twin",
            Self::Leap { client: Some(_), .. } => "act Leap",
            Self::Leap { .. } => "act Leap of the server",
            Self::Piece { .. } => "act Piece",
            Self::Come { stranger: Stranger::Noise, .. } => "act Come Noise",
            Self::Come { stranger: Stranger::Silent, .. } => "act Come Silent",
            Self::Come { stranger: Stranger::Garbage, .. } => "act Come Garbage",
            Self::Come { stranger: Stranger::Binary, .. } => "act Come Binary",
            Self::Come { stranger: Stranger::TooSoon, .. } => "act Come TooSoon",
            Self::Come { stranger: Stranger::Nobody, .. } => "act Come Nobody",
            Self::Come { stranger: Stranger::Huge, .. } => "act Come Huge",
            Self::Nonsense { .. } => "act Nonsense",
        }
    }
}

/// An act, its number, and when it happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// By which it is named.
    pub number: u32,
    /// When.
    pub at: Duration,
    /// What.
    pub act: Act,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What it was drawn from.
    pub seed: u64,
    /// How everything is set up.
    pub plan: Plan,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl campaign::Schedule for Schedule {
    const SIMULATOR: &'static str = "simulate_hub";
    const TWICE: u64 = 100;
    type Coverage = Coverage;

    fn of(seed: u64) -> Self {
        let chance = &mut Chance::new(seed);
        let plan = plan(chance);
        // Which kinds of faults and of work there are is drawn too: what hides behind one is seen without it.
        let has = std::array::from_fn::<_, 21, _>(|_| chance.percent(50));
        let count = chance.between(20, 90);
        let mut times: Vec<u64> = (0..count).map(|_| chance.below(millis(plan.lasts))).collect();
        times.sort_unstable();
        let mut steps = Vec::new();
        for (number, time) in (1..).zip(times) {
            let act = act(chance, &plan, &has);
            steps.push(Step { number, at: Duration::from_millis(time + u64::from(number)), act });
        }
        Self { seed, plan, steps }
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn plan(&self) -> String {
        format!("{:?}", self.plan)
    }

    fn numbers(&self) -> Vec<u32> {
        self.steps.iter().map(|step| step.number).collect()
    }

    fn only(mut self, numbers: &[u32]) -> Self {
        self.steps.retain(|step| numbers.contains(&step.number));
        self
    }

    fn run(&self, coverage: &mut Coverage, tells: bool) -> Report {
        run(self, coverage, tells)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a run does not take that long")
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("an index is small")
}

fn plan(chance: &mut Chance) -> Plan {
    let clients = (0..chance.between(2, 4)).map(|_| index(chance.weighted(&[(3, 0), (1, 1)]))).collect();
    let sessions = (0..chance.between(1, 3)).map(|_| index(chance.weighted(&[(4, 0), (1, 1)]))).collect();
    let log = chance.weighted(&[(4, 100_000), (3, 4), (2, 12)]);
    Plan {
        clients,
        sessions,
        log,
        age: secs(if log > 1_000 { 86_400 } else { chance.pick(&[20, 86_400]) }),
        detach_ttl: secs(chance.pick(&[15, 60])),
        suspended_ttl: secs(chance.pick(&[30, 120])),
        session_ttl: secs(chance.pick(&[10, 40])),
        max_pending: chance.pick(&[256, 256, 4]),
        max_open: chance.pick(&[100, 100, 2]),
        max_remembered: chance.pick(&[1_000, 1_000, 1]),
        remembered: secs(chance.pick(&[600, 600, 3])),
        answers: chance.pick(&[0, 50, 90]),
        thinks: Duration::from_millis(chance.pick(&[50, 3_000, 30_000])),
        delay: Duration::from_millis(chance.pick(&[2, 15, 400])),
        stops_trying: chance.percent(50),
        lasts: secs(chance.pick(&[30, 120, 240])),
    }
}

fn ask(chance: &mut Chance) -> Ask {
    let late = Duration::from_millis(chance.below(20_000));
    let work = chance.weighted(&[
        (4, Work::Answer),
        (4, Work::Late(late)),
        (2, Work::Progress(1 + late.subsec_millis() as u64 % 6, late / 4)),
        (1, Work::Refuse),
        (1, Work::GiveUp),
        (2, Work::Never),
        (2, Work::AskBack),
    ]);
    let timeout = chance.weighted(&[(3, None), (1, Some(secs(3))), (2, Some(secs(150)))]);
    let idle = chance.weighted(&[(3, None), (1, Some(secs(8)))]);
    Ask { work, timeout, idle }
}

fn act(chance: &mut Chance, plan: &Plan, has: &[bool; 21]) -> Act {
    let client = index(chance.below(plan.clients.len() as u64));
    let session = index(chance.below(plan.sessions.len() as u64));
    let nth = index(chance.below(6));
    let lasts = Duration::from_millis(chance.weighted(&[
        (3, chance.clone().between(200, 4_000)),
        (2, chance.clone().between(4_000, 40_000)),
        (1, chance.clone().between(40_000, 150_000)),
    ]));
    let direction = chance.pick(&[Direction::ToServer, Direction::ToClient]);
    let chosen = chance.pick(&[Chosen::Allow, Chosen::Updated(chance.clone().below(1_000)), Chosen::Deny]);
    let is_so = chance.percent(50);
    let to_server = chance.percent(60);
    let from = chance.weighted(&[(1, From::Start), (1, From::Now), (2, From::Position)]);
    let on = |index: usize, weight: u64| if has[index] { weight } else { 0 };
    let kind = chance.weighted(&[
        (10, 0),
        (4, 1),
        (on(0, 10), 2),
        (on(1, 3), 3),
        (on(0, 3), 4),
        (on(2, 1), 5),
        (6, 6),
        (on(3, 3), 7),
        (on(4, 3), 8),
        (on(5, 5), 9),
        (on(5, 2), 10),
        (on(5, 2), 11),
        (on(5, 2), 12),
        (14, 13),
        (on(6, 4), 14),
        (8, 15),
        (on(7, 2), 16),
        (on(8, 1), 17),
        (2, 18),
        (on(9, 6), 19),
        (on(9, 5), 20),
        (on(10, 4), 21),
        (on(11, 2), 22),
        (on(12, 2), 23),
        (on(13, 3), 24),
        (on(13, 2), 25),
        (on(14, 2), 26),
        (on(15, 1), 27),
        (on(16, 2), 28),
        (on(17, 3), 29),
        (on(18, 3), 30),
        (on(19, 4), 31),
        (on(20, 4), 32),
    ]);
    match kind {
        0 => Act::Watch { client, session, from },
        1 => Act::Unwatch { client, session },
        2 => Act::Call { client, to_server, ask: ask(chance) },
        3 => Act::Batch { client, to_server, asks: (0..chance.between(1, 4)).map(|_| ask(chance)).collect() },
        4 => Act::Withdraw { nth },
        5 => Act::Abort { client },
        6 => Act::Answer { client, session, nth: nth % 3, chosen },
        7 => {
            let other = Chosen::Updated(chance.below(1_000));
            Act::RawAnswer { client, nth, chosen, then: chance.pick(&[None, None, Some(chosen), Some(other)]) }
        }
        8 => Act::Look { client, session, is_looking: is_so },
        9 => Act::Own { client, session },
        10 => Act::Release { client, session },
        11 => Act::Sleep { client, session },
        12 => Act::Resume { client, session, takes: lasts / 4, succeeds: is_so },
        13 => {
            let padding = index(chance.weighted(&[(6, 0), (2, 2_000), (1, 60_000)]));
            Act::Publish { session, count: index(chance.between(1, 8)), padding }
        }
        14 => Act::Snapshot { session },
        15 => Act::Question { session, timeout: chance.weighted(&[(2, None), (1, Some(secs(2))), (2, Some(lasts))]) },
        16 => Act::TakeBack { nth },
        17 => Act::Remove { session },
        18 => Act::Create { session },
        19 => Act::Cut { client },
        20 => Act::CutAfter { client, direction, bytes: chance.below(3_000) },
        21 => {
            let directions = if is_so { vec![direction] } else { vec![Direction::ToServer, Direction::ToClient] };
            Act::Stall { client, directions, lasts }
        }
        22 => Act::Refuse { client, lasts },
        23 => Act::Delay { client, most: Duration::from_millis(chance.pick(&[5, 300, 2_000])) },
        24 => Act::Suspend { client, lasts },
        25 => Act::Reconnect { client },
        26 => Act::Replace { client, same_key: is_so },
        27 => Act::Restart { pause: lasts / 8 },
        28 => Act::Twin { client },
        29 => Act::Leap { client: to_server.then_some(client), by: chance.pick(&[secs(4), lasts, secs(3_600)]) },
        // A handshake in smaller pieces is taken for an attack.
        30 => Act::Piece { client, most: chance.pick(&[40, 1_500, usize::MAX]) },
        31 => Act::Come { stranger: chance.pick(&Stranger::ALL), stays: lasts },
        _ => Act::Nonsense { client, session, nth: index(chance.below(100)) },
    }
}
