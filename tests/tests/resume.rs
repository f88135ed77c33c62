//! What a connection owes its two sides when its transport breaks: nothing lost, nothing twice, nothing out of order.

use std::time::Duration;

use harness::net::Way;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::payload;
use harness::world::secrets;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::server::Config;
use reattach_core::server::PeerEvent;
use reattach_core::server::Server;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_message_is_delivered_and_its_sender_told() {
    let mut world = World::attached();
    let id = world.send_up("hello");
    world.drive();
    assert_eq!(world.taken_texts(), ["hello"]);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
}

// S000-19
#[test]
fn messages_in_flight_at_a_cut_arrive_once_and_in_order_after_it() {
    let mut world = World::attached();
    for round in 0..5 {
        for number in 0..10 {
            world.send_up(&format!("up {round} {number}"));
            world.send_down(&format!("down {round} {number}"));
        }
        world.pump();
        world.cut(0);
        assert!(matches!(world.client().client.status(), Status::Detached { .. }));
        world.run_for(60 * SECOND);
    }
    let expected = |way: &str| -> Vec<String> {
        (0..5)
            .flat_map(|round| (0..10).map(move |number| format!("{round} {number}")))
            .map(|n| format!("{way} {n}"))
            .collect()
    };
    assert_eq!(world.taken_texts(), expected("up"));
    assert_eq!(world.clients[0].taken, expected("down"));
    assert!(world.outcomes_up(0).iter().all(|(_, outcome)| outcome.is_delivered()));
    assert_eq!(world.outcomes_up(0).len(), 50);
    assert_eq!(world.outcomes_down().len(), 50);
    let fresh = world.clients[0].events.iter().filter(|event| matches!(event, Event::Attached { resumed: false }));
    assert_eq!(fresh.count(), 1, "only the first attach was fresh");
}

// S000-14
#[test]
fn what_is_sent_while_not_connected_waits_and_is_written_once_it_is() {
    let mut world = World::with_server(Config::default());
    world.road = Road::Silent;
    world.add_client(patient(), secrets(1));
    let id = world.send_up("early");
    world.run_for(3 * SECOND);
    assert_eq!((world.outcomes_up(0), world.clients[0].client.stats().queued), (vec![], 1));
    assert_eq!(world.writes(Way::Up, "early"), []);
    world.road = Road::Open;
    world.run_for(60 * SECOND);
    assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)]);
    assert_eq!(world.writes(Way::Up, "early").len(), 1);
}

// S000-25
#[test]
fn a_network_that_goes_silent_a_server_that_starts_anew_and_a_cut_all_end_in_the_same_way() {
    let triggers: [fn(&mut World); 3] = [
        |world| world.stall(0),
        |world| {
            world.pump();
            let server = Server::new(Config::default(), world.now);
            world.replace_server(server);
        },
        |world| {
            world.pump();
            world.cut(0);
        },
    ];
    for (number, trigger) in triggers.into_iter().enumerate() {
        let mut world = World::attached_with(Config::default(), patient());
        let now = world.now;
        let answer = Outgoing::from(payload("answer")).idempotent();
        let id = world.client().client.send(answer, now).expect("room");
        trigger(&mut world);
        world.run_for(SECOND / 2);
        assert_eq!(world.outcomes_up(0), [], "trigger {number}: it is neither lost nor taken for delivered");
        world.run_for(120 * SECOND);
        assert_eq!(world.outcomes_up(0), [(id, Outcome::Delivered)], "trigger {number}");
        assert_eq!(world.taken_texts(), ["answer"], "trigger {number}");
        assert_eq!(world.clients[0].client.status(), Status::Attached, "trigger {number}");
        let stats = world.clients[0].client.stats();
        assert_eq!((stats.queued, stats.written), (0, 0), "trigger {number}");
    }
}

// S002-23, S002-30
#[test]
fn a_client_that_cannot_be_written_to_holds_no_other_up_and_gets_everything_when_it_is_back() {
    let mut world = World::with_server(Config::default());
    for number in 1..=3 {
        world.add_client(patient(), secrets(number));
    }
    world.run_for(SECOND);
    world.road = Road::Silent;
    world.peer_events.clear();
    world.cut(1);
    let cids: Vec<_> = world.clients.iter().map(|side| side.client.connection_id()).collect();
    for cid in &cids {
        world.try_send_down(cid, "p1").expect("room");
    }
    world.run_for(SECOND);
    let taken = |world: &World| world.clients.iter().map(|side| side.taken.len()).collect::<Vec<_>>();
    assert_eq!(taken(&world), [1, 0, 1]);
    let is_attached = |event: &PeerEvent| matches!(event, PeerEvent::Attached { .. } | PeerEvent::Detached { .. });
    let moved: Vec<_> = world.peer_events.iter().filter(|(_, event)| is_attached(event)).map(|(cid, _)| *cid).collect();
    assert_eq!(moved, [cids[1]], "the others stay where they are");
    world.road = Road::Open;
    world.run_for(40 * SECOND);
    assert_eq!(taken(&world), [1, 1, 1]);
}

// S002-07, S002-65
#[test]
fn a_thousand_numbered_messages_arrive_in_order_through_many_reconnects() {
    let mut world = World::attached_with(Config::default(), patient());
    for round in 0..25 {
        for number in round * 40..(round + 1) * 40 {
            world.send_up(&number.to_string());
            world.send_down(&number.to_string());
        }
        world.pump();
        world.cut_keeping(0, round % 5);
        world.run_for(40 * SECOND);
    }
    let expected: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    assert_eq!(world.taken_texts(), expected);
    assert_eq!(world.clients[0].taken, expected);
    assert!(world.attaches(0).len() > 25);
}
