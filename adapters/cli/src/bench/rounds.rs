//! The measuring: both subjects in turns, so that what else the machine does meets both alike.

use std::time::Duration;
use std::time::Instant;

use crate::bench::Failed;
use crate::bench::Subject;
use crate::bench::case::Case;
use crate::bench::case::Kind;
use crate::bench::case::MISSED;
use crate::bench::gauge;
use crate::bench::host;
use crate::bench::host::Host;
use crate::bench::layered;
use crate::bench::orders::Order;
use crate::bench::orders::Process;
use crate::bench::raw;

/// What some messages took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) messages: u64,
    /// Of both processes; nothing where the system does not say it.
    pub(crate) cpu: Option<Duration>,
    pub(crate) wall: Duration,
}

/// What each subject took, round by round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) raw: Vec<Sample>,
    pub(crate) reattach: Vec<Sample>,
}

/// The bytes that a server holds for each idle connection; nothing where the system does not say it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) raw: Option<f64>,
    pub(crate) reattach: Option<f64>,
}

/// How long a subject warms up before its turn, as a part of it.
const WARM_UP: u32 = 4;

/// Measures a case. `tell` is called after each round.
///
/// Each round has connections and servers of its own: how a process came to lay out its memory, and a connection its buffers,
/// stays with it and can cost large messages twice the time. The median is to be over such chances too.
pub(crate) async fn measure<H: Host>(
    host: H,
    case: Case,
    runs: u32,
    time: Duration,
    tell: impl Fn(),
) -> Result<Samples, Failed> {
    let limit = PATIENCE + 4 * time;
    let mut samples = Samples::default();
    for run in 0..runs {
        let mut turns = [(Subject::Raw, &mut samples.raw), (Subject::Reattach, &mut samples.reattach)];
        // Whoever comes second finds the machine as the other left it.
        if run % 2 == 1 {
            turns.reverse();
        }
        for (subject, samples) in turns {
            let turn = async {
                let mut line = Line::open(host, subject, case).await?;
                line.sample(host, case, time / WARM_UP).await?;
                line.sample(host, case, time).await
            };
            samples.push(host::within(host, limit, turn).await.ok_or(Failed::Stuck)??);
        }
        tell();
    }
    Ok(samples)
}

/// Measures what idle connections hold. `tell` is called after each subject.
pub(crate) async fn hold<H: Host>(host: H, case: Case, connections: u64, tell: impl Fn()) -> Result<Held, Failed> {
    let limit = PATIENCE + Duration::from_millis(20) * u32::try_from(connections).unwrap_or(u32::MAX);
    let mut held = Held::default();
    for (subject, held) in [(Subject::Raw, &mut held.raw), (Subject::Reattach, &mut held.reattach)] {
        let holding = hold_by(host, subject, case, connections);
        *held = host::within(host, limit, holding).await.ok_or(Failed::Stuck)??;
        tell();
    }
    Ok(held)
}

async fn hold_by<H: Host>(host: H, subject: Subject, case: Case, connections: u64) -> Result<Option<f64>, Failed> {
    let mut process = Process::start(H::NAME, subject, case).await?;
    let before = process.ask(Order::Memory).await?;
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Carrier::open(host, subject, &process, case).await?);
    }
    while process.ask(Order::Connections).await? != Some(connections) {
        host::pause(host, Duration::from_millis(5)).await;
    }
    // The first ping of each, and its answer.
    host::pause(host, Duration::from_millis(200)).await;
    let after = process.ask(Order::Memory).await?;
    // The server goes first: nobody says goodbye five thousand times.
    drop(process);
    drop(open);
    Ok(before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 / connections as f64))
}

/// Longer than connecting takes, or a thousand messages.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection, and the process at its other end.
struct Line<H: Host> {
    process: Process,
    carrier: Carrier<H>,
}

enum Carrier<H: Host> {
    Raw(Box<raw::Line<H>>),
    Reattach(layered::Line),
}

impl<H: Host> Carrier<H> {
    async fn open(host: H, subject: Subject, process: &Process, case: Case) -> Result<Self, Failed> {
        Ok(match subject {
            Subject::Raw => Self::Raw(Box::new(raw::Line::open(host, process.address, case).await?)),
            Subject::Reattach => Self::Reattach(layered::Line::open(host, process.address, case).await?),
        })
    }
}

impl<H: Host> Line<H> {
    async fn open(host: H, subject: Subject, case: Case) -> Result<Self, Failed> {
        let process = Process::start(H::NAME, subject, case).await?;
        let carrier = Carrier::open(host, subject, &process, case).await?;
        Ok(Self { process, carrier })
    }

    async fn sample(&mut self, host: H, case: Case, time: Duration) -> Result<Sample, Failed> {
        match case.kind {
            Kind::RoundTrip | Kind::Pipelined | Kind::Settled => self.stream(case.kind, time).await,
            Kind::Resume => self.resume(host, case, time).await,
            Kind::Idle => unreachable!("what is idle sends nothing"),
        }
    }

    async fn stream(&mut self, kind: Kind, time: Duration) -> Result<Sample, Failed> {
        let before = self.cpu().await?;
        let start = Instant::now();
        let messages = match &mut self.carrier {
            Carrier::Raw(line) => line.run(kind, start + time).await?,
            Carrier::Reattach(line) => line.run(kind, start + time).await?,
        };
        let wall = start.elapsed();
        Ok(Sample { messages, cpu: took(before, self.cpu().await?), wall })
    }

    /// Comes back again and again until the time is over. The time counts from the dial to the last message; the CPU until the
    /// server has the outcome of each, for that work is owed too.
    async fn resume(&mut self, host: H, case: Case, time: Duration) -> Result<Sample, Failed> {
        let mut sum = Sample { messages: 0, cpu: Some(Duration::ZERO), wall: Duration::ZERO };
        while sum.messages == 0 || sum.wall < time {
            if let Carrier::Reattach(line) = &self.carrier {
                line.leave()?;
                self.process.ask(Order::Miss).await?;
            }
            // Both ends are done with the transport before.
            host::pause(host, Duration::from_millis(2)).await;
            let before = self.cpu().await?;
            let start = Instant::now();
            let mut another = None;
            match &self.carrier {
                Carrier::Raw(_) => {
                    let line = another.insert(raw::Line::open(host, self.process.address, case).await?);
                    line.catch_up().await?;
                }
                Carrier::Reattach(line) => {
                    line.come_back()?;
                    line.catch_up().await?;
                }
            }
            sum.wall += start.elapsed();
            self.process.ask(Order::Outcomes).await?;
            let cpu = took(before, self.cpu().await?);
            sum.cpu = sum.cpu.zip(cpu).map(|(sum, cpu)| sum + cpu);
            sum.messages += MISSED;
            drop(another);
        }
        Ok(sum)
    }

    /// The CPU time that both processes have taken.
    async fn cpu(&mut self) -> Result<Option<Duration>, Failed> {
        let theirs = self.process.ask(Order::Cpu).await?;
        Ok(theirs.zip(gauge::cpu_time()).map(|(theirs, own)| Duration::from_nanos(theirs) + own))
    }
}

fn took(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    before.zip(after).map(|(before, after)| after.saturating_sub(before))
}
