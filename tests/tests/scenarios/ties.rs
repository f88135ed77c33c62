//! Things that happen in one tick, in every order.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::ensemble::session;
use harness::frames::token;
use harness::net::Way;
use harness::orders::orders;
use harness::world::Road;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::hub::Call;
use reattach_core::id::ConnectionId;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::RegistryEvent;
use reattach_core::session::Event;
use reattach_core::session::Ownership;

/// What happens at 60,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The time of C1's connection is over.
    Expires,
    /// C2 takes s2.
    TakenOver,
    /// C1's hello arrives.
    Returns,
}

use Step::Expires;
use Step::Returns;
use Step::TakenOver;

// N08, S004-039, S004-042, S004-043, with the registry: the sessions alone stand in `sessions`.
#[test]
fn n08_the_end_of_a_connection_its_return_and_a_take_over_in_one_tick_agree_in_every_order() {
    for order in orders(&[Expires, TakenOver, Returns]) {
        play(|| {
            let mut it = away_since_zero();
            let (c1, c2) = (it.world.cid(), it.world.clients[1].client.connection_id());
            it.run_to(59_959);
            it.world.road = Road::Open;
            it.reconnect(0);
            it.run_to(59_985);
            // Its hello is to arrive at 59,989 and is held up until its turn comes.
            let wire = it.world.wire(0);
            it.world.net.stall(wire, Way::Up);
            it.run_to(59_998);
            it.house.hub.sessions_mut().own(c2, &session("s1")).expect("it may");
            it.run_to(59_999);
            assert_eq!(expired(&it), 0);
            it.world.now = it.world.now + Duration::from_millis(1);
            let now = it.world.now;
            for step in &order {
                match step {
                    Expires => it.world.server.handle_timeout(now),
                    TakenOver => _ = it.house.hub.sessions_mut().own(c2, &session("s2")).expect("it may"),
                    Returns => it.world.net.unstall_all(),
                }
                it.settle();
            }
            it.run_to(60_100);
            let is_over =
                order.iter().position(|step| *step == Expires) < order.iter().position(|step| *step == Returns);
            assert_eq!(it.world.attaches(0), [false, !is_over], "{order:?}");
            assert_eq!(expired(&it), usize::from(is_over), "{order:?}");
            let owners = ["s1", "s2", "s3", "s4"].map(|name| owner(&it, name));
            assert_eq!(owners, [Some(c2), Some(c2), None, None], "{order:?}");
            let is_suspended =
                |name| it.house.hub.sessions().ownership(&session(name)).is_some_and(Ownership::is_suspended);
            assert!(is_suspended("s4") && !is_suspended("s3"), "{order:?}");
            let gone = it
                .house
                .events
                .iter()
                .filter(|(_, event)| matches!(event, Event::Gone { connection, .. } if *connection == c1));
            assert_eq!(gone.count(), usize::from(is_over), "{order:?}");
            assert!(it.house.hub.sessions().is_reachable(c1), "{order:?}: it is there, resumed or anew");
            it.run_to(150_000);
            assert_eq!(expired(&it), usize::from(is_over), "{order:?}: once at most");
            assert_eq!(owner(&it, "s2"), Some(c2), "{order:?}");
            it
        });
    }
}

/// C1 and C2 are of one principal. C1 owns s1 and s2, has watched s3, s4 is suspended; it is away since the script's time 0.
fn away_since_zero() -> Ensemble {
    let mut server = server::Config::default();
    server.authenticate = true;
    let mut it = Ensemble::with_server(server);
    it.world.accounts.insert("a".into(), "alice".into());
    for (number, config) in [(1, patient()), (2, steady())] {
        let index = it.add_client(config, secrets(number));
        it.world.clients[index].token = Some(token("a"));
    }
    it.run_for(Duration::from_millis(100));
    let c1 = it.world.cid();
    for name in ["s1", "s2", "s3", "s4"] {
        it.create_session(name, 0);
    }
    for name in ["s1", "s2", "s4"] {
        it.own(0, &session(name));
    }
    it.watch(0, &session("s3"));
    it.run_for(Duration::from_millis(100));
    assert!(it.house.hub.sessions().is_involved(c1, &session("s3")));
    it.unwatch(0, &session("s3"));
    let s4 = session("s4");
    let generation = it.house.hub.sessions().ownership(&s4).expect("there is the session").generation();
    let suspend = it.request_hub(0, &Call::Suspend { session: s4, generation });
    it.run_for(Duration::from_millis(100));
    assert!(it.users[0].result(suspend).is_some_and(Result::is_ok));
    assert!(!it.house.hub.sessions().is_involved(c1, &session("s3")), "it watches s3 no more");
    it.world.road = Road::Failing(OpenError::Unreachable);
    it.world.cut(0);
    it.settle();
    it.begin();
    it
}

fn owner(it: &Ensemble, name: &str) -> Option<ConnectionId> {
    it.house.hub.sessions().ownership(&session(name)).and_then(Ownership::owner)
}

/// How often a connection has expired.
fn expired(it: &Ensemble) -> usize {
    it.world.registry_events.iter().filter(|event| matches!(event, RegistryEvent::Expired { .. })).count()
}
