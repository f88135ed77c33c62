//! `reattach demo`: what the layer is for, shown over real sockets that are broken on purpose.
//!
//! Everything is counted by the demonstration itself, at the receivers, and compared with what the senders were told.

mod book;
mod decide;
mod forget;
mod judge;
mod layered;
mod ledger;
mod plain;
mod plan;
mod report;
mod script;
mod stage;

use std::io;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use reattach_tokio::ConnectError;

use self::decide::Scene;
use self::forget::Forgetting;
use self::report::Forgotten;
use self::report::Performer;
use self::report::Phase1;
use self::report::Phase2;
use self::report::Phase3;
use self::report::Report;
use self::report::percentile;
use self::stage::Stage;
use crate::runtime::RuntimeName;
use crate::show::Show;

/// What the demonstration can be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What goes wrong, and when, follows from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Messages each way in the first phase
    #[arg(long, default_value_t = 20_000)]
    pub messages: u64,
    /// Cuts in the first phase
    #[arg(long, default_value_t = 56)]
    pub cuts: u32,
    /// What runs the sockets of the performer with the layer
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeName,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Why a demonstration did not come to its end.
#[derive(Debug)]
pub enum Failed {
    /// The system did not play along.
    Io(io::Error),
    /// The first connection could not be made.
    Connect(ConnectError),
    /// A task ended before its time.
    Task,
    /// It took longer than it ever should.
    Stuck,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the system did not play along: {error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Task => f.write_str("a task of the demonstration ended before its time"),
            Self::Stuck => f.write_str("the demonstration is stuck: a message has no outcome"),
        }
    }
}

impl std::error::Error for Failed {}

/// Longer than any phase takes. What is not done by then hangs.
fn patience(options: &Options) -> Duration {
    Duration::from_secs(60) + Duration::from_secs(1) * options.cuts + Duration::from_micros(300 * options.messages)
}

/// Runs the demonstration. Returns the text to print, and whether every promise was kept.
///
/// # Errors
///
/// [`Failed`] where it did not come to its end.
pub async fn run(options: &Options) -> Result<(String, bool), Failed> {
    let start = Instant::now();
    let show = Show::new();
    show.say(&format!(
        "{} messages each way, {} cuts, seed {}, {} ms each way through the proxy. Timers shorter than the defaults:",
        options.messages,
        options.cuts,
        options.seed,
        stage::DELAY.as_millis()
    ));
    for timer in layered::shortened() {
        show.say(&format!("  {}: {:?} (default {:?})", timer.what, timer.here, timer.default));
    }
    show.say(&format!("  detach ttl, in phase 2: {:?} (default 60s)", forget::TTL));
    for timer in decide::shortened() {
        show.say(&format!("  {}, in phase 3: {:?} (default {:?})", timer.what, timer.here, timer.default));
    }
    let limit = patience(options);
    let phase1 = phase1(options, &show, limit).await?;
    let phase2 = tokio::time::timeout(limit, phase2(options.runtime, &show)).await.map_err(|_| Failed::Stuck)??;
    let phase3 = phase3(options, &show, limit).await?;
    let seconds = start.elapsed().as_secs_f64();
    let (seed, messages_each_way) = (options.seed, options.messages);
    let mut report = Report { seed, messages_each_way, seconds, phase1, phase2, phase3, broken: Vec::new() };
    report.judge();
    let text =
        if options.json { serde_json::to_string(&report).expect("a report is JSON") + "\n" } else { report.text() };
    Ok((text, report.broken.is_empty()))
}

/// Both performers at once, each before its own stage, with the same plan.
async fn phase1(options: &Options, show: &Show, limit: Duration) -> Result<Phase1, Failed> {
    let plan = plan::plan(options.seed, options.cuts);
    let (ours, server) = layered::set_up(options.runtime, options.messages, options.cuts).await?;
    let (plain, listener) = plain::set_up(options.messages, options.cuts).await?;
    let watching = show.watch("phase 1", {
        let (ours, cuts) = (std::sync::Arc::clone(&ours), options.cuts);
        move || {
            let (arrived, all) = ours.progress();
            (arrived, all, format!("{} of {cuts} cuts", ours.cuts_done()))
        }
    });
    let performances = tokio::time::timeout(limit, async {
        tokio::try_join!(
            layered::perform(options.runtime, std::sync::Arc::clone(&ours), server, plan.clone()),
            plain::perform(std::sync::Arc::clone(&plain), listener, options.seed, plan),
        )
    });
    let performances = performances.await;
    watching.end();
    if let Ok(done) = performances {
        done?;
    } else {
        // What hangs is in the table: it was sent, and has no outcome.
        show.say("phase 1 is stuck; what has no outcome by now is counted so");
    }
    Ok(Phase1 { reattach: performer(&ours, true), plain: performer(&plain, false) })
}

fn performer(stage: &Stage, has_claims: bool) -> Performer {
    let (recoveries, cuts_by_kind) = stage.recoveries();
    Performer {
        up: stage.up.figures(has_claims),
        down: stage.down.figures(has_claims),
        cuts: stage.cuts_done(),
        cuts_by_kind,
        recovery_p50_ms: percentile(&recoveries, 50),
        recovery_p99_ms: percentile(&recoveries, 99),
    }
}

async fn phase2(runtime: RuntimeName, show: &Show) -> Result<Phase2, Failed> {
    let kept = forget::perform(runtime, Forgetting::Expiry, |time| {
        show.say(&format!("phase 2: forgotten with a receipt, {time} of {}", forget::TIMES));
    });
    let kept = Forgotten::new(Forgetting::Expiry, forget::TIMES, kept.await?.figures());
    let lost = forget::perform(runtime, Forgetting::Crash, |time| {
        show.say(&format!("phase 2: forgotten without a receipt, {time} of {}", forget::TIMES));
    });
    let lost = Forgotten::new(Forgetting::Crash, forget::TIMES, lost.await?.figures());
    Ok(Phase2 { receipts_kept: kept, receipts_lost: lost })
}

async fn phase3(options: &Options, show: &Show, limit: Duration) -> Result<Phase3, Failed> {
    let scene = Scene::new(options.seed);
    let watching = show.watch("phase 3", {
        let scene = std::sync::Arc::clone(&scene);
        move || {
            let claimed = scene.book.claimed();
            (claimed, decide::MESSAGES, format!("{} of {} cuts", scene.cuts(), decide::CUTS))
        }
    });
    let plan = plan::plan(options.seed, decide::CUTS);
    let performance =
        tokio::time::timeout(limit, decide::perform(options.runtime, std::sync::Arc::clone(&scene), plan)).await;
    watching.end();
    if let Ok(done) = performance {
        done?;
    } else {
        show.say("phase 3 is stuck; what has no outcome by now is counted so");
    }
    let judgement = judge::judge(&scene.book.lines());
    Ok(Phase3::new(scene.cuts(), scene.cuts_by_kind(), judgement))
}
