//! Random operations, and the oracle that hears all that comes of them.
//!
//! A failing run prints the smallest operations that fail and is kept in `tests/proptest-regressions`, from where every later
//! run replays it first. `PROPTEST_CASES` sets how many runs are made.

use std::cell::Cell;
use std::panic;
use std::panic::UnwindSafe;
use std::sync::Once;

use harness::net::Way;
use harness::oracle::Broken;
use harness::oracle::Checked;
use harness::run::Op;
use harness::run::Post;
use harness::run::Run;
use harness::run::Verdict;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::strategy::Just;
use proptest::strategy::Union;
use proptest::test_runner::Config;
use proptest::test_runner::FileFailurePersistence;
use proptest::test_runner::TestCaseError;
use proptest::test_runner::TestRunner;

// S1 to S4, B1, L1, J1; S002-08, S002-48, S004-080
#[test]
fn no_run_of_faults_breaks_the_promise() {
    run("model", Run::new, &everyday());
}

#[test]
fn no_run_with_lost_state_breaks_the_promise() {
    run("lost-state", Run::new, &prop_oneof![8 => everyday(), 1 => Just(Op::LoseServer), 1 => Just(Op::Expire)]);
}

#[test]
fn no_run_with_an_old_copy_of_the_server_breaks_the_promise() {
    let copies = prop_oneof![Just(Op::CopyServer), Just(Op::RestoreServer)];
    run("old-copies", Run::new, &prop_oneof![8 => everyday(), 1 => copies, 1 => Just(Op::Expire)]);
}

#[test]
fn no_run_that_ends_on_purpose_breaks_the_promise() {
    let ends = prop_oneof![(0_u64..40).prop_map(Op::Close), Just(Op::Disconnect), Just(Op::ServerDisconnect)];
    run("ends", Run::new, &prop_oneof![20 => everyday(), 1 => ends, 1 => Just(Op::Expire)]);
}

// S1 to S4, J1, L1; N02, N11
#[test]
fn no_run_of_applications_that_decide_breaks_the_promise() {
    run("manual", Run::manual, &deciding());
}

// S2, S3
#[test]
fn no_run_of_applications_that_decide_breaks_the_promise_when_state_is_lost() {
    let lost = prop_oneof![Just(Op::LoseServer), Just(Op::Expire), (0_u64..60).prop_map(Op::Drain)];
    run("manual-lost-state", Run::manual, &prop_oneof![10 => deciding(), 1 => lost]);
}

// N15
#[test]
fn no_run_of_applications_that_decide_breaks_the_promise_with_an_old_copy_of_the_server() {
    let copies = prop_oneof![Just(Op::CopyServer), Just(Op::RestoreServer)];
    run("manual-old-copies", Run::manual, &prop_oneof![10 => deciding(), 1 => copies]);
}

#[test]
fn no_run_of_applications_that_decide_and_end_on_purpose_breaks_the_promise() {
    let ends = prop_oneof![
        (0_u64..40).prop_map(Op::Close),
        Just(Op::Disconnect),
        Just(Op::ServerDisconnect),
        (0_u64..60).prop_map(Op::Drain),
    ];
    run("manual-ends", Run::manual, &prop_oneof![20 => deciding(), 1 => ends]);
}

#[test]
fn no_run_of_a_client_that_gives_up_and_is_told_to_go_on_breaks_the_promise() {
    let op = prop_oneof![
        Just(Op::SendUp(1)),
        Just(Op::SendDown(1)),
        Just(Op::TakeUp(9)),
        Just(Op::TakeDown(9)),
        prop_oneof![Just(Way::Up), Just(Way::Down)].prop_map(Op::Stall),
        Just(Op::Unstall),
        prop_oneof![Just(10), Just(20), Just(30), Just(40), Just(2_000)].prop_map(Op::Advance),
        Just(Op::Detach(1002)),
        Just(Op::Reconnect),
    ];
    run("giving-up", Run::new, &op);
}

// R-V4: the oracle would pass a machine that refuses everything.
#[test]
fn a_run_without_faults_accepts_and_delivers_everything() {
    let ops: Vec<_> = (0..200)
        .flat_map(|_| [Op::SendUp(3), Op::SendDown(3), Op::Advance(50), Op::TakeUp(9), Op::TakeDown(9)])
        .collect();
    assert_eq!(Run::new().play(&ops), Ok(()));
}

/// What happens to programs on phones.
fn everyday() -> Union<proptest::strategy::BoxedStrategy<Op>> {
    let filling = || prop_oneof![9 => 0_usize..60, 1 => Just(400_usize)];
    let time = prop_oneof![0_u64..60, 0_u64..2_000, 0_u64..40_000, 0_u64..100_000];
    let way = || prop_oneof![Just(Way::Up), Just(Way::Down)];
    // Codes after which a client tries again by itself, and one after which it stops.
    let codes = prop_oneof![Just(1000), Just(1001), Just(1011), Just(1012), Just(4400), Just(4401), Just(1002)];
    Union::new_weighted(vec![
        (10, filling().prop_map(Op::SendUp).boxed()),
        (10, filling().prop_map(Op::SendDown).boxed()),
        (1, any::<u8>().prop_map(|key| Op::EphemeralUp(key % 3)).boxed()),
        (1, any::<u8>().prop_map(|key| Op::EphemeralDown(key % 3)).boxed()),
        (4, (1_u8..5).prop_map(Op::TakeUp).boxed()),
        (4, (1_u8..5).prop_map(Op::TakeDown).boxed()),
        (1, any::<bool>().prop_map(Op::ReadUp).boxed()),
        (1, any::<bool>().prop_map(Op::ReadDown).boxed()),
        (4, (0_usize..6, prop_oneof![Just(0_u64), 0_u64..5_000]).prop_map(|(keep, late)| Op::Cut(keep, late)).boxed()),
        (2, way().prop_map(Op::Stall).boxed()),
        (2, Just(Op::Unstall).boxed()),
        (1, any::<bool>().prop_map(Op::Road).boxed()),
        (12, time.prop_map(Op::Advance).boxed()),
        (2, Just(Op::Reconnect).boxed()),
        (1, codes.prop_map(Op::Detach).boxed()),
    ])
}

/// The same, and what applications do that decide about messages, withdraw them and give them deadlines, on three lanes.
fn deciding() -> Union<proptest::strategy::BoxedStrategy<Op>> {
    let post = || {
        let within = prop_oneof![4 => Just(None), 1 => (0_u64..60_000).prop_map(Some)];
        let hands = prop_oneof![4 => Just(None), 1 => (1_u32..4).prop_map(Some)];
        (0_u8..3, within, any::<u8>(), hands).prop_map(|(lane, within, flags, hands)| Post {
            lane,
            within,
            is_idempotent: flags % 3 == 0,
            is_fail_fast: flags % 7 == 0,
            hands,
        })
    };
    let way = || prop_oneof![Just(Way::Up), Just(Way::Down)];
    let verdict = prop_oneof![
        4 => Just(Verdict::Accepted),
        2 => Just(Verdict::Rejected),
        3 => Just(Verdict::Deferred),
        1 => Just(Verdict::Abandoned),
    ];
    Union::new_weighted(vec![
        (50, everyday().boxed()),
        (10, (0_usize..60, post()).prop_map(|(filling, post)| Op::PostUp(filling, post)).boxed()),
        (10, (0_usize..60, post()).prop_map(|(filling, post)| Op::PostDown(filling, post)).boxed()),
        (4, (way(), 0_usize..6).prop_map(|(way, back)| Op::Cancel(way, back)).boxed()),
        (16, (way(), 0_usize..4, verdict).prop_map(|(way, back, verdict)| Op::Decide(way, back, verdict)).boxed()),
        (2, (way(), 0_usize..4, 0_u64..200_000).prop_map(|(way, back, by)| Op::Extend(way, back, by)).boxed()),
        (3, (way(), 0_usize..3).prop_map(|(way, behind)| Op::Drop(way, behind)).boxed()),
        (1, Just(Op::Suspend).boxed()),
        (1, Just(Op::RestartServer).boxed()),
        (1, Just(Op::RestartClient).boxed()),
    ])
}

/// Makes runs, and says how to replay one that fails.
fn run(name: &str, begin: fn() -> Run, op: &(impl Strategy<Value = Op> + Clone)) {
    let path = format!("proptest-regressions/{name}.txt");
    let config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(Box::leak(path.clone().into_boxed_str())))),
        source_file: Some(file!()),
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let ops = proptest::collection::vec(op.clone(), 1..60);
    let result = TestRunner::new(config).run(&ops, |ops| {
        let played = quietly(|| begin().play(&ops));
        played.map_err(|broken| TestCaseError::fail(broken.to_string()))
    });
    if let Err(error) = result {
        panic!(
            "{error}\n\nThe run is kept in tests/{path}; replay it with `cargo test -p reattach-tests --test model`, \
             or copy the operations into a test: `assert_eq!(Run::new().play(&[...]), Ok(()))` (or `Run::manual()`)."
        );
    }
}

/// Turns a panic into a failure without a word, for a run that fails is played again and again until it is small.
fn quietly(play: impl FnOnce() -> Checked + UnwindSafe) -> Checked {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = panic::catch_unwind(play);
    IS_QUIET.set(false);
    result.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(Broken::new("panic", words.unwrap_or_default()))
    })
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}
