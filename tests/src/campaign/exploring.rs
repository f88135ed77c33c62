//! Runs of one seed after another, on all threads, until something is found or the time is up.

use std::fmt::Write as _;
use std::io;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::Coverage as _;
use super::Schedule;
use super::options::Options;
use super::print;
use super::replaying::print_story;
use super::shrink;
use crate::oracle::Broken;

/// What all threads together have done, and how far they are to go.
struct Campaign<C> {
    first: u64,
    limit: u64,
    began: Instant,
    end: Option<Instant>,
    next: AtomicU64,
    done: AtomicU64,
    twice: AtomicU64,
    is_over: AtomicBool,
    coverage: Mutex<C>,
    found: Mutex<Option<Found>>,
}

/// A schedule that contradicts the design.
struct Found {
    seed: u64,
    nth: u64,
    broken: Broken,
}

pub(super) fn explore<S: Schedule>(options: &Options) -> ExitCode {
    let began = Instant::now();
    let minutes = options.minutes.or_else(|| options.schedules.is_none().then_some(1.0));
    let campaign = Campaign::<S::Coverage> {
        first: options.seed,
        limit: options.schedules.unwrap_or(u64::MAX),
        began,
        end: minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0)),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        twice: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        coverage: Mutex::default(),
        found: Mutex::new(None),
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(|| campaign.work::<S>())).collect();
        campaign.show(|| threads.iter().all(thread::ScopedJoinHandle::is_finished));
    });
    if let Some(Found { seed, nth, broken }) = lock(&campaign.found).take() {
        print(&format!("violation: seed {seed} after {nth} schedules: {broken}\n"));
        let smallest = shrink(&S::of(seed));
        let report = smallest.run(&mut S::Coverage::default(), true);
        print_story(&smallest, &report);
        return ExitCode::FAILURE;
    }
    let coverage = lock(&campaign.coverage);
    let mut text = String::new();
    _ = writeln!(text, "schedules        {}  ({:.0} a second)", campaign.done(), campaign.rate());
    _ = writeln!(text, "ran twice        {}, each with the same trace", campaign.twice.load(Ordering::Relaxed));
    _ = writeln!(text, "violations       0");
    text.push_str(&coverage.summary());
    for what in coverage.missing() {
        _ = writeln!(text, "not reached      {what}");
    }
    print(&text);
    ExitCode::SUCCESS
}

impl<C> Campaign<C> {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Schedules a second.
    fn rate(&self) -> f64 {
        self.done() as f64 / self.began.elapsed().as_secs_f64()
    }

    /// One thread's share.
    fn work<S: Schedule<Coverage = C>>(&self)
    where
        C: super::Coverage,
    {
        let mut coverage = C::default();
        while !self.is_over.load(Ordering::Relaxed) && self.end.is_none_or(|end| Instant::now() < end) {
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.limit {
                break;
            }
            let seed = self.first.wrapping_add(nth);
            let schedule = S::of(seed);
            let mut report = schedule.run(&mut coverage, false);
            if nth.is_multiple_of(S::TWICE) && report.broken.is_none() {
                self.twice.fetch_add(1, Ordering::Relaxed);
                if schedule.run(&mut C::default(), false).hash != report.hash {
                    report.broken = Some(Broken::new("D1", "the same seed gives another trace"));
                }
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            if let Some(broken) = report.broken {
                self.is_over.store(true, Ordering::Relaxed);
                let mut found = lock(&self.found);
                if found.as_ref().is_none_or(|found| found.seed > seed) {
                    *found = Some(Found { seed, nth: nth + 1, broken });
                }
                break;
            }
        }
        lock(&self.coverage).merge(&coverage);
    }

    /// Shows how far it has come, until it is over: a line that is written over on a terminal, a line now and then elsewhere.
    fn show(&self, is_over: impl Fn() -> bool) {
        let is_terminal = io::stderr().is_terminal();
        let mut shown = Instant::now();
        let pause = Duration::from_secs(if is_terminal { 1 } else { 30 });
        while !is_over() {
            thread::sleep(Duration::from_millis(20));
            if shown.elapsed() < pause {
                continue;
            }
            shown = Instant::now();
            let (done, seconds, rate) = (self.done(), self.began.elapsed().as_secs_f64(), self.rate());
            let line = format!("{done} schedules in {seconds:.0} s, {rate:.0} a second, nothing found");
            if is_terminal { eprint!("\r{line}") } else { eprintln!("{line}") }
        }
        if is_terminal {
            eprintln!();
        }
    }
}

/// No thread panics while it holds one: runs catch their panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
