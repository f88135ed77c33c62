//! Attempts that run out, a user who tries again, links that flap, and clocks that jump. The fallback is left out: it is not
//! there yet, and what waits ends as not delivered where the script would hand it to the fallback.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::net::Way;
use harness::world::Road;
use harness::world::in_lane;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Advice;
use reattach_core::client::Event;
use reattach_core::client::Light;
use reattach_core::client::Status;
use reattach_core::error::ApiMisuse;
use reattach_core::id::TransportId;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::GiveUp;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::wire::Frame;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

// N19, steps 1 to 4, S003-29, S003-17, S003-34
#[test]
fn n19_five_retries_are_counted_a_late_open_is_ignored_and_a_retry_by_hand_writes_only_what_is_sent_then() {
    play(|| {
        let mut it = Ensemble::with_server(server::Config::default());
        it.world.road = Road::Silent;
        it.add_client(steady(), secrets(1));
        it.begin();
        let [a, b] = ["A", "B"].map(|text| it.send_up(0, "s1", text));
        // A first try and five retries, of 10 s each, after 1, 2, 4, 8 and 16 s. They are told as retry n of 5.
        for (retry, from, until) in [(1, 10, 11), (2, 21, 23), (3, 33, 37), (4, 47, 55), (5, 65, 81)] {
            it.run_to(from * 1_000);
            assert_eq!(it.world.client().client.view().retry, Some((retry, Some(5))));
            it.run_to(until * 1_000 - 1);
            assert_eq!(it.world.clients[0].opens.len(), retry as usize);
            it.run_to(until * 1_000);
            assert_eq!(it.world.clients[0].opens.len(), retry as usize + 1);
            if retry == 3 {
                // The transport before this one opens after all.
                let late = client::Input::Opened { transport: TransportId(3), token: None };
                let (now, before) = (it.world.now, it.world.client().client.clone());
                it.world.client().client.handle_input(late, now);
                assert_eq!(it.world.client().client, before, "it was closed at its timeout");
            }
        }
        assert_eq!(it.world.outcomes_up(0), []);
        it.run_to(91_000);
        let reason = GiveUp::Exhausted { attempts: 5, last: Ended::ConnectTimeout };
        assert_eq!(it.world.client().client.status(), Status::Failed(reason));
        let view = it.world.client().client.view();
        assert_eq!((view.light, view.advice, view.retry), (Light::Grey, Advice::Reconnect, None));
        let unreachable = Outcome::NotDelivered { reason: NotDelivered::Unreachable };
        assert_eq!(it.world.outcomes_up(0), [(a, unreachable.clone()), (b, unreachable)], "each once");
        assert_eq!(it.try_send_up(0, in_lane("s1", "C")), Err(ApiMisuse::Ended));
        it.run_to(600_000);
        assert_eq!(it.world.clients[0].opens.len(), 6);

        // A goes another way; the user hits Retry and sends B again.
        it.world.road = Road::Open;
        it.reconnect(0);
        let again = it.send_up(0, "s1", "B");
        it.run_for(SECOND);
        assert_eq!(it.world.taken_texts(), ["B"]);
        assert_eq!((it.world.writes(Way::Up, "A").len(), it.world.writes(Way::Up, "B").len()), (0, 1));
        assert_eq!(it.world.outcomes_up(0).last(), Some(&(again, Outcome::Delivered)));
        it
    });
}

// N19, step 5, S003-17
#[test]
fn n19_a_link_that_flaps_a_hundred_times_is_not_tried_faster_than_the_backoff_allows() {
    play(|| {
        let mut it = Ensemble::attached_with(server::Config::default(), patient());
        it.begin();
        let before = it.world.clients[0].opens.len();
        // A hundred times in one second it dies as soon as it lives.
        for flap in 1..=100 {
            it.run_to(flap * 10);
            if it.world.live_wire(0).is_some() && it.world.client().client.status() == Status::Attached {
                it.world.cut(0);
                it.settle();
            }
        }
        assert!(it.world.clients[0].opens.len() - before <= 1, "at most one try in the first second");
        // The same until it has lived a hundred times.
        for attach in it.world.attaches(0).len() + 1..=100 {
            it.until(|it| it.world.attaches(0).len() == attach);
            // Long enough that frames come after the welcome, too short to be stable.
            it.run_for(100 * MILLI);
            it.world.cut(0);
            it.settle();
        }
        let opens = &it.world.clients[0].opens;
        let gaps: Vec<_> = opens[before..].windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(gaps[..6], [2, 4, 8, 16, 30, 30]);
        assert!(gaps[6..].iter().all(|gap| *gap >= 30), "{gaps:?}");
        it
    });
}

// N19, step 6, S003-34, S003-55
#[test]
fn n19_a_jump_of_the_clock_asks_once_and_an_old_pong_tells_no_latency() {
    play(|| {
        let mut it = Ensemble::attached();
        it.begin();
        // A ping is out, and its answer comes to nobody who is awake.
        let pings = |it: &Ensemble| it.world.times(Way::Up, |frame| matches!(frame, Frame::Ping(_))).len();
        let before = pings(&it);
        it.until(|it| pings(it) > before);
        it.jump(600 * SECOND);
        it.run_for(SECOND);
        assert_eq!(pings(&it), before + 2, "one, and not one for each 20 s that were slept through");
        assert_eq!(it.world.client().client.stats().rtt, Some(20 * MILLI));
        assert_eq!((it.world.client().client.status(), it.world.attaches(0)), (Status::Attached, vec![false]));
        it
    });
}

// N19, step 6, S003-34
#[test]
fn n19_after_a_jump_of_the_clock_a_missing_pong_means_reconnect() {
    play(|| {
        let mut it = Ensemble::attached();
        it.begin();
        it.run_to(5_000);
        it.world.stall(0);
        it.jump(600 * SECOND);
        // The answer to the one ping is waited for 10 s.
        it.run_for(9 * SECOND);
        assert_eq!(it.world.client().client.status(), Status::Attached);
        it.run_for(3 * SECOND);
        assert!(it.world.clients[0].events.contains(&Event::Detached { ended: Ended::Stalled }));
        it.rest();
        assert_eq!(it.world.client().client.status(), Status::Attached);
        assert_eq!(it.world.attaches(0).len(), 2);
        it
    });
}

// N19, step 7, S003-52
#[test]
fn n19_after_a_disconnect_no_timer_is_left_whatever_it_was_doing() {
    for (what, road, millis) in [
        ("attached", Road::Open, 500),
        ("connecting", Road::Silent, 500),
        ("waiting for the next try", Road::Silent, 10_500),
        ("failing", Road::Failing(OpenError::Unreachable), 2_000),
        ("given up", Road::Failing(OpenError::Unreachable), 100_000),
    ] {
        play(|| {
            let mut it = Ensemble::with_server(server::Config::default());
            it.world.road = road;
            it.add_client(steady(), secrets(1));
            it.begin();
            it.send_up(0, "s1", "m");
            it.run_to(millis);
            let opens = it.world.clients[0].opens.len();
            it.disconnect(0);
            assert_eq!(it.world.client().client.poll_timeout(), None, "{what}");
            assert_eq!(it.world.outcomes_up(0).len(), 1, "{what}: what waited has its outcome");
            it.world.road = Road::Open;
            it.run_for(600 * SECOND);
            assert_eq!(it.world.clients[0].opens.len(), opens, "{what}");
            it
        });
    }
}
