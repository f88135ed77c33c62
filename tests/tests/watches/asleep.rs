//! A computer that was asleep: its clock has gone on, and the timers of its runtime have not.

use std::time::Duration;

use reattach_smol::PeerState;
use reattach_smol::core::hub::Config;
use reattach_smol::core::permission::DenyReason;
use reattach_smol::core::permission::Verdict;
use reattach_smol::testing::Simulation;

use crate::fixture::ada;
use crate::fixture::id;
use crate::fixture::pair;
use crate::fixture::question;
use crate::fixture::secs;
use crate::fixture::server;
use crate::fixture::server_with;

/// The longest that what is due may wait for a timer which was set before the sleep.
const LATE: Duration = Duration::from_secs(31);

const TIMED_OUT: Verdict = Verdict::Deny(DenyReason::TimedOut);

// Found by simulate_hub: the hub waited for a timer that it had set before the sleep. L1, L9, S7
#[test]
fn a_question_that_is_asked_after_a_sleep_times_out_in_its_time() {
    Simulation::new(1).run(async |net| {
        let (_server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        // What became of it is remembered for ten minutes, and a timer is set for their end.
        let asked = session.ask_within(question("before"), Some(secs(5))).unwrap();
        assert_eq!(asked.await, TIMED_OUT);
        net.leap(secs(3_600));
        let began = net.elapsed();

        let asked = session.ask_within(question("after"), Some(secs(60))).unwrap();

        assert_eq!(asked.await, TIMED_OUT);
        assert_eq!(net.elapsed() - began, secs(60));
    });
}

// L1, L9, S7
#[test]
fn a_question_whose_time_went_by_in_a_sleep_is_denied_soon_after() {
    Simulation::new(1).run(async |net| {
        let (_server, hub) = server(&net).await;
        let session = hub.create(id("s"), ada()).unwrap();
        let asked = session.ask_within(question("before"), Some(secs(3_000))).unwrap();
        net.sleep(secs(1)).await;
        net.leap(secs(3_600));
        let began = net.elapsed();

        assert_eq!(asked.await, TIMED_OUT);

        assert!(net.elapsed() - began < LATE, "{:?}", net.elapsed() - began);
    });
}

// L9, B2
#[test]
fn a_connection_whose_grace_went_by_in_a_sleep_is_gone_soon_after() {
    Simulation::new(1).run(async |net| {
        let (server, hub) = server_with(&net, Config::default()).await;
        let (client, connection) = pair(&net, &server, &hub).await;
        let session = hub.create(id("s"), ada()).unwrap();
        net.sleep(secs(1)).await;
        session.own(connection.id()).unwrap();
        client.suspend().unwrap();
        net.sleep(secs(1)).await;
        net.leap(secs(24 * 3_600));

        net.sleep(LATE).await;

        assert!(matches!(connection.state(), PeerState::Closed(_)), "{:?}", connection.state());
        assert_eq!((server.connections(), session.owner()), (0, None));
    });
}
