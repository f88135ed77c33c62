//! What a connection owes its two sides when its transport breaks: nothing lost, nothing twice, nothing out of order.

use std::time::Duration;

use harness::world::World;
use reattach_core::client::Event;
use reattach_core::client::Status;
use reattach_core::outcome::Outcome;

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
        world.run_for(Duration::from_secs(60));
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
